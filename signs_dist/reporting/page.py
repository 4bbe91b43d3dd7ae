"""Pages as HTML: the templates of this folder, filled by Jinja2, which escapes all text."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist import __version__
from signs_dist.console.screen import percent
from signs_dist.monitoring.plain_text import without_control
from signs_dist.reporting.drawing import runtime
from signs_dist.reporting.thinning import RULE

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, page: Any, *, is_plural: bool = False, has_charts: bool = True) -> str:
    """The page as one HTML file.

    Args:
        template: `run.html`, `comparison.html` or `inspection.html`.
        page: what the template shows.
        is_plural: whether the page is about several runs.
        has_charts: whether the page needs what draws charts, which is 0.4 MB.
    """
    return (
        make_environment()
        .get_template(template)
        .render(
            page=page,
            style=_text("style.css"),
            script=_text("script.js"),
            runtime=runtime() if has_charts else "",
            version=__version__,
            thinning=RULE,
            is_plural=is_plural,
        )
    )


@functools.cache
def make_environment() -> jinja2.Environment:
    """The templates, and how they are filled."""
    import jinja2

    from signs_dist.reporting.kept_templates import kept_templates

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
        bytecode_cache=kept_templates(),
    )
    environment.filters["percent"] = percent
    return environment


def _clean(value: Any) -> Any:
    """Names of files that are not UTF-8 hold halves of surrogate pairs, which no file can hold: they become escapes."""
    return without_control(value) if type(value) is str else value


def _text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
