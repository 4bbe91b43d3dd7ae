from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.inference.export_files import ExportPlace, find_export, require_model
from tests.data.photo_files import write_files


@pytest.mark.parametrize(
    ("files", "given", "expected"),
    [
        (["e/model.onnx"], "e", ("onnx", "e/model.onnx")),
        (["e/model.pt2"], "e", ("torch", "e/model.pt2")),
        (["e/model.safetensors", "e/config.json", "e/architecture.pt2"], "e", ("safetensors", "e/model.safetensors")),
        (["renamed.ONNX"], "renamed.ONNX", ("onnx", "renamed.ONNX")),
        (["hands.pt2"], "hands.pt2", ("torch", "hands.pt2")),
        (["run/config.yaml", "run/model.onnx"], "run", None),
        (["other/photo.jpg"], "other", None),
        (["model.pt"], "model.pt", None),
        ([], "none", None),
    ],
)
def test_where_an_export_is(tmp_path: Path, files: list[str], given: str, expected: tuple[str, str] | None) -> None:
    write_files(tmp_path, dict.fromkeys(files, b""))
    found = find_export(tmp_path / given)
    assert found == (None if expected is None else ExportPlace(expected[0], tmp_path / expected[1]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("other", "other is not a run folder: it has no config.yaml; and no export: it has no model.onnx, model.pt2"),
        ("none", "none does not exist"),
        ("model.pt", "model.pt is a file, not a run folder"),
    ],
)
def test_what_is_no_model(tmp_path: Path, given: str, told: str) -> None:
    write_files(tmp_path, {"other/photo.jpg": b"", "model.pt": b""})
    with pytest.raises(UserError) as caught:
        require_model(tmp_path / given)
    assert told in str(caught.value)
