"""What only a GPU can show of `train.graph`, `train.compile` and copies on a side stream; skipped without one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from signs_dist.checkpointing.store import Cursor
from signs_dist.checkpointing.tensors import plain_weights
from signs_dist.data.batches import Batch
from signs_dist.data.side_stream import CudaStreams, SideCopies
from signs_dist.distributed.exactness import arithmetic_kept, choose_cublas_workspace
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.errors import UserError
from signs_dist.learning.metrics import Score, to_host
from signs_dist.training.graphed_step import GraphedStep
from signs_dist.training.process import Process
from signs_dist.training.stepper import Stepper
from tests.processes import run, started, train_command, wait_for
from tests.sets import write_colour_set
from tests.training.parts import make_process, make_stepper, shown
from tests.training.waiting_networks import Waits, compute_with

NUM_GPUS = torch.cuda.device_count()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(NUM_GPUS == 0, reason="needs a CUDA device"),
]

NET = ("model.name=signs_net", "model.args={channels: 8, dropout: 0.3}", "train.epochs=4", "train.precision=float32")
"""16 steps."""
EXACT = ("exact=true", "train.micro_batch=2")


@pytest.fixture(autouse=True)
def _exact_kernels_end_with_their_test() -> Iterator[None]:
    with arithmetic_kept():
        choose_cublas_workspace()  # as a command does; PyTorch refuses matrix products of exact mode without it
        yield


def on_gpu() -> Process:
    return dataclasses.replace(make_process(quiet=False), strategy=SingleProcess(torch.device("cuda", 0)))


def trained(folder: Path, graph: str, *settings: str) -> tuple[Stepper, list[float], str]:
    """A run of four epochs, the loss of each, and what its screen showed."""
    process = on_gpu()
    stepper, _ = make_stepper(folder, *NET, f"train.graph={graph}", *settings, process=process)
    losses = []
    for epoch in range(4):
        for report in stepper.steps(Cursor(epoch, 0)):
            sums = report.sums
        losses.append(Score.from_sums(to_host(sums.tensors())).loss)
    stepper.state.sync.settle()
    return stepper, losses, shown(process)


def weights(stepper: Stepper) -> dict[str, Tensor]:
    average = stepper.state.average
    kept = plain_weights(stepper.state.model)
    return kept | ({f"average of {name}": value for name, value in average.weights().items()} if average else {})


def require_replays(stepper: Stepper) -> None:
    assert isinstance(stepper._do_step, GraphedStep)
    assert any(one.replays for one in stepper._do_step._recordings.values()), stepper.graph.describe()


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("train.micro_batch=4", "optim.clip_norm=0.5", "ema.decay=0.9"),
        ("augment.backend=batch", "augment.mixup=0.5", "augment.flip=0.5"),
        ("optim.name=sgd", "optim.lr=0.01"),
        ("optim.name=rmsprop", "optim.lr=0.001"),
        (
            *("model.name=signs_fast", "model.args={dropout: 0.2}", "data.image_size=32"),
            "train.progressive_sizes=[[0.5, 0.5]]",
        ),
    ],
    ids=["plain", "two passes", "mixed images", "sgd", "rmsprop", "progressive"],
)
def test_a_graph_gives_the_results_of_the_plain_step_within_rounding(tmp_path: Path, settings: tuple[str, ...]) -> None:
    plain, expected, _ = trained(tmp_path, "false", "optim.name=adam", "optim.lr=0.001", *settings)
    graphed, found, _ = trained(tmp_path, "true", "optim.name=adam", "optim.lr=0.001", *settings)
    require_replays(graphed)
    assert found == pytest.approx(expected, rel=0.02)
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(graphed)[name], value, rtol=0.05, atol=0.02, msg=name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_exact_mode_has_the_same_bits_with_a_graph(tmp_path: Path, precision: str) -> None:
    """Dropout too: its draws differ from step to step, and from micro-batch to micro-batch."""
    settings = (*EXACT, f"train.precision={precision}", "ema.decay=0.9", "optim.clip_norm=0.5")
    plain, expected, _ = trained(tmp_path, "false", *settings)
    graphed, found, _ = trained(tmp_path, "true", *settings)
    require_replays(graphed)
    assert found == expected
    for name, value in weights(plain).items():
        assert torch.equal(weights(graphed)[name], value), name


def test_float16_is_scaled_within_the_graph(tmp_path: Path) -> None:
    settings = ("train.precision=float16", "optim.name=adam", "optim.lr=0.001")
    plain, expected, _ = trained(tmp_path, "false", *settings)
    graphed, found, _ = trained(tmp_path, "true", *settings)
    require_replays(graphed)
    assert found == pytest.approx(expected, rel=0.05)
    assert graphed.state.scaler.get_scale() == plain.state.scaler.get_scale()


def test_a_rate_of_zero_stops_the_weights(tmp_path: Path) -> None:
    settings = ("optim.name=sgd", "optim.momentum=0", "optim.weight_decay=0")
    stepper, _, _ = trained(tmp_path, "true", *settings)
    before = {name: value.detach().clone() for name, value in stepper.state.model.named_parameters()}
    stepper.state.learning_rate = lambda images_seen: 0.0
    list(stepper.steps(Cursor(0, 0)))
    require_replays(stepper)
    assert all(torch.equal(before[name], value) for name, value in stepper.state.model.named_parameters())
    stepper.state.learning_rate = lambda images_seen: 0.1
    list(stepper.steps(Cursor(0, 0)))
    assert not all(torch.equal(before[name], value) for name, value in stepper.state.model.named_parameters())


def test_dropout_differs_from_step_to_step(tmp_path: Path) -> None:
    stepper, _, _ = trained(tmp_path, "true", "optim.name=sgd", "optim.momentum=0", "optim.weight_decay=0")
    stepper.state.learning_rate = lambda images_seen: 0.0
    prepare = stepper.prepare_train
    first: list[tuple[Tensor, Tensor]] = []

    class Same:
        device = prepare.device

        def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
            first[:] = first or [prepare(batch)]
            return first[0]

    stepper._inputs = (Same(), stepper._inputs[1])  # type: ignore[assignment]
    losses: list[Tensor] = []
    stepper.state.observe = lambda numbers, batch, images, loss: losses.append(loss)
    list(stepper.steps(Cursor(0, 0)))
    require_replays(stepper)
    assert len({float(loss.detach()) for loss in losses}) == 4


@pytest.mark.parametrize("mode", [(), EXACT], ids=["fast", "exact"])
def test_a_step_that_waits_for_the_gpu_goes_on_without_a_graph(tmp_path: Path, mode: tuple[str, ...]) -> None:
    process = on_gpu()
    stepper, _ = make_stepper(tmp_path, *NET, *mode, "train.graph=auto", process=process)
    compute_with(stepper, Waits(stepper.state.model))
    for epoch in range(3):  # dropout draws after the capture that failed as well
        for report in stepper.steps(Cursor(epoch, 0)):
            sums = report.sums
    assert math.isfinite(Score.from_sums(to_host(sums.tensors())).loss)
    assert stepper.graph.covers == "nothing"
    assert "the training step is no CUDA graph: it cannot be recorded: " in shown(process)

    required, _ = make_stepper(tmp_path, *NET, *mode, "train.graph=true", process=on_gpu())
    compute_with(required, Waits(required.state.model))
    with pytest.raises(UserError, match=r"train\.graph=true: the training step cannot be recorded"):
        list(required.steps(Cursor(0, 0)))


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 40, "val": 5})


def command(colours: Path, name: str, *more: str) -> list[str]:
    settings = [
        f"data.root={colours}",
        f"data.cache={colours}/cache",
        "data.image_size=32",
        "model.name=signs_net",
        "model.args={channels: 8, dropout: 0.3}",
        "train.global_batch=8",
    ]
    return train_command("--run-dir", name, *settings, *more)


def test_a_run_that_was_stopped_gives_the_weights_of_one_that_was_not(colours: Path, tmp_path: Path) -> None:
    settings = ("exact=true", "train.micro_batch=4", "train.epochs=60", "train.graph=true", "log.every_steps=1")
    whole = run(command(colours, "whole", *settings), tmp_path, timeout=200)
    assert whole.code == 0, whole.err
    assert "a CUDA graph of forward, loss, backward" in whole.out
    lines = tmp_path / "parts" / "metrics.jsonl"
    with started(command(colours, "parts", *settings), tmp_path) as process:
        wait_for(lines, '"epoch": 3', timeout=120)
        process.terminate()
        assert process.wait(timeout=120) == 75
    again = run(command(colours, "parts", *settings), tmp_path, timeout=200)
    assert again.code == 0, again.err
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["weights_sha256"] == results[1]["weights_sha256"]


@pytest.mark.parametrize("mode", [(), ("exact=true", "train.micro_batch=4")], ids=["fast", "exact"])
def test_a_loss_that_is_no_number_is_told(colours: Path, tmp_path: Path, mode: tuple[str, ...]) -> None:
    settings = ("optim.lr=1e30", "train.precision=float32", "train.epochs=2", "train.graph=true")
    ended = run(command(colours, "run", *settings, *mode), tmp_path, timeout=200)
    assert ended.code == 1
    rows = json.loads((tmp_path / "run" / "non_finite_loss.json").read_text())["micro_batches"]
    assert rows
    assert all(row["samples"] for row in rows)


@pytest.mark.parametrize(("graph", "mode"), [("false", "default"), ("true", "default"), ("auto", "reduce-overhead")])
def test_a_compiled_network_learns_the_same_within_rounding(tmp_path: Path, graph: str, mode: str) -> None:
    settings = ("optim.name=adam", "optim.lr=0.001", "model.args={channels: 8, dropout: 0}")
    _, expected, _ = trained(tmp_path, "false", *settings)
    stepper, found, _ = trained(tmp_path, graph, f"train.compile={mode}", *settings)
    assert found == pytest.approx(expected, rel=0.05)
    assert not any("_orig_mod" in name for name in plain_weights(stepper.state.model))
    if graph == "true":
        require_replays(stepper)


def test_copies_on_a_side_stream_have_the_values_of_the_host() -> None:
    device = torch.device("cuda", 0)

    def batches() -> Any:
        for step in range(20):
            images = torch.full((64, 3, 64, 64), step, dtype=torch.uint8).pin_memory()
            labels = torch.full((64,), step).pin_memory()
            yield Batch(images, labels, torch.arange(64), 0, step)

    sums: list[Tensor] = []
    busy = torch.randn(2000, 2000, device=device)
    for batch in SideCopies(batches(), CudaStreams(device)):
        busy = (busy @ busy).clamp(-1, 1)
        sums.append(batch.images.float().mean() + batch.labels.float().mean())
    assert [float(value) for value in sums] == [2.0 * step for step in range(20)]
