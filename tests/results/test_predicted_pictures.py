from __future__ import annotations

from pathlib import Path

from signs_dist.results.predicted_pictures import pictures_path, read_pictures, to_text


def test_pictures_read_back(tmp_path: Path) -> None:
    pictures = {"a.tar/1.jpg": "data:image/jpeg;base64,/9j/4A==", "ü/\udcff": "data:image/jpeg;base64,AAAA"}
    path = pictures_path(tmp_path, "val")
    assert path.name == "pictures-val.jsonl"
    assert read_pictures(path) == {}
    path.write_text(to_text(pictures))
    assert read_pictures(path) == pictures


def test_what_is_no_picture_comes_into_no_page(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(to_text({"a": "https://example.org/x.png", "b": "data:image/svg+xml,<svg>", "c": '"><script>'}))
    assert read_pictures(path) == {}
