"""The real loop over epochs without an end, and its saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.benching.loops import RealLoop, SavingLoop, epochs_alike, steps_between_saves
from signs_dist.config.settings import CheckpointConfig
from signs_dist.errors import TrainingFailedError
from tests.training.parts import make_config, make_stepper


def test_the_loop_trains_over_epochs(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path)
    loop = RealLoop(stepper, process)
    assert loop.wait_share == 0.0
    rates = []
    original = stepper.state.learning_rate
    stepper.state.learning_rate = lambda images: rates.append(images) or original(images)  # type: ignore[func-returns-value]
    loop.work(5)
    loop.work(6)
    loop.close()
    # Two epochs of 4 steps of 8 images, and the first again: a schedule knows no later one.
    assert rates == [*range(0, 64, 8), 0, 8, 16]
    assert 0.0 < loop.wait_share < 1.0


def test_a_loss_that_is_not_finite_is_explained(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, "optim.lr=1e30", "schedule.name=constant")
    loop = RealLoop(stepper, process)
    with pytest.raises(TrainingFailedError, match=r"not a finite number after \d+ steps.*optim.lr \(it is 1e\+30\)"):
        loop.work(20)
    loop.close()


def test_the_images_of_a_step_are_prepared_alone(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path)
    prepared: list[int] = []
    original = stepper.prepare_train
    stepper.prepare_train = lambda batch: prepared.append(len(batch.labels)) or original(batch)  # type: ignore
    assert RealLoop(stepper, process).prepare_seconds(2) > 0
    assert prepared == [8, 8, 8]


def test_operations_of_steps(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path)
    loop = RealLoop(stepper, process)
    trace = loop.trace(2)
    loop.close()
    calls = {operation.name: operation.num_calls for operation in trace.operations}
    assert (trace.num_steps, calls["aten::cross_entropy_loss"]) == (2, 2)
    assert trace.seconds > 0


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        (("train.epochs=7",), 7),
        (("train.epochs=7", "model.freeze=backbone", "model.thaw_after_epochs=2", "model.name=signs_net"), 2),
    ],
)
def test_epochs_in_which_the_same_parameters_train(tmp_path: Path, settings: tuple[str, ...], epochs: int) -> None:
    assert epochs_alike(make_config(tmp_path, *settings)) == epochs


@pytest.mark.parametrize(
    ("every_steps", "every_seconds", "between", "setting"),
    [
        (None, None, 100, ""),
        (30, None, 30, "checkpoint.every_steps"),
        (None, 5.0, 50, "checkpoint.every_seconds"),
        (30, 2.0, 20, "checkpoint.every_seconds"),
        (500, 300.0, 100, ""),
        (None, 0.001, 1, "checkpoint.every_seconds"),
    ],
)
def test_steps_from_one_save_to_the_next(
    every_steps: int | None, every_seconds: float | None, between: int, setting: str
) -> None:
    config = CheckpointConfig(every_steps=every_steps, every_seconds=every_seconds)
    assert steps_between_saves(config, steps_per_epoch=100, step_seconds=0.1) == (between, setting)


def test_each_round_saves_once(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, "checkpoint.keep=2")
    loop = RealLoop(stepper, process)
    saving = SavingLoop(loop, stepper, process, tmp_path / "saves")
    for _ in range(3):
        saving.work(2)
    saving.close()
    loop.close()
    saved = sorted(path.name for path in (tmp_path / "saves/checkpoints").glob("epoch-*.pt"))
    assert saved == ["epoch-0002.pt", "epoch-0003.pt"]


def test_preparing_images_leaves_the_pass_of_the_loop_alone(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, "data.num_workers=1", "data.storage=files")
    loop = RealLoop(stepper, process)
    seen: list[tuple[int, int]] = []
    stepper.state.observe = lambda numbers, batch, images, loss: seen.append((batch.epoch, batch.step))
    try:
        loop.work(2)
        loop.prepare_seconds(1)
        loop.work(3)
    finally:
        loop.close()
        stepper.close()
    assert seen == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
