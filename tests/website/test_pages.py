"""The pages of docs/: each is in the navigation, and the lists in them are those of the code."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

import pytest

import signs_dist
from signs_dist import errors
from signs_dist.data.plan import EpochPlan, Shard
from signs_dist.distributed.gradient_tree import local_nodes
from tests.test_docs import unknown_files
from website.pages import (
    below_index,
    navigation,
    other_folders,
    rows_of,
    source_pages,
    toctrees,
    with_drawings,
    without_folder_links,
)

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation_once() -> None:
    shown = [name for names in navigation(read("README.md")).values() for name in names]
    for index in [name for name in shown if re.fullmatch(r"[\w-]+/README\.md", name)]:
        shown += [f"{Path(index).parent}/{name}" for name in rows_of(read(index))]
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert sorted(set(pages) - {"README.md"} - set(shown)) == [], "add a row to docs/README.md"
    assert len(shown) == len(set(shown))
    assert [name for name in shown if not (DOCS / name).is_file()] == []


def test_the_navigation_is_the_headings_and_rows_of_the_index() -> None:
    rows = "| [One](one.md) | 1 |\n| [Two](../two/README.md) | see [x](x.md) |\n"
    index = f"# All\n\n## Begin\n\n| page | what |\n|---|---|\n{rows}"
    assert navigation(index) == {"Begin": ["one.md", "../two/README.md"]}
    assert "\n:caption: Begin\n\ndocs/one\ntwo/README\n```" in toctrees(index)
    assert below_index(index).split() == ["```{toctree}", ":hidden:", "one.md", "../two/README.md", "```"]


def test_sphinx_looks_into_no_folder_without_pages(tmp_path: Path) -> None:
    for name in ("docs", "runs", ".venv", "examples/own"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "examples" / "own" / "README.md").touch()
    assert {"runs", ".venv"} <= set(other_folders(tmp_path))
    assert "docs" not in other_folders(tmp_path)
    assert "examples/own/README.md" in source_pages(tmp_path)


def test_a_drawing_is_put_into_the_page(tmp_path: Path) -> None:
    (tmp_path / "drawings").mkdir()
    (tmp_path / "drawings" / "a.svg").write_text("<svg>\n<title>t</title>\n</svg>\n")
    page = with_drawings("before\n\n![what](drawings/a.svg)\n\nafter", tmp_path)
    assert page == 'before\n\n<figure class="drawing-box">\n<svg>\n<title>t</title>\n</svg>\n</figure>\n\nafter'


def test_a_link_to_a_folder_becomes_its_name() -> None:
    text = "are [written](../benchmarks/peers) as [here](../CONTRIBUTING.md), [drawn](drawings/)"
    changed = "are written (`benchmarks/peers/`) as [here](../CONTRIBUTING.md), drawn (`docs/drawings/`)"
    assert without_folder_links(text, DOCS) == changed


class Drawing(html.parser.HTMLParser):
    """The texts of a drawing, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "text" and data.strip():
            self.texts.append(data)


@pytest.mark.parametrize("name", sorted(path.name for path in (DOCS / "drawings").glob("*.svg")))
def test_a_drawing_can_stand_in_a_page(name: str) -> None:
    text = read(f"drawings/{name}")
    assert "\n\n" not in text, "Markdown would end the drawing at a blank line"
    assert set(Drawing(text).tags) <= {"svg", "title", "style", "text", "rect", "circle", "path"}
    assert "prefers-color-scheme:dark" in text
    assert 'role="img" aria-label="' in text
    assert f"(drawings/{name})" in read("inside.md")


def test_the_drawing_of_the_plan_is_that_of_the_plan() -> None:
    texts = Drawing(read("drawings/plan.svg")).texts
    plan = EpochPlan(18, global_batch=8, seed=0, micro_batch=2)
    steps = plan.block(0, 0, 2, Shard()).reshape(-1).tolist()
    assert texts[1:17] == [str(number) for number in steps]
    assert sorted(map(int, texts[1:19])) == list(range(18))
    pairs = [f"{first}, {second}" for first, second in zip(steps[:8:2], steps[1:8:2], strict=True)]
    assert [text for text in texts if text in pairs] == pairs
    shares = {
        world_size: [", ".join(map(str, plan.micro_batches.of(Shard(rank, world_size)))) for rank in range(world_size)]
        for world_size in (1, 2, 3)
    }
    place = texts.index("1 process")
    assert texts[place:] == ["1 process", *shares[1], "2 processes", *shares[2], "3 processes", *shares[3]]


def test_the_drawing_of_the_tree_is_that_of_the_tree() -> None:
    assert local_nodes([0, 1, 2], 5) == [(1, 0), (0, 2)]  # "0+1" and "2" are sent by process 0
    assert local_nodes([3, 4], 5) == [(0, 3), (2, 1)]  # "3" and "4" by process 1
    assert set(Drawing(read("drawings/tree.svg")).texts) >= {"0+1", "2+3", "0…3", "0…4"}


@pytest.mark.parametrize("name", ["inside.md", "api.md"])
def test_a_page_names_files_that_exist(name: str) -> None:
    assert unknown_files(read(name)) == []


def test_the_reference_lists_the_public_names_and_their_files() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| \[`([\w/.]+)`\]", read("api.md"), re.MULTILINE))
    homes = {name: f"{module.replace('.', '/')}.py" for name, module in signs_dist._HOMES.items()}
    assert rows == homes
    assert list(rows) == signs_dist.__all__


def test_every_recipe_has_a_row() -> None:
    files = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "configs").rglob("*.yaml")}
    rows = re.findall(r"^\| `(configs/[\w/.-]+)` \|", read("recipes.md"), re.MULTILINE)
    assert sorted(rows) == sorted(files)


def test_every_exit_code_has_a_row() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", read("exit-codes.md"), re.MULTILINE)}
    assert sorted(codes - rows) == []
