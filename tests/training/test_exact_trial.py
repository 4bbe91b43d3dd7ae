"""The trial of a network before an exact run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.checkpointing.tensors import plain_weights, weights_sha256
from signs_dist.config.reading import load_config
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import OtherArithmeticError, UserError
from signs_dist.models.trial import TrialDigest
from signs_dist.training.exact_trial import is_pass_shipped, require_exact, second_process
from signs_dist.training.second_process import NoAnswerError, SecondProcess
from tests.training.parts import make_config, make_process, make_silent, make_stepper, shown

HERE = "tests.training.test_exact_trial"
EXACT = ("exact=true", "train.micro_batch=4", "train.precision=float32")


class Counting(nn.Module):
    """Counts its passes; every 20th differs."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.n = 0

    def forward(self, images: Tensor) -> Tensor:
        self.n += 1
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits + (self.n % 20 == 0)


class ReadsEnvironment(nn.Module):
    """Reads a variable that stands for anything outside of the config."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits * float(os.environ.get("SOME_FACTOR", "1"))


class TakesTwo(nn.Module):
    """Its micro-batches have two images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)
        self.place = nn.Parameter(torch.zeros(2, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits + self.place


class Answers(SecondProcess):
    """A second process that has its answer ready."""

    def __init__(self, answer: Callable[[], TrialDigest]) -> None:
        self._answer = answer

    def ask(self, *arguments: Any) -> None:
        pass

    def answer(self) -> TrialDigest:
        return self._answer()

    def close(self) -> None:
        pass


def test_a_counter_is_refused(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, *EXACT, f"model.name={HERE}:Counting")
    with pytest.raises(UserError, match=r"exact=true does not work with this model: its forward pass changes n, which"):
        require_exact(stepper, process, None)


def test_dropout_is_accepted_and_all_is_as_before(tmp_path: Path) -> None:
    stepper, process = make_stepper(tmp_path, *EXACT, "model.name=signs_net", "model.args={dropout: 0.5}")
    before, draws = weights_sha256(plain_weights(stepper.state.model)), torch.get_rng_state()
    digest = require_exact(stepper, process, None)
    assert weights_sha256(plain_weights(stepper.state.model)) == before
    assert all(parameter.grad is None for parameter in stepper.state.model.parameters())
    assert torch.equal(torch.get_rng_state(), draws)
    again, _ = make_stepper(tmp_path, *EXACT, "model.name=signs_net", "model.args={dropout: 0.5}")
    assert require_exact(again, process, None) == digest
    other, _ = make_stepper(tmp_path, *EXACT, "model.name=signs_net", "model.args={dropout: 0.6}")
    changed = require_exact(other, process, None)
    assert (changed.weights, changed.evaluation) == (digest.weights, digest.evaluation)
    assert changed.training != digest.training


def test_all_processes_try_the_same_images(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT)
    images = stepper.make_trial().images
    strategy = SingleProcess(torch.device("cpu"))
    strategy.shard = dataclasses.replace(strategy.shard, index=1, count=2)
    other, _ = make_stepper(tmp_path, *EXACT, process=dataclasses.replace(make_process(), strategy=strategy))
    assert torch.equal(other.make_trial().images, images)


def ranks_of(*digests: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Any:
    """A process whose neighbours computed what the functions make of its own digest."""
    process = make_process()

    class Neighbours(SingleProcess):
        def gather_values(self, value: Any, phase: str) -> list[Any]:
            return [value, *(digest(value) for digest in digests)]

    return dataclasses.replace(process, strategy=Neighbours(torch.device("cpu")))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (0, "the initial weights of rank 2 differ from those of rank 0"),
        (1, "rank 2 computes other bits than rank 0 from the same images, weights and seed"),
        (2, "rank 2 computes other bits than rank 0 from the same images, weights and seed"),
    ],
)
def test_a_rank_that_computes_something_else_is_named(tmp_path: Path, place: int, told: str) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT)
    process = ranks_of(lambda value: value, lambda value: (*value[:place], "other", *value[place + 1 :]))
    with pytest.raises(UserError, match=told) as refused:
        require_exact(stepper, process, None)
    assert str(refused.value).startswith("exact=true does not work with this model")
    if place:
        assert "other processors or versions of the software" in str(refused.value)
    require_exact(stepper, ranks_of(lambda value: value), None)


def elsewhere(names: dict[str, str], **changes: Any) -> Callable[[Any], Any]:
    """What a neighbour on another machine gathers: other names, and other bits in the fixed micro-batch."""

    def compute(value: Any) -> Any:
        *digests, plain = value
        return (*digests, {**plain, "host": "n2", "fingerprint": {**plain["fingerprint"], "names": names, **changes}})

    return compute


def test_another_machine_is_named_with_what_differs_there(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT)
    process = ranks_of(elsewhere({"torch": "2.11.0"}, digest="other"))
    with pytest.raises(
        OtherArithmeticError, match=r"1 of 2 processes compute other bits.*rank 1 on n2 \(cpu\): "
    ) as told:
        require_exact(stepper, process, None)
    assert f"torch {torch.__version__} → 2.11.0" in str(told.value)
    assert told.value.nodes == ("n2",)
    # The earlier attempt computed what rank 1 computes.
    require_exact(stepper, ranks_of(), None)
    assert stepper.arithmetic is not None
    before = dataclasses.replace(stepper.arithmetic, digest="other")
    with pytest.raises(OtherArithmeticError) as told:
        require_exact(stepper, process, None, before)
    assert told.value.nodes == (process.context.host,)


def test_other_names_with_the_same_bits_are_accepted(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT)
    require_exact(stepper, ranks_of(elsewhere({"torch": "2.11.0"})), None)


def test_a_network_that_does_not_take_the_fixed_micro_batch_is_tried_on_its_own(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    settings = ("exact=true", "train.micro_batch=2", "train.precision=float32", f"model.name={HERE}:TakesTwo")
    stepper, _ = make_stepper(tmp_path, *settings, process=process)
    before = weights_sha256(plain_weights(stepper.state.model))
    digest = require_exact(stepper, process, None)
    assert stepper.arithmetic is not None
    assert (stepper.arithmetic.digest, stepper.arithmetic.names["torch"]) == ("", torch.__version__)
    assert "the model fails for the 4 images by which exact mode compares machines" in " ".join(shown(process).split())
    assert weights_sha256(plain_weights(stepper.state.model)) == before
    assert all(parameter.grad is None for parameter in stepper.state.model.parameters())
    require_exact(stepper, ranks_of(elsewhere({"torch": "2.11.0"})), None, stepper.arithmetic)
    with pytest.raises(OtherArithmeticError, match=r"rank 1 on n2 \(cpu\): torch"):  # by its own micro-batch
        require_exact(
            stepper, ranks_of(lambda value: elsewhere({"torch": "2.11.0"})((value[0], "other", *value[2:]))), None
        )
    assert require_exact(stepper, process, None) == digest


def test_a_process_without_room_for_the_fixed_micro_batch_is_not_odd(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *EXACT)
    require_exact(stepper, ranks_of(elsewhere({}, digest="", subject="")), None)


@pytest.mark.parametrize(
    ("field", "told"), [("weights", "it has other initial weights"), ("training", "it computes other bits")]
)
def test_a_second_process_that_computes_something_else(tmp_path: Path, field: str, told: str) -> None:
    stepper, process = make_stepper(tmp_path, *EXACT)
    digest = require_exact(stepper, process, None)
    require_exact(stepper, process, Answers(lambda: digest))
    with pytest.raises(UserError, match=f"exact=true does not work with this model: in a second process, .*{told}"):
        require_exact(stepper, process, Answers(lambda: dataclasses.replace(digest, **{field: "other"})))


def test_a_second_process_that_fails_is_said(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    stepper, _ = make_stepper(tmp_path, *EXACT, process=process)

    def fail() -> TrialDigest:
        raise NoAnswerError("ModuleNotFoundError: No module named 'mine'")

    require_exact(stepper, process, Answers(fail))
    text = " ".join(shown(process).split())
    assert "the model was not tried in a second process: ModuleNotFoundError: No module named 'mine'. Whether" in text


@pytest.mark.parametrize("settings", [("model.name=mlp",), ("model.name=torchvision:resnet18",)])
def test_networks_that_are_shipped_need_no_second_process(tmp_path: Path, settings: tuple[str, ...]) -> None:
    with second_process(make_config(tmp_path, *EXACT, *settings), make_process()) as second:
        assert second is None


def test_neither_fast_mode_nor_other_ranks_start_a_second_process(tmp_path: Path) -> None:
    own = f"model.name={HERE}:Counting"
    with second_process(make_config(tmp_path, own), make_process()) as second:
        assert second is None
    with second_process(make_config(tmp_path, *EXACT, own), make_silent(make_process())) as second:
        assert second is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], True),
        (["model.name=torchvision:resnet18"], True),
        (["model.name=my:Net"], False),
        (["loss.name=my:loss"], False),
        (["optim.name=my:make"], True),  # it runs in no pass
    ],
)
def test_which_passes_are_tried_in_full(settings: list[str], expected: bool) -> None:
    assert is_pass_shipped(load_config(None, settings)) is expected
