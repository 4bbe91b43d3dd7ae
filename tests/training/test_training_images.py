"""The picture of the first training images: through the run's own augmentation, and without a change to the run."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from signs_dist.data.batches import FileBatches
from signs_dist.data.plan import Shard
from signs_dist.errors import LoadingError, TrainingFailedError
from signs_dist.training import training_images
from signs_dist.training.training_images import LARGEST_SIDE, arrange, shares_of, to_pixels, write_training_images
from tests.training.parts import Made, make_process, make_silent, make_trainer, shown

TORCHVISION = ("augment.backend=torchvision", "augment.transforms=[{RandomInvert: {p: 0.5}}]")


def picture_of(made: Made) -> np.ndarray:
    with PIL.Image.open(made.folder.path / "training-images.png") as image:
        return np.asarray(image)


def lines_of(made: Made) -> list[dict[str, object]]:
    text = (made.folder.path / "training-images.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "settings",
    [
        ("train.global_batch=12", "augment.flip=0.5"),
        ("train.global_batch=12", "train.micro_batch=4", "data.mean=[0.2,0.4,0.6]", "data.std=[0.1,0.5,2.0]"),
        ("train.global_batch=12", *TORCHVISION),
        ("train.global_batch=12", "data.storage=files", *TORCHVISION),
    ],
)
def test_images_are_those_of_the_first_step_as_the_network_gets_them(tmp_path: Path, settings: tuple[str, ...]) -> None:
    made = make_trainer(tmp_path, *settings)
    write_training_images(made.folder, made.stepper, made.process)
    prepared = made.stepper.prepared
    batch = next(made.stepper.train_loader.epoch(0))
    images, labels = made.stepper.prepare_train(batch)
    factor, offset = made.stepper.prepare_train.factor, made.stepper.prepare_train.offset
    pixels = ((images - offset) / factor * 255).round().clamp(0, 255)  # [12, 3, 16, 16]
    picture = picture_of(made)
    assert picture.shape == (2 * 16, 8 * 16, 3)
    for number, image in enumerate(pixels):
        top, left = number // 8 * 16, number % 8 * 16
        tile = picture[top : top + 16, left : left + 16].astype(np.int64)
        assert np.abs(tile - image.permute(1, 2, 0).numpy()).max() <= 1
    assert (picture[16:, 4 * 16 :] == 255).all()  # places without an image
    paths = prepared.data.splits["train"].paths
    assert [line["file"] for line in lines_of(made)] == [paths[sample] for sample in batch.samples.tolist()]
    assert [line["label"] for line in lines_of(made)] == labels.tolist()


@pytest.mark.parametrize("settings", [("augment.flip=0.5",), TORCHVISION])
def test_the_picture_moves_no_random_draw(tmp_path: Path, settings: tuple[str, ...]) -> None:
    made = make_trainer(tmp_path, *settings)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    write_training_images(made.folder, made.stepper, made.process)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_picture_is_the_same_on_any_number_of_processes(tmp_path: Path) -> None:
    pictures = []
    for number, micro_batch in enumerate((8, 2)):
        process = make_process()
        process.strategy.shard = Shard(0, number + 1)
        made = make_trainer(tmp_path, f"train.micro_batch={micro_batch}", process=process, run=f"run{number}")
        write_training_images(made.folder, made.stepper, made.process)
        pictures.append((picture_of(made).tobytes(), lines_of(made)))
    assert pictures[0] == pictures[1]
    assert len(pictures[0][1]) == 8


def test_images_that_do_not_arrive_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, "data.timeout_seconds=0.2", "data.storage=files")
    told: list[LoadingError] = []
    arrived = threading.Event()

    def end(error: LoadingError) -> None:
        told.append(error)
        arrived.set()

    made.stepper.when_loading_is_stuck(end)
    decode = FileBatches._decode

    def decode_late(self: FileBatches, *arguments: Any) -> Any:
        assert arrived.wait(60)
        return decode(self, *arguments)

    monkeypatch.setattr(FileBatches, "_decode", decode_late)
    write_training_images(made.folder, made.stepper, made.process)
    assert "for the images of epoch 1, step 1: this process reads and decodes them" in str(told[0])


def test_one_process_writes_while_it_holds_the_folder(tmp_path: Path) -> None:
    silent = make_trainer(tmp_path, process=make_silent(make_process()))
    write_training_images(silent.folder, silent.stepper, silent.process)
    lost = make_trainer(tmp_path)

    def refuse() -> None:
        raise TrainingFailedError("another run")

    lost.folder.require_held = refuse
    with pytest.raises(TrainingFailedError, match="another run"):
        write_training_images(lost.folder, lost.stepper, lost.process)
    assert not list(tmp_path.glob("run/training-images*"))


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_trainer(tmp_path, process=make_process(quiet=False))

    def fail(path: Path, picture: torch.Tensor) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(training_images, "_save_png", fail)
    write_training_images(made.folder, made.stepper, made.process)
    assert "Training continues without training-images.png." in shown(made.process)
    assert not list(tmp_path.glob("run/*training-images.png*"))


def test_large_images_are_reduced(tmp_path: Path) -> None:
    prepare = make_trainer(tmp_path).stepper.prepare_train
    images = torch.zeros(1, 3, 300, 300)
    assert to_pixels(images, prepare).shape == (1, 3, LARGEST_SIDE, LARGEST_SIDE)
    assert to_pixels(images[:, :, :20, :20], prepare).unique().tolist() == [128]  # 0 is the mean, 0.5


def test_images_stand_row_by_row() -> None:
    numbers = torch.arange(9, dtype=torch.uint8)[:, None, None, None].expand(9, 3, 1, 1)
    assert arrange(numbers)[:, :, 0].tolist() == [list(range(8)), [8, *[255] * 7]]


def test_mixed_images_are_shown_and_their_shares_are_told(tmp_path: Path) -> None:
    made = make_trainer(tmp_path, "augment.mixup=1", "augment.flip=0", "train.micro_batch=4")
    write_training_images(made.folder, made.stepper, made.process)
    batch = next(made.stepper.train_loader.epoch(0))
    _, targets = made.stepper.prepare_train(batch)
    assert len(lines_of(made)) == 8
    for line, label, shares in zip(lines_of(made), batch.labels.tolist(), targets.tolist(), strict=True):
        expected = {str(number): round(share, 4) for number, share in enumerate(shares) if share > 0}
        assert line["label"] == label
        assert line.get("shares", {str(label): 1.0}) == expected


def test_shares_are_told_of_mixed_images_only_and_largest_first() -> None:
    assert shares_of(torch.tensor([2, 0])) == [{}, {}]
    targets = torch.tensor([[0.0, 1.0, 0.0], [0.25, 0.0, 0.75]])
    assert [list(row.get("shares", {}).items()) for row in shares_of(targets)] == [[], [("2", 0.75), ("0", 0.25)]]
