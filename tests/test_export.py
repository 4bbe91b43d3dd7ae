"""The command that exports: each format, run by the lines of its card where this project cannot be imported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import signs_dist
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.console.command import run_command
from signs_dist.errors import ExportDiffersError, UserError
from signs_dist.export import main as export
from signs_dist.exporting import checking, onnx_file, safetensors_folder
from signs_dist.inference.exported_model import ExportedModel
from signs_dist.inference.trained_model import TrainedModel
from signs_dist.predict import main as predict
from tests.data.photo_files import photo
from tests.inference.runs import make_run
from tests.shared import shared_folder

FILES = {
    "onnx": {"README.md", "model.onnx"},
    "torch": {"README.md", "model.pt2"},
    "safetensors": {"README.md", "config.json", "model.safetensors", "architecture.pt2"},
}
BARE = "import sys\nsys.modules['signs_dist'] = None\n"
"""The beginning of a program that cannot import this project."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of float32 with a moving average, whose predictions are averaged over mirrors."""
    with shared_folder(tmp_path_factory, "exported_run") as shared:
        if not (shared / "run" / "result.json").exists():
            averages = ("ema.decay=0.9", "evaluate.flip_average=true", "train.precision=float32")
            make_run(shared, "data.mean=[0.4, 0.5, 0.6]", "data.std=[0.2, 0.3, 0.4]", *averages)
    return shared / "run"


def typed(*arguments: object) -> int:
    return run_command(export, [str(argument) for argument in arguments])


def blocks(card: str) -> str:
    """The lines of Python in a card, as a reader types them."""
    return "\n".join(re.findall(r"```python\n(.*?)```", card, re.DOTALL))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torch", "safetensors"])
def test_an_export_is_the_run(form: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a model's folder"
    assert typed(run, "--format", form, "--out", out) == 0
    told = capsys.readouterr().out
    assert "12 val photos: same class on all" in told
    assert "12 of them at 112 x 80 pixels: same class on all" in told
    assert {path.name for path in out.iterdir()} == FILES[form]

    model, exported = signs_dist.load_model(run, device="cpu"), signs_dist.load_model(out, device="cpu")
    assert isinstance(model, TrainedModel)
    assert isinstance(exported, ExportedModel)
    result = json.loads((run / "result.json").read_text())
    assert exported.record.weights_sha256 == result["weights_sha256"] == weights_sha256(model.network.state_dict())
    assert exported.record.results[0].num_correct == result["val_correct"]
    assert (exported.classes, exported.image_size, exported.record.views_are_inside) == (
        model.classes,
        16,
        form != "safetensors",
    )
    assert str(run) not in exported.record.to_json()
    images = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(exported(images), model(images), rtol=1e-4, atol=1e-4)

    names = write_photos(out)
    ended = subprocess.run(
        [sys.executable, "-I", "-c", f"{BARE}{for_each(names[:-1], blocks((out / 'README.md').read_text()))}"],
        cwd=out,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    of_lines = [json.loads(line) for line in ended.stdout.splitlines()]
    of_run = predicted(run, out, names, tmp_path)
    np.testing.assert_allclose(of_lines, of_run[:-1], atol=0.02)  # a JPEG is decoded at a smaller size
    for source in (out, next(out.glob("model.*"))):
        np.testing.assert_allclose(predicted(source, out, names, tmp_path), of_run, atol=1e-4)

    assert typed(run, "--format", form, "--out", out) == 2
    assert "add --force" in capsys.readouterr().err
    if form == "onnx":
        assert b"/site-packages/" not in (out / "model.onnx").read_bytes()
        refuse_what_is_broken(out, tmp_path)


def write_photos(folder: Path) -> list[str]:
    """A wide photo, one that is turned by EXIF, one that is transparent, and one of 16 bits; their names."""
    wide = photo(3, 90).resize((90, 40))
    wide.save(folder / "photo.jpg", quality=95)
    turned = Image.Exif()
    turned[0x0112] = 6
    wide.save(folder / "turned.jpg", quality=95, exif=turned)
    holes = wide.convert("RGBA")
    holes.paste((0, 0, 0, 0), (0, 0, 45, 40))
    holes.save(folder / "holes.png")
    Image.fromarray(np.linspace(0, 65535, 90 * 40).reshape(40, 90).astype(np.uint16)).save(folder / "deep.png")
    return ["photo.jpg", "turned.jpg", "holes.png", "deep.png"]


def for_each(names: list[str], lines: str) -> str:
    """A program that runs the lines of a card on each photo, and prints its probabilities."""
    more = "\nprint([float(each) for each in probabilities[0]])\n"
    return "".join(lines.replace("photo.jpg", name) + more for name in names)


def predicted(source: Path, folder: Path, names: list[str], scratch: Path) -> list[list[float]]:
    """What `predict` gives for each photo: the probabilities by label."""
    rows = scratch / "o.jsonl"
    paths = [str(folder / name) for name in names]
    assert run_command(predict, [str(source), *paths, "--jsonl", str(rows), "--device", "cpu", "--quiet"]) == 0
    return [list(json.loads(line)["probabilities"].values()) for line in rows.read_text().splitlines()]


def refuse_what_is_broken(out: Path, folder: Path) -> None:
    """A cut file, and a file of another program."""
    import onnx

    (folder / "cut.onnx").write_bytes((out / "model.onnx").read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cut\.onnx cannot be read by onnxruntime: .*Export the run again"):
        signs_dist.load_model(folder / "cut.onnx", device="cpu")
    foreign = onnx.load(out / "model.onnx")
    del foreign.metadata_props[:]
    onnx.save(foreign, folder / "foreign.onnx")
    with pytest.raises(UserError, match=r"foreign\.onnx was not written by signs_dist.export: its metadata have no"):
        signs_dist.load_model(folder / "foreign.onnx", device="cpu")
    with pytest.raises(UserError, match=r'^weights="best": an export holds one set of weights'):
        signs_dist.load_model(out, weights="best")


def test_an_export_that_differs_is_not_kept(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: object) -> None:
        raise ExportDiffersError("the export differs from the run, and was not kept:\n  12 val photos: …")

    monkeypatch.setattr("signs_dist.exporting.run.check", differ)
    monkeypatch.setattr(safetensors_folder, "trace_network", lambda *_: None)
    monkeypatch.setattr(safetensors_folder, "program_bytes", lambda *_: b"")
    assert typed(run, "--format", "safetensors", "--out", tmp_path / "new/deep") == 1
    assert "the export differs from the run, and was not kept:\n  12 val photos: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "arguments", "told"),
    [
        ({"model.pt": None}, [], "has no model.pt yet. Choose the weights best or last."),
        ({}, ["--weights", "nope.pt"], "weights nope.pt: no such file"),
        ({}, ["--out", "{run}/x"], "is inside the run folder"),
        ({}, ["--out", "{run}/../file"], "is not a folder. Choose another name."),
        ({}, ["--data", "nowhere"], "nowhere"),
        ({"config.yaml": None}, [], "is not a run folder"),
    ],
)
def test_wrong_input(
    run: Path,
    tmp_path: Path,
    changes: dict[str, None],
    arguments: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "check", lambda *_: pytest.fail("it began"))
    (tmp_path / "file").touch()
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    for name in changes:
        (copy / name).unlink()
    before = sorted(tmp_path.rglob("*"))
    assert typed(copy, "--format", "torch", *(text.format(run=copy) for text in arguments)) == 2
    assert told in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("form", "extra"), [("onnx", "onnx"), ("safetensors", "safetensors")])
def test_a_package_that_is_missing(
    run: Path,
    tmp_path: Path,
    form: str,
    extra: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signs_dist.extras.is_installed", lambda module: False)
    assert typed(run, "--format", form, "--out", tmp_path / "new") == 2
    assert f"--format {form} needs {extra}, which is not installed. Type: pip install 'signs_dist[{extra}]'" in (
        capsys.readouterr().err
    )


def test_a_network_beyond_two_gigabytes_is_not_for_onnx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.inference.exports import make_record

    monkeypatch.setattr(onnx_file, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="a file of ONNX holds up to 2 GiB, and the weights take 400 bytes"):
        onnx_file.write(tmp_path, torch.nn.Linear(10, 10, bias=False), make_record())
