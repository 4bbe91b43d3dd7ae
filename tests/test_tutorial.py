"""The tutorial: each page's Python runs, prints what the page shows, and raises the error that it names."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from signs_dist.distributed.exactness import arithmetic_kept
from tests.sets import write_colour_set
from tests.tutorial_pages import NOTEBOOKS, Cell, cells, is_printed, notebook, pages

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [pytest.param(page, id=page.stem) for page in pages()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of a reader: configs, and a small set in the layout of SIGNS."""
    folder = tmp_path_factory.mktemp("tutorial")
    write_colour_set(folder / "data" / "64x64_SIGNS", counts={"train": 12, "val": 2, "test": 2}, size=64, num_classes=6)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    return folder


@pytest.fixture
def torch_is_put_back() -> Iterator[None]:
    """What a reader's notebook may change for itself."""
    with arithmetic_kept(), torch.random.fork_rng(devices=()):
        yield


def run_cell(cell: Cell, names: dict[str, object]) -> str:
    """What a cell prints; of an error its kind and its message, as the last line."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(cell.source, f"cell at line {cell.line}", "exec"), names)  # noqa: S102 - a page of this repository
        except Exception as error:
            if not cell.raises:
                raise
            print(f"{type(error).__name__}: {error}")
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES)
def test_each_cell_prints_what_the_page_shows(
    page: Path, place: Path, torch_is_put_back: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    names: dict[str, object] = {"__name__": "__main__"}
    shown = 0
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            patch.delenv(name, raising=False)
        for cell in cells(page.read_text(encoding="utf-8")):
            if cell.is_code:
                printed = run_cell(cell, names)
                if cell.printed is not None:
                    shown += 1
                    assert is_printed(cell.printed, printed), f"{page.name}:{cell.line} prints:\n{printed}"
    assert shown >= 2


@pytest.mark.parametrize(
    ("expected", "printed", "fits"),
    [
        ("tensor([1.])", "tensor([1.])\n", True),
        ("tensor([1.])", "tensor([2.])\n", False),
        ("346.41…", "346.4101615", True),
        ("TypeError: can't convert … device", "TypeError: can't convert cuda:0 device", True),
        ("batch 0 |…\nbatch 1 |…", "batch 0 |lT\nbatch 1 |  lT", True),
        ("batch 0 |…\nbatch 1 |…", "batch 0 |lT", False),
        ("one", "one\ntwo", False),
    ],
)
def test_what_is_printed_is_compared_but_for_what_differs(expected: str, printed: str, fits: bool) -> None:
    assert is_printed(expected, printed) is fits


def test_a_page_is_cut_into_text_and_code_with_what_it_prints() -> None:
    page = "# Title\n\nText.\n\n```python\nx = 1\nx.y\n```\n```text\nAttributeError: …\n```\n\n```sh\nls\n```\nEnd.\n"
    first, code, last = cells(page)
    assert (first.source, first.is_code, first.line) == ("# Title\n\nText.", False, 1)
    assert (code.source, code.printed, code.raises, code.line) == ("x = 1\nx.y", "AttributeError: …", True, 6)
    assert last.source == "```sh\nls\n```\nEnd."


@pytest.mark.parametrize("page", PAGES)
def test_the_notebook_of_a_page_is_fresh(page: Path) -> None:
    kept = json.loads((NOTEBOOKS / f"{page.stem}.ipynb").read_text(encoding="utf-8"))
    assert kept == notebook(page.read_text(encoding="utf-8")), "type python -m tests.tutorial_pages"


def test_there_is_a_notebook_for_each_page_and_no_other() -> None:
    assert {file.stem for file in NOTEBOOKS.glob("*.ipynb")} == {page.stem for page in pages()}


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_notebook_lead_somewhere(page: Path) -> None:
    for cell in notebook(page.read_text(encoding="utf-8"))["cells"]:
        for line in cell["source"]:
            if cell["cell_type"] == "markdown":
                for target in [part.partition(")")[0] for part in line.split("](")[1:]]:
                    name = target.partition("#")[0]
                    if name and ":" not in name:
                        assert (NOTEBOOKS / name).exists(), target
