"""What was given as weights and is none is named, with what to do. Nothing in it is run."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.errors import UserError
from signs_dist.models.other_files import describe_other_file
from signs_dist.models.weights import read_plain, read_weights


def write_safetensors(path: Path, padding: int = 0, end: bytes = bytes(4)) -> None:
    entry = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"x": "y" * padding}}
    header = json.dumps(entry).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + end)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/readme.txt", "x")


def write_script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # as torch.jit.save, whose own writer warns that it will go
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py", "version"):
            archive.writestr(f"model/{name}", "x")


def write_torn(path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (lambda path: path.touch(), "it is empty. Copy or download it again."),
    "README.md": (lambda path: path.write_text("# How to\n\nüse it"), "it is a text file. Give a file that torch.save"),
    "a long text": (lambda path: path.write_text("ü" * 5000), "it is a text file."),
    "a web page": (lambda path: path.write_text("\n<!DOCTYPE html><html>404"), "it is a web page, as a download"),
    "Git LFS": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid x"), "git lfs pull"),
    "a zip": (write_zip, "it is a zip archive that torch.save did not write. Unpack it"),
    "torn": (write_torn, "it is cut off or damaged"),
    "a module": (lambda path: torch.save(nn.Linear(2, 1), path), "a whole model, and to load them would run code"),
    "a module of old": (lambda path: torch.save(nn.Linear(2, 1), path, _use_new_zipfile_serialization=False),
                        "torch.save(model.state_dict(), 'weights.pt')"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "it holds Python objects"),
    "a script": (write_script, "it is a TorchScript archive. Save its weights alone: model = torch.jit.load(FILE); "),
    "torn safetensors": (lambda path: write_safetensors(path, end=b"123"), "it is a damaged safetensors file"),
    "HDF5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(9)), "it is an HDF5 file."),
    "NumPy": (lambda path: path.write_bytes(b"\x93NUMPY" + bytes(9)), "it is a NumPy array."),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "it is a gzip file. Unpack it first"),
    "a photo": (lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(9)), "it is an image."),
    "a folder": (Path.mkdir, "it is a folder, not a file"),
    "a pipe": (os.mkfifo, "it is a pipe (FIFO), not a file"),
    "/dev/zero": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "a loop": (lambda path: path.symlink_to(path.name), "it is a loop of links, not a file"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "torch.save did not write it, or it is damaged."),
    "noise": (lambda path: path.write_bytes(bytes(range(255, 0, -1))), "torch.save did not write it"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    write, told = FILES[name]
    path = tmp_path / "weights.pt"
    write(path)
    with pytest.raises(UserError) as refused:
        read_weights(path)
    message = str(refused.value)
    assert message.startswith(f"{path} cannot be read as a checkpoint: ")
    assert told in message
    # torch advises to run the code in the file.
    assert "weights_only" not in message
    assert "\x1b" not in message
    assert len(message) < 500


@pytest.mark.parametrize("padding", [0, 9000])
def test_a_safetensors_file_is_weights_but_no_checkpoint(tmp_path: Path, padding: int) -> None:
    path = tmp_path / "weights.pt"
    write_safetensors(path, padding)
    assert read_weights(path)["w"].tolist() == [0.0]
    with pytest.raises(
        UserError, match=r"it is a safetensors file. Convert it: torch.save\(safetensors.torch.load_file"
    ):
        read_plain(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert describe_other_file(tmp_path / "a.pt", PermissionError(13, "x")) == "it cannot be read: Permission denied."
