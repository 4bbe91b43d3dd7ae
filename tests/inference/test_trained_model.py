"""A trained model, read back from its run folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.data.batches import Batch
from signs_dist.errors import UserError
from signs_dist.evaluate import main as evaluate
from signs_dist.inference.trained_model import TrainedModel, find_weights, load_model, read_trained_model, use_threads
from signs_dist.run_folder.digest import digest_path, file_sha256
from signs_dist.run_folder.folder import RunFolder
from tests.inference.runs import make_run
from tests.training.parts import make_process


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The run, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def photos(run: Path, split: str = "val") -> tuple[torch.Tensor, list[str]]:
    """uint8 [B, 3, S, S], and the name of each class."""
    paths = sorted((run.parent / "colours" / f"{split}_signs").iterdir())
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), [path.name[0] for path in paths]


def digest(model: TrainedModel) -> str:
    return weights_sha256(plain_weights(model.network))


def test_a_model_is_read_with_all_that_it_needs(run: Path) -> None:
    model = load_model(run)
    result = json.loads((run / "result.json").read_text())
    assert digest(model) == result["weights_sha256"]
    assert model.classes == ("0", "1", "2")
    assert (model.image_size, model.device, model.source) == (16, torch.device("cpu"), run / "model.pt")
    assert not model.network.training
    assert model.data["name"] == str(run.parent / "colours")


def test_it_gives_logits_for_pixels(run: Path) -> None:
    model = load_model(str(run))
    images, names = photos(run)
    logits = model(images)
    assert (logits.shape, logits.dtype) == (torch.Size([12, 3]), torch.float32)
    predicted = [model.classes[label] for label in logits.argmax(1).tolist()]
    hits = sum(map(str.__eq__, predicted, names))
    assert hits == json.loads((run / "result.json").read_text())["val_correct"]
    assert torch.equal(images, photos(run)[0])  # the caller's images are as they were


def test_an_image_has_the_same_logits_alone_and_among_others(run: Path) -> None:
    model = load_model(run)
    images, _ = photos(run)
    torch.testing.assert_close(model(images[:1]), model(images)[:1], rtol=0.02, atol=0.02)
    assert model(images[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("shape", "dtype", "given"),
    [
        ((1, 3, 16, 16), torch.float32, r"torch\.float32 \[1, 3, 16, 16\]"),
        ((3, 16, 16), torch.uint8, r"torch\.uint8 \[3, 16, 16\]"),
        ((1, 16, 16, 3), torch.uint8, r"torch\.uint8 \[1, 16, 16, 3\]"),
        ((1, 3, 16, 17), torch.uint8, r"torch\.uint8 \[1, 3, 16, 17\]"),
    ],
)
def test_other_images_are_refused(run: Path, shape: tuple[int, ...], dtype: torch.dtype, given: str) -> None:
    with pytest.raises(ValueError, match=rf"takes uint8 images \[B, 3, 16, 16\], not {given}"):
        load_model(run)(torch.zeros(shape, dtype=dtype))


def test_flips_are_averaged_where_the_config_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "evaluate.flip_average=true", "train.epochs=1", "train.precision=float32")
    model = load_model(run)
    images, _ = photos(run)
    torch.testing.assert_close(model(images), model(images.flip(3)))
    inputs, _ = model.prepare(Batch(images, torch.zeros(12).long(), torch.zeros(12).long(), 0, 0))
    with torch.no_grad():
        both = (model.network(inputs) + model.network(inputs.flip(3))) / 2
    torch.testing.assert_close(model(images), both)


def test_ten_crops_are_averaged_where_the_config_says_so(tmp_path: Path) -> None:
    settings = ("evaluate.ten_crop=true", "evaluate.crop=0.75", "train.epochs=1", "train.precision=float32")
    model = load_model(make_run(tmp_path, *settings))
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    inputs, _ = model.prepare(Batch(images, torch.zeros(2).long(), torch.zeros(2).long(), 0, 0))
    crops = torch.cat(
        [functional.resize(crop, [16, 16], antialias=False) for crop in functional.ten_crop(inputs, [12])]
    )
    with torch.no_grad():
        expected = model.network(crops).reshape(10, 2, -1).mean(dim=0)
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("weights", ["final", "best", "last"])
def test_each_file_of_weights_has_a_name(run: Path, weights: str) -> None:
    model = load_model(run, weights=weights)
    store = run / "checkpoints"
    expected = {"final": run / "model.pt", "best": store / "best.pt", "last": store / "epoch-0003.pt"}[weights]
    assert model.source == expected
    content = torch.load(expected, weights_only=True)
    assert digest(model) == weights_sha256(content if weights == "final" else content["model"])


@pytest.mark.parametrize(
    ("note", "told"),
    [
        (
            '{"step": 9, "what": "rank 1 on n1 is faulty.", "clean": [0, 2]}',
            "rank 1 on n1 is faulty. Repeat the command",
        ),
        ("{", "suspect.json cannot be read"),
        (None, None),
    ],
)
def test_a_checkpoint_of_a_run_that_faulty_hardware_ended_is_told(
    copy: Path, note: str | None, told: str | None
) -> None:
    if note is not None:
        (copy / "logs").mkdir(exist_ok=True)
        (copy / "logs" / "suspect.json").write_text(note)
    for weights in ("best", "last"):
        notes = read_trained_model(copy, weights=weights, device="cpu").notes
        assert ["may hold wrong results" in each for each in notes] == [True] * (told is not None)
        assert told is None or told in notes[0]
    assert read_trained_model(copy, weights="final", device="cpu").notes == ()


def test_weights_of_a_file(run: Path) -> None:
    path = run / "checkpoints" / "epoch-0001.pt"
    model = load_model(run, weights=str(path))
    assert model.source == path
    assert digest(model) != digest(load_model(run))


def test_the_average_is_what_a_checkpoint_gives(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ema.decay=0.9", "train.epochs=1")
    assert digest(load_model(run, weights="last")) == digest(load_model(run, weights="final"))


def craft(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a checkpoint holds, and give it the SHA-256 of its new bytes."""
    content = torch.load(path, weights_only=True)
    change(content)
    path.unlink()  # it is the same file as another by its other name
    torch.save(content, path)
    digest_path(path).write_text(f"{file_sha256(path)}  {path.name}\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda content: content["model"].update({"conv1.bias": torch.zeros(4).long()}),
         "other types: conv1.bias is int64, the model's float32"),
        (lambda content: content["model"].update({"module.conv1.bias": torch.zeros(4)}),
         "holds both conv1.bias and module.conv1.bias"),
        (lambda content: content["model"].update({"conv1.bias": torch.zeros(4).to_sparse()}), "is not a dense tensor"),
        (lambda content: content["model"].clear(), "is broken: model is a dict of 0"),
        (lambda content: content["model"].update({"conv1.bias": "x"}), "is broken: model['conv1.bias'] is 'x'"),
        (lambda content: content["cursor"].update(epoch=-1), "is broken: cursor.epoch is -1"),
        (lambda content: content.pop("best"), "is broken: it has no best"),
        (lambda content: content.update(format=999), "has format 999, and this release of signs_dist reads format 2"),
    ],
)  # fmt: skip
def test_a_crafted_checkpoint_is_not_evaluated(copy: Path, change: Callable[[dict[str, Any]], Any], told: str) -> None:
    craft(copy / "checkpoints" / "best.pt", change)
    with pytest.raises(UserError) as refused:
        load_model(copy, weights="best")
    assert told in str(refused.value)
    assert str(copy / "checkpoints" / "best.pt") in str(refused.value)


def test_a_damaged_checkpoint_is_not_evaluated(copy: Path) -> None:
    path = copy / "checkpoints" / "best.pt"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(
        UserError, match=r"best\.pt is broken: its SHA-256 differs .*Choose the weights of another file"
    ):
        load_model(copy, weights="best")


def test_weights_that_are_not_there_yet(copy: Path) -> None:
    with pytest.raises(
        UserError, match=r"weights nowhere: no such file\. The weights are final, best, last or the path"
    ):
        load_model(copy, weights="nowhere")
    os.mkfifo(copy / "pipe.pt")
    for path, kind in ((copy / "pipe.pt", r"a pipe \(FIFO\)"), (copy, "a folder"), (Path("/dev/null"), "a device")):
        with pytest.raises(UserError, match=rf"weights {path}: it is {kind}, not a file\. The weights are final,"):
            load_model(copy, weights=str(path))
    (copy / "model.pt").unlink()
    with pytest.raises(UserError, match=r"has no model\.pt yet\. Choose the weights best or last\."):
        load_model(copy)
    shutil.rmtree(copy / "checkpoints")
    for weights, missing in (("last", "checkpoint"), ("best", r"checkpoints/best\.pt")):
        with pytest.raises(UserError, match=rf"has no {missing} yet\. Let the run finish an epoch first\."):
            find_weights(RunFolder(copy), weights)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is not a run folder"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: .* It is written when a run starts"),
        ("{half", "cannot be read"),
        ("[]", "does not name the classes"),
        ('{"data": {}}', "does not name the classes"),
    ],
)
def test_a_broken_manifest(copy: Path, text: str | None, message: str) -> None:
    (copy / "manifest.json").unlink() if text is None else (copy / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=message):
        load_model(copy)


def test_weights_of_another_network(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path, "model.name=mlp", "model.args={}", "train.epochs=1")
    with pytest.raises(UserError, match=r"model\.pt .* of another model"):
        load_model(run, weights=str(other / "model.pt"))


@pytest.mark.parametrize("device", ["cuda:7", "tpu"])
def test_a_device_that_is_not_there(run: Path, device: str) -> None:
    with pytest.raises(UserError, match=device.partition(":")[0]):
        load_model(run, device=device)


@pytest.mark.parametrize("device", ["auto", "cpu", torch.device("cpu")])
def test_a_device_that_is_there(run: Path, device: str | torch.device) -> None:
    assert load_model(run, device=device).device == torch.device("cpu")


def test_weights_that_the_run_began_with_need_not_be_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "first", "train.epochs=1")
    start = tmp_path / "start.pt"
    shutil.copyfile(run / "model.pt", start)
    second = make_run(tmp_path / "second", f"model.weights={start}", "train.epochs=1")
    start.unlink()
    assert digest(load_model(second)) == json.loads((second / "result.json").read_text())["weights_sha256"]


def test_reading_a_model_draws_no_random_numbers(run: Path) -> None:
    before = torch.get_rng_state()
    num_threads = torch.get_num_threads()
    load_model(run)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == num_threads


@pytest.mark.parametrize(("setting", "num_threads"), [("auto", 3), ("2", 2)])
def test_the_commands_use_the_threads_of_the_config(tmp_path: Path, setting: str, num_threads: int) -> None:
    run = make_run(tmp_path, f"train.num_threads={setting}", "train.epochs=1")
    before = torch.get_num_threads()
    try:
        use_threads(load_model(run), make_process(num_threads=3).context)
        assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)


def test_own_code_that_has_changed_since_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "net_that_changes.py"
    source.write_text(NET, encoding="utf-8")
    settings = ("model.name=net_that_changes:Net", "model.args={}", "train.epochs=1")
    run = make_run(tmp_path, *settings)
    written = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["code"]["files"]["net_that_changes"]
    assert written["path"] == str(source)
    load_model(run)  # a warning would fail the test

    source.write_text(NET.replace("x.flatten(1)", "-x.flatten(1)"), encoding="utf-8")
    told = f"changed since the training: {source}, which defines what the network computes"
    with pytest.warns(UserWarning, match=re.escape(told)):
        load_model(run)
    capsys.readouterr()
    assert evaluate([str(run), "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == told

    (run / "result.json").unlink()  # a run that was stopped
    make_run(tmp_path, *settings)
    assert f"changed since: the code in {source}" in capsys.readouterr().out


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, image_size):
        super().__init__()
        self.layer = nn.Linear(3 * image_size * image_size, num_classes)

    def forward(self, x):
        return self.layer(x.flatten(1))
"""
