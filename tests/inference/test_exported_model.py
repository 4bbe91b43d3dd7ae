"""An export, read back. tests/test_export.py reads those of each format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from signs_dist.errors import UserError
from signs_dist.inference.export_files import find_export
from signs_dist.inference.exported_model import ExportedModel, read_exported_model
from tests.data.photo_files import write_files
from tests.inference.exports import make_record

CPU = torch.device("cpu")


def make_model() -> ExportedModel:
    """A model whose logits are the mean of each colour."""
    return ExportedModel(Path("model.pt2"), make_record(), CPU, lambda images: images.float().mean(dim=(1, 2)))


def test_it_is_called_as_a_trained_model() -> None:
    model = make_model()
    assert (model.classes, model.image_size, model.batch) == (("zero", "one", "two"), 16, 8)
    assert (model.trained_on, model.max_megapixels) == ("hands", 250.0)
    images = torch.zeros(2, 3, 16, 16, dtype=torch.uint8)
    images[:, 1] = 7
    assert model(images).tolist() == [[0.0, 7.0, 0.0]] * 2


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 16, 16),
        torch.zeros(2, 16, 16, 3, dtype=torch.uint8),
        torch.zeros(3, 16, 16, dtype=torch.uint8),
    ],
)
def test_other_images_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"the model takes uint8 images \[B, 3, 16, 16\], not torch\."):
        make_model()(images)


@pytest.mark.parametrize(
    ("files", "given", "told"),
    [
        ({"model.pt2": b"PK no zip"}, "model.pt2", "model.pt2 cannot be read by torch.export.load: "),
        ({"model.onnx": b"no onnx"}, "model.onnx", "model.onnx cannot be read by onnxruntime: "),
        ({"model.safetensors": b""}, ".", "config.json, which says what model.safetensors is of, cannot be read: "),
        (
            {"model.safetensors": b"", "config.json": b'{"architecture": "resnet18"}'},
            ".",
            "config.json was not written by signs_dist.export: its metadata have no record",
        ),
        (
            {
                "model.safetensors": b"short",
                "config.json": b'{"signs_dist": %b}' % make_record(format="safetensors").to_json().encode(),
            },
            ".",
            "model.safetensors cannot be read by safetensors: ",
        ),
    ],
    ids=["pt2", "onnx", "no config", "foreign", "cut"],
)
def test_what_cannot_be_read_is_told(
    tmp_path: Path, files: dict[str, bytes], given: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path, files)
    place = find_export(tmp_path / given)
    assert place is not None
    with pytest.raises(UserError) as caught:
        read_exported_model(place, CPU)
    assert told in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_package_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signs_dist.extras.is_installed", lambda module: False)
    place = find_export(write_files(tmp_path, {"model.onnx": b""}))
    assert place is not None
    with pytest.raises(UserError, match=r"model.onnx needs onnxruntime, which .* pip install 'signs_dist\[onnx\]'"):
        read_exported_model(place, CPU)
