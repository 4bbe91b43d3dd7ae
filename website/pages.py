"""The pages of the site, and what the site adds to the Markdown that GitHub shows.

The navigation is docs/README.md: its headings, and the first link of each row below them; so is the README.md of a
folder within docs/ for its pages. The docstrings of the public
names are added to docs/api.md. Drawings are put into the page, so that they follow its button for light and dark.
"""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

from website import messages

REPOSITORY = Path(__file__).resolve().parent.parent
FRONT = "README"
"""The page that the site opens with; the navigation hangs below it."""
INDEX = "docs/README"
"""The page whose headings and rows are the navigation."""
API = "docs/api"
OTHER_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "slurm/README.md", "data/README.md")
"""Pages outside docs/ that pages link to."""


def source_pages(repository: Path) -> list[str]:
    """The Markdown files of the site, relative to the repository."""
    examples = sorted((repository / "examples").glob("*/README.md"))
    return [*OTHER_PAGES, "docs/**.md", *(page.relative_to(repository).as_posix() for page in examples)]


def other_folders(repository: Path) -> list[str]:
    """The folders that hold no page of the site: Sphinx does not look into them."""
    used = {"docs", "slurm", "data", "examples"}
    folders = sorted(path.name for path in repository.iterdir() if path.is_dir() and path.name not in used)
    return [*folders, "data/*/**", "**/.*"]


def navigation(index: str) -> dict[str, list[str]]:
    """Caption → pages, in the order of the index page.

    Args:
        index: the text of docs/README.md. A row of a table below a `## ` heading names a page by its first link.
    """
    found: dict[str, list[str]] = {}
    caption = ""
    for line in index.splitlines():
        if line.startswith("## "):
            caption = line.removeprefix("## ").strip()
        if caption and (row := rows_of(line)):
            found.setdefault(caption, []).extend(row)
    return found


def rows_of(index: str) -> list[str]:
    """The pages that the first links of a page's rows lead to."""
    return re.findall(r"^\| \[[^]]*\]\(([\w./-]+\.md)\)", index, re.MULTILINE)


def below_index(text: str) -> str:
    """For the index of a folder within docs/: its rows as a hidden table of contents."""
    return "\n\n" + "\n".join(["```{toctree}", ":hidden:", "", *rows_of(text), "```"]) + "\n"


def toctrees(index: str) -> str:
    """The navigation as hidden tables of contents of the front page."""
    parts = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *map(_from_front, names), "```"])
        for caption, names in {"signs_dist": ["README.md"], **navigation(index)}.items()
    ]
    return "\n\n" + "\n\n".join(parts) + "\n"


def _from_front(name: str) -> str:
    path = name.removeprefix("../") if name.startswith("../") else f"docs/{name}"
    return path.removesuffix(".md")


def api_reference() -> str:
    """The public names, what they return, and the errors, each with its docstring, for autodoc."""
    import signs_dist
    from signs_dist import errors

    parts = []
    for name in signs_dist.__all__:
        value = getattr(signs_dist, name)
        parts += [f"## `{name}`", "", *_described(f"signs_dist.{name}", is_class=inspect.isclass(value))]
        returned = None if inspect.isclass(value) else _returned_class(value)
        if returned is not None:
            parts += _described(f"{returned.__module__}.{returned.__name__}", is_class=True)
    parts += ["## Errors", ""]
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, errors.CommandError):
            parts += _described(f"signs_dist.errors.{name}", is_class=True)
    return "\n\n" + "\n".join(parts)


def _described(name: str, *, is_class: bool) -> list[str]:
    kind = "autoclass" if is_class else "autofunction"
    return ["```{eval-rst}", f".. {kind}:: {name}", *["   :members:"] * is_class, "```", ""]


def _returned_class(function: Any) -> type | None:
    """The class of this project that a function returns, if it is one with documented attributes of its own."""
    import typing

    import signs_dist

    returned = typing.get_type_hints(function)["return"]
    found = [each for each in (returned, *typing.get_args(returned)) if inspect.isclass(each)]
    own = [each for each in found if each.__module__.startswith("signs_dist.") and "Config" not in each.__name__]
    return own[0] if own and own[0].__name__ not in signs_dist.__all__ else None


def with_drawings(text: str, folder: Path) -> str:
    """The page with each `![what it shows](drawings/NAME.svg)` on a line of its own replaced by the drawing itself."""

    def put_in(found: re.Match[str]) -> str:
        drawing = (folder / found[2]).read_text(encoding="utf-8")
        svg = drawing[drawing.index("<svg") :].strip()
        return f'<figure class="drawing-box">\n{svg}\n</figure>'

    return re.sub(r"^!\[([^]]*)\]\(((?:\.\./)?drawings/[\w-]+\.svg)\)$", put_in, text, flags=re.MULTILINE)


def without_folder_links(text: str, folder: Path) -> str:
    """The page with each link to a folder, which is no page of the site, as text and the folder's name."""

    def name(found: re.Match[str]) -> str:
        goal = (folder / found[2]).resolve()
        return f"{found[1]} (`{goal.relative_to(REPOSITORY)}/`)" if goal.is_dir() else found[0]

    return re.sub(r"\[([^]]+)\]\(([\w./-]+)\)", name, text)


def add_to_page(app: Any, page: str, source: list[str]) -> None:
    """Sphinx calls this with each page that it reads; the one string in `source` is changed in place."""
    if page == FRONT:
        app.env.note_dependency(f"{INDEX}.md")
        source[0] += toctrees((Path(app.srcdir) / f"{INDEX}.md").read_text(encoding="utf-8"))
    if page.startswith("docs/") and page.count("/") > 1 and page.endswith("/README"):
        source[0] += below_index(source[0])
    if page == API:
        source[0] += api_reference()
    if page.startswith("docs/"):
        folder = (Path(app.srcdir) / page).parent
        source[0] = without_folder_links(with_drawings(source[0], folder), folder)


def finish_site(app: Any, error: Exception | None) -> None:
    """Sphinx calls this at the end: the front page is index.html too, and the search knows all messages."""
    if error is None and app.builder.name == "html":
        messages.write_messages(app)
        shutil.copyfile(Path(app.outdir) / f"{FRONT}.html", Path(app.outdir) / "index.html")
