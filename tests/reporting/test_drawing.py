"""Charts compiled and drawn, and the script that makes them interactive."""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path

import pytest

from signs_dist.reporting.charts import Series, curves
from signs_dist.reporting.drawing import draw, runtime


def test_a_chart_is_a_picture_and_a_vega_spec_and_is_drawn_alike_each_time() -> None:
    name = "<script>alert(1)</script>&"
    spec = curves([Series("a", name, [(1, 0.5), (2, 0.7)])], title="loss", description=name, number_format=".2f")
    first, second = draw(spec, "loss"), draw(spec, "loss")
    assert first == second
    assert first.svg.startswith("<svg ")
    assert "<script" not in first.svg
    assert 'id="loss-0"' in first.svg
    assert 'id="clip' not in first.svg
    assert "var(--series-0)" in first.svg
    assert draw(
        curves([Series("a", "\udcff", [(1, 0.5), (2, 0.7)])], title="loss", description="", number_format=".2f"), "a"
    )
    assert [signal["value"] for signal in first.vega["signals"] if signal["name"] == "hidden"] == [[]]


def test_the_cell_around_a_point_tells_the_name_of_its_series() -> None:
    spec = curves([Series("a", "train", [(1, 0.5), (2, 0.7)])], title="loss", description="", number_format=".2f")
    cells = [mark for mark in draw(spec, "loss").vega["marks"] if "transform" in mark]
    assert [mark["transform"][0]["type"] for mark in cells] == ["voronoi"]
    told = cells[0]["encode"]["update"]["tooltip"]["signal"]
    assert 'datum.datum["n"]' in told
    assert not re.search(r'(?<!datum\.)datum\["', told)


def test_the_runtime_is_made_once_and_a_torn_file_of_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []

    def make(snippet: str) -> str:
        made.append(snippet)
        return f"{snippet};"

    monkeypatch.setattr("vl_convert.javascript_bundle", make)
    first = runtime()
    assert runtime() == first
    assert len(made) == 1
    assert gzip.decompress(base64.b64decode(first)).startswith(b"window.vegaEmbed")
    file = next((tmp_path / "signs_dist").glob("*.gz"))
    file.write_bytes(file.read_bytes()[:20])
    assert runtime() == first
    assert len(made) == 2


def test_without_a_home_folder_the_runtime_is_made_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")  # nothing can be written there
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda snippet: "x;")
    assert gzip.decompress(base64.b64decode(runtime())) == b"x;"
    monkeypatch.setattr("signs_dist.reporting.drawing.home_cache_folder", lambda environment: None)
    assert gzip.decompress(base64.b64decode(runtime())) == b"x;"
