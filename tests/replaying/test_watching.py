"""Looking into a step changes no bit of it, and names where numbers stop being finite."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.errors import NonFiniteLossError
from signs_dist.replaying.first_bad import FirstBad, find_first_bad
from signs_dist.replaying.records import MicroBatch, Step
from signs_dist.replaying.watching import StepWatch, find_bad_weights, gradients_of, norm_of
from signs_dist.training.cached_features import with_features
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.stepper import Stepper
from tests.own_modules import module_writer
from tests.training.parts import make_prepared, make_process, make_stepper

SETTINGS = ("train.micro_batch=2", "model.name=signs_net", "model.args={channels: 4, dropout: 0.3}")


def train_a_step(stepper: Stepper) -> None:
    steps = stepper.steps(Cursor(0, 0))
    next(steps)
    steps.close()


def watch_a_step(stepper: Stepper, **how: Any) -> list[MicroBatch]:
    with StepWatch(stepper, **how) as watch, contextlib.suppress(NonFiniteLossError):
        train_a_step(stepper)
    return watch.micro_batches()


@pytest.mark.parametrize("mode", ["exact=false", "exact=true"])
@pytest.mark.parametrize("extra", ["augment.mixup=0.5", "model.name=mlp", "optim.clip_norm=0.1"])
def test_the_step_has_the_bits_that_it_has_unwatched(mode: str, extra: str, tmp_path: Path) -> None:
    names = {extra.partition("=")[0]}
    settings = [each for each in (*SETTINGS, mode) if each.partition("=")[0] not in names]
    if extra == "model.name=mlp":
        settings = [each for each in settings if not each.startswith("model.args")]
    plain, _ = make_stepper(tmp_path, *settings, extra)
    watched, _ = make_stepper(tmp_path, *settings, extra)
    train_a_step(plain)
    seen = watch_a_step(watched, keeps_gradients=True)
    digests = [weights_sha256(plain_weights(each.state.model)) for each in (plain, watched)]
    assert digests[0] == digests[1]
    assert [each.number for each in seen] == [0, 1, 2, 3]
    assert watched.state.observe is None


@pytest.mark.parametrize("mode", ["exact=false", "exact=true"])
def test_the_norm_before_clipping_is_that_of_the_sum_of_the_parts(mode: str, tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS, mode, "optim.clip_norm=0.1")
    with StepWatch(stepper, keeps_gradients=True) as watch:
        train_a_step(stepper)
    seen = [each.gradients for each in watch.micro_batches() if each.gradients is not None]
    sums = [sum(part[name] for part in seen) for name in seen[0]]
    assert watch.unclipped_norm == pytest.approx(norm_of(sums), rel=1e-4)  # type: ignore[arg-type]
    assert watch.unclipped_norm > 0.2
    assert norm_of(gradients_of(stepper.state.model).values()) == pytest.approx(0.1, rel=1e-3)
    assert stepper.state.observe_sums is None


def test_the_parts_of_the_gradient_add_up_to_it(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS, "exact=true")
    seen = watch_a_step(stepper, keeps_gradients=True)
    for name, parameter in stepper.state.model.named_parameters():
        parts = [each.gradients[name] for each in seen if each.gradients is not None]
        assert parameter.grad is not None
        assert torch.equal((parts[0] + parts[1]) + (parts[2] + parts[3]), parameter.grad)  # the tree of four leaves
    norms = [math.sqrt(sum(float(part.double().square().sum()) for part in each.gradients.values())) for each in seen]  # type: ignore[union-attr]
    assert [each.gradient_norm for each in seen] == pytest.approx([4 * norm for norm in norms])  # of the mean loss


def test_one_micro_batch_alone_is_looked_at(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS)
    (one,) = watch_a_step(stepper, only=2)
    assert one.number == 2
    assert one.gradients is None
    assert {event.direction for event in one.events} == {"forward", "backward", "gradient"}
    assert one.images.shape == (2, 3, 16, 16)


def test_stored_features_have_the_images_of_their_micro_batch(tmp_path: Path) -> None:
    process = make_process()
    settings = ("train.micro_batch=2", "model.freeze=backbone", "model.cache_features=true", "augment.backend=none")
    prepared = with_features(make_prepared(tmp_path, *settings, process=process), process)
    seen = watch_a_step(Stepper(prepared, process))
    assert [each.images.shape for each in seen] == [(2, 3, 16, 16)] * 4
    assert all(each.features is not None and each.features.ndim == 2 for each in seen)
    assert {event.name for event in seen[0].events if event.direction == "backward"} == {"5"}  # the head of an mlp


class Trap(nn.Module):
    """Does what it is told to, and passes its input on."""

    def __init__(self, what: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.what = what

    def forward(self, values: Tensor) -> Tensor:
        return self.what(values)


def overflow(values: Tensor) -> Tensor:
    return values * 3e38 * 3e38


def bad_square_root(values: Tensor) -> Tensor:
    return values + (values * 0).sqrt()  # finite forward; backward: infinity times zero


def set_trap(stepper: Stepper, what: Callable[[Tensor], Tensor]) -> None:
    head = stepper.state.model.get_submodule("head")
    stepper.state.model.head = nn.Sequential(Trap(what), head)


def look(stepper: Stepper) -> FirstBad:
    bad = find_bad_weights(stepper.state.model)
    step = Step(1, 1, 1, 0.1, watch_a_step(stepper), bad, find_bad_weights(stepper.state.model))
    found = find_first_bad([step])
    assert found is not None
    return found


def test_an_infinite_weight_is_named_with_its_layer(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS)
    name, parameter = [*stepper.state.model.named_parameters()][3]
    with torch.no_grad():
        parameter.flatten()[0] = math.inf
    found = look(stepper)
    assert (found.event.name, found.event.direction) == (name.rpartition(".")[0], "forward")
    assert found.bad_weights == (name,)


def test_a_layer_that_overflows_is_named(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS)
    set_trap(stepper, overflow)
    found = look(stepper)
    assert (found.event.name, found.event.direction, found.bad_weights) == ("head.0", "forward", ())
    assert found.before is not None
    assert 0 < found.before.largest < 1e6


def test_a_gradient_that_overflows_in_backward_alone_is_named(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS)
    set_trap(stepper, bad_square_root)
    found = look(stepper)
    assert found.event.direction == "backward"
    assert found.event.name != "head.0"  # the gradient at its output is finite
    assert found.before is not None
    assert found.before.name == "head.0"
    assert find_bad_weights(stepper.state.model)  # after the step


def test_a_loss_function_that_gives_infinity_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, _ = make_stepper(tmp_path, *SETTINGS)
    monkeypatch.setattr(stepper.state.forward, "loss_function", lambda logits, targets: -(logits[:, 0] * 0).log())
    found = look(stepper)
    assert found.event.name == "(loss)"
    assert "the loss function is the first" in found.describe()


def test_an_image_that_is_not_finite_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = ImagePreparer.__call__

    def spoilt(self: ImagePreparer, batch: Any) -> tuple[Tensor, Tensor]:
        images, targets = prepare(self, batch)
        images[-1, 0, 3, 3] = math.nan
        return images, targets

    monkeypatch.setattr(ImagePreparer, "__call__", spoilt)
    stepper, _ = make_stepper(tmp_path, *SETTINGS)
    found = look(stepper)
    assert found.event.name == "(images)"
    assert found.event.num_bad == 1


BLOCKS = """
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.relu, self.drop = nn.Linear(8, 8), nn.ReLU(inplace=True), nn.Dropout(0.5)

        def forward(self, values):
            return values + self.drop(self.relu(self.first(values)))

    def make(num_classes, image_size):
        stem = nn.Linear(3 * image_size**2, 8)
        return nn.Sequential(nn.Flatten(), stem, Block(), Block(), nn.Linear(8, num_classes))
"""


def test_gradient_checkpointing_shows_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = module_writer(tmp_path, monkeypatch)(BLOCKS)
    settings = ("train.micro_batch=2", f"model.name={name}:make", "train.precision=float32")
    plain, _ = make_stepper(tmp_path, *settings)
    recomputed, _ = make_stepper(tmp_path, *settings, "model.gradient_checkpointing=true")
    (one,), (other,) = watch_a_step(plain, only=1), watch_a_step(recomputed, only=1)
    assert len(one.events) == len(other.events) == len(set(other.events))
    assert set(one.events) == set(other.events)
    assert {event.name for event in other.events} >= {"2", "2.first", "2.relu", "2.drop"}
