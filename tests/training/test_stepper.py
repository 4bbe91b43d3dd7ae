"""Training steps and evaluations without files."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.config.settings import ScheduleConfig
from signs_dist.data.augment import to_unit_floats
from signs_dist.data.progressive import resized
from signs_dist.environment.worker_limits import read_limits
from signs_dist.errors import LoadingError, UserError
from signs_dist.learning.metrics import RunningSums, Score, to_host
from signs_dist.training import stepper as stepper_module
from signs_dist.training.step_parts import make_learning_rate
from signs_dist.training.stepper import Stepper
from tests.training.parts import make_config, make_stepper


def digest(stepper: Stepper) -> str:
    return weights_sha256(plain_weights(stepper.state.model))


def score_of(sums: RunningSums) -> Score:
    return Score.from_sums(to_host(sums.tensors()))


def children() -> set[str]:
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


def test_an_epoch_is_trained_step_by_step(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path)
    before = digest(stepper)
    reports = list(stepper.steps(Cursor(0, 0)))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    assert score_of(reports[-1].sums).num_images == 4 * 8
    assert digest(stepper) != before
    assert (process.pulse.phase, process.pulse.step) == ("load", 4)


def test_the_rest_of_an_epoch_is_trained_from_its_middle(tmp_path: Path) -> None:
    whole, _ = make_stepper(tmp_path)
    for report in whole.steps(Cursor(1, 0)):
        sums = report.sums
    parts, _ = make_stepper(tmp_path)
    steps = parts.steps(Cursor(1, 0))
    first = [next(steps), next(steps)][-1]
    steps.close()  # type: ignore[attr-defined]
    rest = list(parts.steps(Cursor(1, 2), first.sums))
    assert [report.step for report in rest] == [3, 4]
    assert digest(parts) == digest(whole)
    assert score_of(rest[-1].sums).loss_sum == score_of(sums).loss_sum
    assert score_of(rest[-1].sums).num_images == 32


def test_wishes_are_asked_each_step(tmp_path: Path) -> None:
    asked: list[str] = []

    def stop() -> bool:
        asked.append("stop")
        return len(asked) == 3

    stepper, _ = make_stepper(tmp_path, wishes=(stop, lambda: False))
    agreed = [stepper.state.sync.stop_agreed for _ in stepper.steps(Cursor(0, 0))]
    assert agreed == [False, False, True, False]


def test_every_split_but_train_is_evaluated_once_over(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path)
    assert stepper.evaluation_loaders.keys() == {"val", "test"}
    assert score_of(stepper.evaluate("val")).num_images == 12
    assert score_of(stepper.evaluate("test")).num_images == 12


def test_evaluation_smooths_no_labels(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "loss.label_smoothing=0.5", "train.precision=float32")
    batch = next(iter(stepper.evaluation_loaders["val"]))
    images, labels = stepper.prepare_evaluation(batch)
    with torch.no_grad():
        expected = functional.cross_entropy(stepper.state.model.eval()(images), labels).item()
    assert score_of(stepper.evaluate("val")).loss == pytest.approx(expected, abs=1e-6)


def test_the_average_of_the_weights_is_evaluated(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "ema.decay=0.9", "optim.lr=0.5")
    for _ in stepper.steps(Cursor(0, 0)):
        pass
    average, last = stepper.state.average, digest(stepper)
    assert average is not None
    by_average = score_of(stepper.evaluate("val")).loss
    assert digest(stepper) == last  # they are put back
    stepper.state.average = None
    assert score_of(stepper.evaluate("val")).loss != by_average
    stepper.state.model.load_state_dict({**stepper.state.model.state_dict(), **average.weights()})
    assert score_of(stepper.evaluate("val")).loss == by_average


def test_the_learning_rate_follows_the_images() -> None:
    schedule = ScheduleConfig(name="step", step_epochs=1, step_factor=0.1)
    rate = make_learning_rate(schedule, 0.5, images_per_epoch=32, num_epochs=10)
    assert [rate(images) for images in (0, 31, 32, 64)] == pytest.approx([0.5, 0.5, 0.05, 0.005])


def test_an_evaluation_of_packed_images_starts_no_workers(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "data.num_workers=1")
    before = children()
    stepper.evaluate("val")
    assert children() == before
    stepper.close()


def test_closing_ends_the_workers_though_an_error_is_kept(tmp_path: Path) -> None:
    settings = ("data.num_workers=1", "data.storage=files", "optim.lr=1e30", "train.precision=float32")
    stepper, _ = make_stepper(tmp_path, *settings)
    before = children()
    stepper.evaluate("val")
    with pytest.raises(RuntimeError, match="not a finite number") as kept:
        list(stepper.steps(Cursor(0, 0)))
    assert len(children() - before) == 2  # one to train, one to evaluate
    stepper.close()
    deadline = time.monotonic() + 5
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children() - before == set()
    assert kept.value.__traceback__ is not None


def test_a_closed_stepper_loads_nothing(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path)
    stepper.close()
    with pytest.raises(AssertionError, match="the loader is closed"):
        next(stepper.steps(Cursor(0, 0)))
    with pytest.raises(AssertionError, match="the loader is closed"):
        stepper.evaluate("val")


def test_settings_of_the_config_reach_the_state(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, "optim.clip_norm=2", "seed=5", "train.precision=float32")
    state = stepper.state
    assert (state.clip_norm, state.seed, state.num_classes, state.average) == (2.0, 5, 3, None)
    assert state.pulse is process.pulse
    assert state.learning_rate(0) == pytest.approx(0.1 * make_config(tmp_path).schedule.start_factor)


def test_workers_for_which_there_is_no_room_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dataclasses.replace(read_limits(), open_files=20, open_files_ceiling=20)
    monkeypatch.setattr(stepper_module, "read_limits", lambda: few)
    make_stepper(tmp_path)  # no workers
    # Each of the three splits is decoded by workers of its own, packed images by those of training only.
    with pytest.raises(UserError, match=r"6 loader workers need about \d+ open files, and this process may have 20"):
        make_stepper(tmp_path, "data.storage=files", "data.num_workers=2")
    with pytest.raises(UserError, match="2 loader workers need about"):
        make_stepper(tmp_path, "data.num_workers=2")


def test_images_that_do_not_fit_into_shared_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(read_limits(), shared_bytes=64 * 2**20)
    monkeypatch.setattr(stepper_module, "read_limits", lambda: small)
    # evaluate.batch=4096 images of 3 x 64 x 64 bytes, twice
    settings = ("data.storage=files", "data.num_workers=1", "data.image_size=64", "evaluate.batch=4096")
    with pytest.raises(UserError, match=r"hold up to 96 MiB of images in shared memory, and /dev/shm has 64 MiB free"):
        make_stepper(tmp_path, *settings)


def test_all_loaders_report_a_read_that_hangs(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path)
    stuck: list[LoadingError] = []
    stepper.when_loading_is_stuck(stuck.append)
    loaders = [stepper.train_loader, *stepper.evaluation_loaders.values()]
    assert [loader.on_stuck for loader in loaders] == [stuck.append] * 3


class TwoHeaded(nn.Module):
    """A network that returns a second output in training mode only, as networks with auxiliary heads do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Any:
        logits = self.head(images.mean(dim=(2, 3)))
        return (logits, logits) if self.training else logits


def test_a_second_output_in_training_mode_is_named(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, f"model.name={__name__}:TwoHeaded")
    with pytest.raises(UserError, match=r"the model returns a tuple in training mode\. It must return one tensor"):
        next(stepper.steps(Cursor(0, 0)))


class Fixed(nn.Module):
    """A network with seven outputs, whatever the data."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, 7)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits


def test_another_number_of_outputs_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"model\.name={__name__}:Fixed has 7 outputs, and the data 3 classes"):
        make_stepper(tmp_path, f"model.name={__name__}:Fixed")


def test_class_weights_count_in_training_and_not_in_evaluation(tmp_path: Path) -> None:
    scores = []
    for weights in ("null", "[3.0, 3.0, 3.0]"):
        stepper, _ = make_stepper(tmp_path, "loss.label_smoothing=0", f"loss.class_weights={weights}")
        validation = score_of(stepper.evaluate("val")).loss
        scores.append((score_of(next(iter(stepper.steps(Cursor(0, 0)))).sums).loss, validation))
    assert scores[1][0] == pytest.approx(3 * scores[0][0])
    assert scores[1][1] == scores[0][1]


def test_weights_for_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"loss\.class_weights has 2 weights, and the data has 3 classes: 0, 1, 2\."):
        make_stepper(tmp_path, "loss.class_weights=[1, 2]")


@pytest.mark.parametrize("settings", [("augment.mixup=0.4",), ("augment.cutmix=1", "train.micro_batch=4")])
def test_mixed_images_are_counted_under_the_class_of_their_larger_share(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    stepper, _ = make_stepper(tmp_path, *settings)
    expected = torch.zeros(3, dtype=torch.int64)
    for batch in stepper.train_loader.epoch(0):
        _, targets = stepper.prepare_train(batch)
        assert targets.shape == (8, 3)
        assert targets.is_floating_point()
        expected += targets.argmax(dim=1).bincount(minlength=3)
    reports = list(stepper.steps(Cursor(0, 0)))
    assert score_of(reports[-1].sums).confusion.sum(axis=1).tolist() == expected.tolist()


def test_images_are_mixed_within_their_micro_batch(tmp_path: Path) -> None:
    whole, _ = make_stepper(tmp_path, "augment.mixup=1", "train.micro_batch=4")
    batch = next(iter(whole.train_loader.epoch(0)))
    images, targets = whole.prepare_train(batch)
    for first in (0, 4):
        part_images, part_targets = whole.prepare_train(batch.part(first, first + 4))
        assert torch.equal(part_images, images[first : first + 4])
        assert torch.equal(part_targets, targets[first : first + 4])
    larger, _ = make_stepper(tmp_path, "augment.mixup=1", "train.micro_batch=8")
    assert not torch.equal(larger.prepare_train(batch)[0], images)


def test_a_micro_batch_of_one_image_cannot_be_mixed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"augment\.mixup=0\.2 mixes each image with another one of its micro-batch"):
        make_stepper(tmp_path, "augment.mixup=0.2", "train.micro_batch=1")


def test_the_first_images_are_mixed_as_in_training(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, "augment.mixup=1", "train.micro_batch=4")
    batch = next(iter(stepper.train_loader.epoch(0)))
    images, targets = stepper.prepare_train(batch)
    for count in (3, 6):
        first, first_images, first_targets = stepper.first_images(count)
        assert first.samples.tolist() == batch.samples[:count].tolist()
        assert torch.equal(first_images, images[:count])
        assert torch.equal(first_targets, targets[:count])


def test_training_images_grow_with_the_epochs_and_evaluations_see_all_of_them(tmp_path: Path) -> None:
    grows = ("train.epochs=4", "train.progressive_sizes=[[0.5, 0.25], [0.75, 0.5]]", "model.name=signs_fast")
    stepper, _ = make_stepper(tmp_path, *grows)
    batch = next(iter(stepper.evaluation_loaders["val"]))
    sides = [stepper.prepare_train(batch._replace(epoch=epoch))[0].shape[-1] for epoch in range(4)]
    assert sides == [8, 12, 16, 16]
    assert stepper.prepare_train.resizes_bytes
    assert stepper.prepare_evaluation(batch)[0].shape[-1] == 16


def test_a_compiled_network_is_tried_for_each_size_and_keeps_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    calls: list[bool] = []

    def compiler(model: nn.Module, **options: Any) -> Any:
        def compute(images: Tensor) -> Tensor:
            sides.append(images.shape[-1])
            calls.append(torch.is_grad_enabled())
            logits: Tensor = model(images)
            return logits

        return compute

    settings = ("model.name=signs_fast", "data.image_size=32", "train.progressive_sizes=[[0.5, 0.5]]")
    plain, _ = make_stepper(tmp_path, *settings)
    monkeypatch.setattr(torch, "compile", compiler)
    compiled, _ = make_stepper(tmp_path, *settings, "train.compile=true")
    assert sides == [16, 32]
    assert all(parameter.grad is None for parameter in compiled.state.model.parameters())
    for stepper in (plain, compiled):
        list(stepper.steps(Cursor(0, 0)))
    assert digest(compiled) == digest(plain), "the trial of the compiler leaves no trace"
    num_calls = len(calls)
    compiled.evaluate("val")
    assert len(calls) == num_calls, "the network itself is evaluated"
    assert all(calls)


def test_a_compiler_that_fails_is_told_before_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiler(model: nn.Module, **options: Any) -> Any:
        def compute(images: Tensor) -> Tensor:
            raise RuntimeError("no compiler")

        return compute

    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.raises(UserError, match=r"fails for this network on this machine: no compiler\. Type train\.c"):
        make_stepper(tmp_path, "train.compile=default")


def test_exact_mode_resizes_floats_and_other_runs_bytes(tmp_path: Path) -> None:
    grows = ("train.epochs=4", "train.progressive_sizes=[[0.5, 0.25]]", "model.name=signs_fast", "augment.backend=none")
    fast, _ = make_stepper(tmp_path, *grows)
    exact, _ = make_stepper(tmp_path, *grows, "exact=true", "train.micro_batch=4")
    batch = next(iter(fast.train_loader.epoch(0)))
    of_floats = resized(to_unit_floats(batch.images), 8)
    of_bytes = to_unit_floats(resized(batch.images, 8))
    assert not torch.equal(of_floats, of_bytes)
    for stepper, expected in ((exact, of_floats), (fast, of_bytes)):
        preparer = stepper.prepare_train
        assert torch.equal(preparer(batch)[0], expected * preparer.factor + preparer.offset)
