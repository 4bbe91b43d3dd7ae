"""A recorded training step against the plain one, with a recorder that repeats ATen's calls on the CPU."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import plain_weights
from signs_dist.data.batches import Batch
from signs_dist.distributed.step_flags import NUM_FLAGS
from signs_dist.distributed.step_sync import Replayed
from signs_dist.errors import NonFiniteLossError, StoppedError, UserError
from signs_dist.learning.metrics import Score, to_host
from signs_dist.training import graphed_step as graphed_step_module
from signs_dist.training.graph_choice import GraphChoice
from signs_dist.training.graphed_step import NUM_WARM_UP, GraphedStep
from signs_dist.training.loop import TrainingState
from signs_dist.training.stepper import Stepper
from signs_dist.training.trainer import Trainer
from tests.training.parts import Made, make_stepper, make_trainer
from tests.training.recorded_calls import CallRecorder
from tests.training.waiting_networks import Waits, compute_with

NET = ("model.name=signs_net", "model.args={channels: 4, dropout: 0.3}", "train.epochs=3", "train.num_threads=1")
"""12 steps."""
EXACT = ("exact=true", "train.micro_batch=2")
POWERS = ("schedule.name=step", "schedule.step_epochs=1", "schedule.step_factor=0.5", "optim.lr=0.0078125")
"""Learning rates that are the same numbers in float32 and in double precision."""
WHOLE = GraphChoice("step")
PASSES = GraphChoice("passes", "for a test")


def graphed(stepper: Stepper, choice: GraphChoice, *, tell: Callable[[str], None] = print) -> GraphedStep:
    """Let a stepper do its steps as on a GPU."""
    step = GraphedStep(choice, CallRecorder, recover=stepper._renew, tell=tell)
    stepper._do_step = step
    return step


def train(stepper: Stepper, epochs: int = 3) -> list[tuple[float, int]]:
    """Loss and hits of each epoch."""
    found = []
    for epoch in range(epochs):
        for report in stepper.steps(Cursor(epoch, 0)):
            sums = report.sums
        score = Score.from_sums(to_host(sums.tensors()))
        found.append((score.loss, score.num_correct))
    return found


def weights(stepper: Stepper) -> dict[str, Tensor]:
    average = stepper.state.average
    kept = plain_weights(stepper.state.model)
    return kept | ({f"average of {name}": value for name, value in average.weights().items()} if average else {})


def both(folder: Path, *settings: str, choice: GraphChoice) -> tuple[Stepper, Stepper, list[Any], list[Any]]:
    """A plain and a graphed run of the same config, trained."""
    plain, _ = make_stepper(folder, *NET, *settings)
    recorded, _ = make_stepper(folder, *NET, *settings)
    step = graphed(recorded, choice)
    scores = train(plain), train(recorded)
    assert step.choice == choice, "it fell back"
    assert any(one.replays for one in step._recordings.values())
    return plain, recorded, *scores


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("train.micro_batch=4", "optim.clip_norm=0.5"),
        ("augment.backend=batch", "augment.mixup=0.5", "augment.flip=0.5"),
        ("optim.name=sgd", "optim.layer_decay=0.5"),
        ("optim.name=adamw", "optim.weight_decay=0.1", "loss.class_weights=balanced"),
    ],
    ids=["one pass", "two passes", "mixed images", "sgd", "weighted"],
)
def test_a_replayed_step_gives_the_bits_of_the_plain_one(tmp_path: Path, settings: tuple[str, ...]) -> None:
    """Dropout, the learning rate, Adam's step number and BatchNorm's statistics differ at each step."""
    plain, recorded, expected, found = both(tmp_path, *settings, *POWERS, choice=WHOLE)
    assert found == expected
    for name, value in weights(plain).items():
        assert torch.equal(weights(recorded)[name], value), name


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adagrad"])
@pytest.mark.parametrize("settings", [EXACT, ("optim.clip_norm=0.5", "ema.decay=0.9")], ids=["exact", "fast"])
def test_the_optimizer_beside_the_recording_gives_the_bits_of_the_plain_step(
    tmp_path: Path, settings: tuple[str, ...], optimizer: str
) -> None:
    plain, recorded, expected, found = both(tmp_path, *settings, f"optim.name={optimizer}", choice=PASSES)
    assert found == expected
    for name, value in weights(plain).items():
        assert torch.equal(weights(recorded)[name], value), name


def test_the_moving_average_is_that_of_the_plain_step_within_rounding(tmp_path: Path) -> None:
    plain, recorded, expected, found = both(tmp_path, "ema.decay=0.9", *POWERS, choice=WHOLE)
    assert found == expected
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(recorded)[name], value, msg=name)
    assert plain.state.average is not None
    assert recorded.state.average is not None
    assert recorded.state.average.num_updates == plain.state.average.num_updates == 12


def test_any_learning_rate_is_followed_within_rounding(tmp_path: Path) -> None:
    plain, recorded, _, _ = both(tmp_path, "schedule.name=one_cycle", "optim.lr=0.003", choice=WHOLE)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(recorded)[name], value, rtol=1e-3, atol=1e-5, msg=name)
    # A checkpoint has the rates as numbers.
    groups = recorded.state.optimizer.state_dict()["param_groups"]
    assert [group["lr"] for group in groups] == [
        group["lr"] for group in plain.state.optimizer.state_dict()["param_groups"]
    ]


def test_float16_scales_the_loss_in_the_recording_too(tmp_path: Path) -> None:
    steppers = [make_stepper(tmp_path, *NET, *POWERS)[0] for _ in range(2)]
    for stepper in steppers:
        stepper.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    plain, recorded = steppers
    step = graphed(recorded, WHOLE)
    assert train(recorded) == train(plain)
    assert step.choice == WHOLE
    assert recorded.state.scaler.state_dict() == plain.state.scaler.state_dict()
    assert plain.state.scaler.get_scale() == 2.0**16


def frozen_rate(step: GraphedStep, state: TrainingState) -> None:
    for rate in step._rates:
        rate.fill_(0.001)


def no_seed(device: torch.device, key: int) -> None:
    pass


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [(GraphedStep, "_write_numbers", frozen_rate), (graphed_step_module, "seed_device", no_seed)],
    ids=["learning rate", "seed of dropout"],
)
def test_what_is_not_written_before_a_replay_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, value: Any
) -> None:
    plain, _ = make_stepper(tmp_path, *NET, *POWERS)
    recorded, _ = make_stepper(tmp_path, *NET, *POWERS)
    graphed(recorded, WHOLE)
    monkeypatch.setattr(place, name, value)
    train(plain)
    train(recorded)
    assert any(not torch.equal(weights(recorded)[name], value) for name, value in weights(plain).items())


def test_a_size_of_progressive_sizes_has_a_recording_of_its_own(tmp_path: Path) -> None:
    sizes = ("train.progressive_sizes=[[0.5, 0.5]]", "train.epochs=4", "model.name=signs_fast", "data.image_size=32")
    settings = (*sizes, "train.num_threads=1", *POWERS)
    plain, _ = make_stepper(tmp_path, *settings)
    recorded, _ = make_stepper(tmp_path, *settings)
    step = graphed(recorded, WHOLE)
    assert train(recorded, 4) == train(plain, 4)
    assert [one.images.shape[-1] for one in step._recordings.values()] == [16, 32]
    assert all(one.replays for one in step._recordings.values())


def test_after_a_plain_step_the_optimizer_is_guarded_by_the_flags_of_the_replay(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *NET)
    graphed(stepper, PASSES)
    train(stepper, 2)
    sync = stepper.state.sync
    plain = torch.zeros(NUM_FLAGS)
    sync._flag_sums = plain
    replayed = torch.tensor([1.0, 0.0, 0.0])
    with pytest.raises(NonFiniteLossError):  # on the CPU it is told at once
        sync.finish(Replayed(replayed, []))
    assert sync._flag_sums is replayed, "what `guard` gives to the optimizer on a GPU"


def test_the_shapes_that_are_kept_and_the_recordings_of_a_run_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphed_step_module, "MOST_RECORDED", 2)
    monkeypatch.setattr(graphed_step_module, "MOST_RECORDINGS", 3)
    stepper, _ = make_stepper(tmp_path, *NET)
    step = graphed(stepper, WHOLE)
    found = [step._find([(torch.zeros(1, 3, side, side), torch.zeros(1))]) for side in (8, 9, 10, 11, 10)]
    assert [one is not None for one in found] == [True, True, True, False, True]
    assert found[2] is found[4]
    assert [one.images.shape[-1] for one in step._recordings.values()] == [9, 10]
    assert step._find([(torch.zeros(1, 3, 9, 9), torch.zeros(1)), (torch.zeros(1, 3, 8, 8), torch.zeros(1))]) is None


@pytest.mark.parametrize("choice", [WHOLE, PASSES])
def test_a_thaw_begins_a_new_recording(tmp_path: Path, choice: GraphChoice) -> None:
    settings = ("model.freeze=backbone", "model.thaw_after_epochs=2", *POWERS)
    plain, recorded, expected, found = both(tmp_path, *settings, "train.epochs=4", choice=choice)
    assert found == expected
    assert train(recorded, 4)[3] == train(plain, 4)[3]


def test_a_run_that_stops_resumes_with_the_bits_of_one_that_does_not(tmp_path: Path) -> None:
    """The steps before a recording compute what it replays, so it does not matter where it begins."""
    rate = ("schedule.name=one_cycle", "optim.lr=0.003", "ema.decay=0.9")
    whole, _ = make_stepper(tmp_path, *NET, *rate)
    graphed(whole, WHOLE)
    train(whole)
    stopped, _ = make_stepper(tmp_path, *NET, *rate)
    graphed(stopped, WHOLE)
    train(stopped, 2)
    again, _ = make_stepper(tmp_path, *NET, *rate)
    graphed(again, WHOLE)
    again.state.model.load_state_dict(stopped.state.model.state_dict())
    again.state.optimizer.load_state_dict(stopped.state.optimizer.state_dict())
    assert again.state.average is not None
    assert stopped.state.average is not None
    again.state.average.load_state_dict(stopped.state.average.state_dict())
    list(again.steps(Cursor(2, 0)))
    for name, value in weights(whole).items():
        assert torch.equal(weights(again)[name], value), name


@pytest.mark.parametrize(("settings", "choice"), [(("ema.decay=0.9",), WHOLE), (EXACT, PASSES)], ids=["fast", "exact"])
def test_a_stop_within_an_epoch_is_saved_and_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], choice: GraphChoice
) -> None:
    def make(run: str) -> Made:
        made = make_trainer(tmp_path, *NET, *settings, run=run)
        graphed(made.stepper, choice)
        return made

    expected = make("whole").trainer.train(time.perf_counter())
    made = make("stopped")
    original = Trainer._after_step

    def after_step(self: Trainer, sums: Any) -> None:
        if self._run_state.steps_done == 6:
            made.stop.is_set, made.stop.signal_number = True, signal.SIGTERM
        original(self, sums)

    monkeypatch.setattr(Trainer, "_after_step", after_step)
    with pytest.raises(StoppedError, match="after epoch 2, step 3 of 4"):  # asked once a step
        made.trainer.train(time.perf_counter())
    monkeypatch.undo()
    again = make("stopped")
    newest = again.saver.newest()
    assert newest is not None
    again.run_state.restore(read_checkpoint(newest), again.stepper, newest)
    assert again.trainer.train(time.perf_counter())["weights_sha256"] == expected["weights_sha256"]
    assert again.run_state.steps_done_here == 5


@pytest.mark.parametrize("mode", [(), EXACT, ("train.micro_batch=4", "ema.decay=0.5")], ids=["fast", "exact", "two"])
def test_a_step_that_cannot_be_recorded_is_done_by_the_plain_step(tmp_path: Path, mode: tuple[str, ...]) -> None:
    def spoiled() -> Stepper:
        stepper, _ = make_stepper(tmp_path, *NET, *POWERS, *mode)
        compute_with(stepper, Waits(stepper.state.model))
        return stepper

    told: list[str] = []
    plain, recorded = spoiled(), spoiled()
    step = graphed(recorded, PASSES, tell=told.append)
    before = CallRecorder.num_recovered
    assert train(recorded) == train(plain)
    why = "it cannot be recorded: operation not permitted when stream is capturing: _local_scalar_dense"
    assert told == [f"the training step is no CUDA graph: {why}"]
    assert step.choice.covers == "nothing"
    assert CallRecorder.num_recovered == before + 1
    for name, value in weights(plain).items():
        assert torch.equal(weights(recorded)[name], value), name

    required = spoiled()
    graphed(required, dataclasses.replace(PASSES, is_required=True))
    with pytest.raises(UserError, match=r"train.graph=true: the training step cannot be recorded .* capturing"):
        train(required)


class _WaitingGradient(torch.autograd.Function):
    """Changes nothing, and waits for the device in each backward pass."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (2 if gradient.abs().max().item() > 1e9 else 1)


class WaitsForItsGradient(nn.Module):
    """A network that waits for the device within the backward pass, when a part of its gradients is computed."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.last = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        parts = list(self.inner.children())
        logits: Tensor = parts[-1](_WaitingGradient.apply(nn.Sequential(*parts[:-1])(images)))
        return logits


def test_a_recording_that_fails_amid_the_gradients_leaves_nothing_behind(tmp_path: Path) -> None:
    """Exact mode takes each gradient from its parameter: only the new sum may do so."""

    def spoiled() -> Stepper:
        stepper, _ = make_stepper(tmp_path, *POWERS, *EXACT, "model.name=mlp", "train.epochs=3", "train.num_threads=1")
        compute_with(stepper, WaitsForItsGradient(stepper.state.model))
        return stepper

    plain, recorded = spoiled(), spoiled()
    step = graphed(recorded, PASSES)
    assert train(recorded) == train(plain)
    assert step.choice.covers == "nothing"
    for name, value in weights(plain).items():
        assert torch.equal(weights(recorded)[name], value), name


def test_a_loss_that_is_no_number_names_its_step_and_images(tmp_path: Path) -> None:
    stepper, _ = make_stepper(tmp_path, *NET, "train.micro_batch=4")
    graphed(stepper, PASSES)
    prepare = stepper.prepare_train

    class Spoiled:
        device = prepare.device

        def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
            images, targets = prepare(batch)
            return images * (float("nan") if batch.epoch == 1 and batch.step == 2 else 1), targets

    stepper._inputs = (Spoiled(), stepper._inputs[1])  # type: ignore[assignment]
    with pytest.raises(NonFiniteLossError) as raised:
        train(stepper)
    found = [(row["epoch"], row["step"], row["micro_batch"], len(row["samples"])) for row in raised.value.found]
    assert found == [(2, 3, 0, 4), (2, 3, 1, 4)]


def test_stop_and_save_are_asked_once_a_step_and_known_after_it(tmp_path: Path) -> None:
    asked: list[str] = []

    def stop() -> bool:
        asked.append("stop")
        return len(asked) == NUM_WARM_UP + 3

    stepper, _ = make_stepper(tmp_path, *NET, wishes=(stop, lambda: len(asked) == 2))
    graphed(stepper, WHOLE)
    agreed = [
        (stepper.state.sync.stop_agreed, stepper.state.sync.save_agreed)
        for epoch in range(2)
        for _ in stepper.steps(Cursor(epoch, 0))
    ]
    assert agreed.index((True, False)) == NUM_WARM_UP + 2
    assert agreed.index((False, True)) == 1
    assert len(asked) == 8


def test_samples_and_losses_are_observed_with_their_own_values(tmp_path: Path) -> None:
    plain, _ = make_stepper(tmp_path, *NET, *POWERS, "train.micro_batch=4")
    recorded, _ = make_stepper(tmp_path, *NET, *POWERS, "train.micro_batch=4")
    graphed(recorded, WHOLE)
    seen: dict[str, list[Any]] = {"plain": [], "recorded": []}
    for name, stepper in (("plain", plain), ("recorded", recorded)):

        def observe(numbers: range, batch: Batch, images: Tensor, loss: Tensor, name: str = name) -> None:
            seen[name].append((numbers, batch.samples.tolist(), float(images.sum()), loss.detach()))

        stepper.state.observe = observe
        train(stepper)
    rows = {name: [(*row, float(loss)) for *row, loss in values] for name, values in seen.items()}
    assert rows["recorded"] == rows["plain"]
    assert len(rows["plain"]) == 24


def test_the_fake_keeps_numbers_of_python_and_overwrites_what_it_had_computed() -> None:
    weight, number = torch.zeros(3), [1.0]
    made: list[Tensor] = []

    def work() -> None:
        made[:] = [torch.ones(3) * number[0]]
        weight.add_(made[0])

    replay = CallRecorder().record(work)
    assert weight.tolist() == [0, 0, 0], "a recording has no effect"
    number[0] = 5.0
    replay()
    replay()
    assert weight.tolist() == [2, 2, 2], "the number of the recording"
    with pytest.raises(RuntimeError, match="not permitted"):
        CallRecorder().record(lambda: made.append(weight * weight.sum().item()))
