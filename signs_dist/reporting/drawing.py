"""Charts: Vega-Lite specs compiled to Vega for the interactive chart, and drawn as SVG for where scripts are off.

vl-convert (https://github.com/vega/vl-convert) holds Vega, Vega-Lite and a JavaScript engine, and needs no network.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import importlib.metadata
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.environment.user_cache import home_cache_folder
from signs_dist.errors import UserError
from signs_dist.files import written_aside
from signs_dist.reporting.charts import HOVER

_SNIPPET = "window.vegaEmbed = vegaEmbed;"
"""What the script in the page is for. Libraries that it does not need are left out."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A chart.

    Attributes:
        vega: the Vega spec.
        svg: the same as a picture.
    """

    vega: Mapping[str, Any]
    svg: str


def draw(spec: Mapping[str, Any], name: str) -> Drawing:
    """Compile and draw a Vega-Lite spec. The picture leaves out the layer `HOVER`.

    Args:
        spec: the spec, which has layers.
        name: letters and dashes, another one for each chart of a page: the picture's ids begin with it.
    """
    import vl_convert

    spec = _encodable(spec)
    still = {**spec, "layer": [layer for layer in spec["layer"] if layer.get("name") != HOVER]}
    picture = vl_convert.vega_to_svg(vl_convert.vegalite_to_vega(still))
    vega = vl_convert.vegalite_to_vega(dict(spec))
    for mark in vega["marks"]:
        _tell_names(mark)
    return Drawing(vega, _with_own_ids(picture, name))


def start_engine() -> None:
    """Start the JavaScript engine, and let it read Vega and the fonts, which the first chart would wait for."""
    draw({"data": {"values": []}, "layer": [{"mark": "line", "encoding": {}}]}, "none")


def _tell_names(mark: dict[str, Any]) -> None:
    """Let the cell around a point tell all fields of the point.

    Vega-Lite draws a cell around each point: the area in which it is nearest to the pointer. The point is the cell's
    `datum.datum`. Vega-Lite takes numbers from there, but texts from the cell itself, which has none.
    """
    if any(each.get("type") == "voronoi" for each in mark.get("transform", ())):
        tooltip = mark["encode"]["update"]["tooltip"]
        tooltip["signal"] = re.sub(r'(?<![\w.])datum\["', 'datum.datum["', tooltip["signal"])


def _encodable(value: Any) -> Any:
    """The spec with escapes in the place of halves of surrogate pairs, as in names of folders that are not UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return [_encodable(each) for each in value] if isinstance(value, (list, tuple)) else value


def _with_own_ids(svg: str, name: str) -> str:
    """The picture with ids that no other picture of the page has, and that are the same each time it is drawn."""
    numbers: dict[str, int] = {}

    def rename(found: re.Match[str]) -> str:
        return f"{found[1]}{name}-{numbers.setdefault(found[2], len(numbers))}"

    return re.sub(r'(id="|url\(#)((?:clip|gradient)\w*)', rename, svg)


def runtime() -> str:
    """Vega as one script, which sets `window.vegaEmbed`: compressed by gzip, as base64.

    To make it takes about a second, so it is kept in the user's cache folder, by the version of vl-convert.
    """
    folder = home_cache_folder(os.environ)
    kept = folder / f"vega-of-vl-convert-{importlib.metadata.version('vl-convert-python')}.gz" if folder else None
    content = b""
    with contextlib.suppress(OSError):
        content = kept.read_bytes() if kept else b""
    if not _is_whole(content):
        import vl_convert

        content = gzip.compress(vl_convert.javascript_bundle(_SNIPPET).encode("utf-8"), mtime=0)
        if kept is not None:
            _keep(kept, content)
    return base64.b64encode(content).decode("ascii")


def _keep(path: Path, content: bytes) -> None:
    """Write a file, and its folder. Where that fails it is made again the next time."""
    with contextlib.suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_aside(path) as aside:
            aside.write_bytes(content)


def _is_whole(content: bytes) -> bool:
    try:
        return gzip.decompress(content).rstrip().endswith(b";")
    except (OSError, EOFError, zlib.error):
        return False
