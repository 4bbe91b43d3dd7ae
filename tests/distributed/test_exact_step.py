"""Exact gradients for anybody's loop: parts of any batch, the same bits as the trainer's, and what cannot be."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from signs_dist.config.settings import DataConfig, LossConfig
from signs_dist.data.batches import Batch
from signs_dist.data.plan import EpochPlan
from signs_dist.distributed.connect import ConnectedProcesses, connect
from signs_dist.distributed.exact_step import ExactStep, cut
from signs_dist.distributed.strategy import SingleProcess, Summing
from signs_dist.errors import NonFiniteLossError, UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.precision import Precision
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.signals import StopRequest
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.loop import ForwardWithLoss, TrainingState, train_epoch
from tests.processes import program_command, run_ranks

CPU = torch.device("cpu")
ALONE = ConnectedProcesses(0, 1, CPU, is_exact=True, group=None)
PLAN = EpochPlan(24, 12, seed=7, micro_batch=4)
Pair = collections.namedtuple("Pair", ["left", "right"])


def network(dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(144, 5)]
    return nn.Sequential(*layers)


def batch(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(12) % 5, torch.arange(12) + 100 * step, 0, step)


def prepared(step: int) -> tuple[Tensor, Tensor]:
    return ImagePreparer.create(DataConfig(), CPU, channels_last=False)(batch(step))


def one_step(step: ExactStep, model: nn.Module, number: int) -> None:
    for part in step.parts(prepared(number)):
        images, labels = part.data
        part.backward(nn.functional.cross_entropy(model(images), labels))
    step.finish()


def test_it_computes_what_our_trainer_does() -> None:
    """Weights, gradients and BatchNorm's statistics after two steps with dropout."""
    with connect(exact=True) as processes:
        theirs, optimizer = network(), None
        strategy = SingleProcess(CPU)
        forward = ForwardWithLoss(theirs, build_loss(LossConfig(label_smoothing=0), 5), Precision("float32", "cpu"))
        wishes = (lambda: False, lambda: False)
        state = TrainingState(
            model=theirs,
            forward=forward,
            sync=strategy.sync(theirs, forward, PLAN.micro_batches, wishes, Summing(exact=True)),
            num_classes=5,
            optimizer=torch.optim.SGD(theirs.parameters(), lr=0.1),
            scaler=torch.amp.GradScaler("cpu", enabled=False),
            learning_rate=lambda _: 0.1,
            clip_norm=None,
            average=None,
            seed=PLAN.seed,
            pulse=Pulse(),
        )
        prepare = ImagePreparer.create(DataConfig(), CPU, channels_last=False)
        list(train_epoch(state, [batch(0), batch(1)], prepare, first_step=0, first_run_step=0))

        ours = network()
        optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
        step = ExactStep(ours, PLAN, processes)
        for number in range(2):
            one_step(step, ours, number)
            optimizer.step()
    for (name, one), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name)
    assert int(ours[1].num_batches_tracked) == 2  # type: ignore[index]


def test_the_gradient_is_the_mean_over_the_parts() -> None:
    model = network(dropout=0)
    step = ExactStep(model, PLAN, ALONE)
    one_step(step, model, 0)
    expected = network(dropout=0)
    images, labels = prepared(0)
    losses = [
        nn.functional.cross_entropy(expected(part), truth)
        for part, truth in zip(images.chunk(3), labels.chunk(3), strict=True)
    ]
    torch.stack(losses).mean().backward()
    for mine, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def dropped(step: ExactStep, model: nn.Module) -> list[Tensor]:
    """What dropout leaves of ones, in each part."""
    seen = []
    for part in step.parts(torch.ones(12, 8)):
        seen.append(nn.functional.dropout(part.data, 0.5))
        part.backward(model(part.data).mean())
    step.finish()
    return seen


def test_dropout_depends_on_seed_step_and_part_and_the_callers_generator_is_kept() -> None:
    def make(seed: int = 7) -> tuple[ExactStep, nn.Module]:
        model = nn.Linear(8, 1)
        return ExactStep(model, EpochPlan(24, 12, seed=seed, micro_batch=4), ALONE), model

    step, model = make()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = dropped(step, model)
    assert torch.equal(torch.rand(3), expected)
    second = dropped(step, model)
    assert len({tuple(kept.flatten().tolist()) for kept in (*first, *second)}) == 6
    resumed, model = make()
    resumed.steps_done = 1
    assert all(torch.equal(one, other) for one, other in zip(dropped(resumed, model), second, strict=True))
    assert not torch.equal(dropped(*make(seed=8))[0], first[0])


def test_the_caller_need_not_set_gradients_to_zero() -> None:
    model = nn.Linear(1, 1)
    step = ExactStep(model, PLAN, ALONE)
    for _ in range(2):
        for part in step.parts(torch.ones(12, 1)):
            part.backward(model(part.data).mean())
        step.finish()
        assert model.weight.grad is not None
        assert model.weight.grad.item() == 1
        assert step.steps_done == 1 or step.steps_done == 2


def test_a_loss_that_is_not_finite_is_raised_before_the_optimizer_can_step() -> None:
    model = nn.Linear(1, 1)
    step = ExactStep(model, PLAN, ALONE)
    for part in step.parts(torch.ones(12, 1)):
        part.backward(model(part.data).mean() * (float("nan") if part.number == 1 else 1))
    with pytest.raises(NonFiniteLossError) as caught:
        step.finish()
    assert caught.value.found == [{"step": 1, "micro_batch": 1}]
    assert step.steps_done == 0


def test_a_request_to_stop_is_known_after_the_step() -> None:
    stop, model = StopRequest(), nn.Linear(1, 1)
    step = ExactStep(model, PLAN, ALONE, stop=stop)
    agreed = []
    for number in range(3):
        stop.is_set = number == 1
        for part in step.parts(torch.ones(12, 1)):
            part.backward(model(part.data).mean())
        step.finish()
        agreed.append(step.stop_agreed)
    assert agreed == [False, True, False]


def test_every_part_gets_one_backward() -> None:
    model = nn.Linear(1, 1)
    step = ExactStep(model, PLAN, ALONE)
    with pytest.raises(RuntimeError, match=r"part 0 got no backward\(loss\)"):
        list(step.parts(torch.ones(12, 1)))
    with pytest.raises(RuntimeError, match=r"finish\(\) after 0 of 3 parts"):
        step.finish()
    parts = step.parts(torch.ones(12, 1))
    first = next(parts)
    with pytest.raises(UserError, match=r"one number, the mean over its samples, not a tensor of \[4, 1\]"):
        first.backward(model(first.data))
    first.backward(model(first.data).mean())
    with pytest.raises(RuntimeError, match=r"backward\(\) of part 0 is called once"):
        first.backward(model(first.data).mean())
    next(parts)
    with pytest.raises(RuntimeError, match="part 1 got no backward"):
        step.finish()


def test_a_step_is_finished_before_the_next_begins() -> None:
    with connect(exact=True) as processes:
        model = network()
        step = ExactStep(model, PLAN, processes)
        for part in step.parts(prepared(0)):
            images, labels = part.data
            part.backward(nn.functional.cross_entropy(model(images), labels))
        with pytest.raises(RuntimeError, match=r"step 1 is not finished: call finish\(\) after its last part"):
            next(step.parts(prepared(1)))
        step.finish()
        one_step(step, model, 1)
        with pytest.raises(UserError, match=r"loss=0\.5 is of type float\. Type part\.backward\(loss\)"):
            next(step.parts(prepared(2))).backward(0.5)


def test_what_cannot_be_exact_is_refused() -> None:
    with pytest.raises(UserError, match=r"Type connect\(exact=True\)"):
        ExactStep(nn.Linear(1, 1), PLAN, ConnectedProcesses(0, 1, CPU, is_exact=False, group=None))
    with pytest.raises(UserError, match="the plain network, not one in DataParallel"):
        ExactStep(nn.DataParallel(nn.Linear(1, 1), []), PLAN, ALONE)
    with pytest.raises(UserError, match="no parameter of the network trains"):
        ExactStep(nn.Linear(1, 1).requires_grad_(False), PLAN, ALONE)
    with pytest.raises(UserError, match="3 micro-batches of 4 cannot be shared by 4 processes"):
        ExactStep(nn.Linear(1, 1), PLAN, ConnectedProcesses(0, 4, CPU, is_exact=True, group=None))


def plain(value: Any) -> Any:
    """Tensors and arrays as lists."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)) and not isinstance(value, str):
        return tuple(map(plain, value)) if isinstance(value, tuple) else list(map(plain, value))
    return value


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        (torch.arange(4), [2, 3]),
        (np.arange(4), [2, 3]),
        ([torch.arange(4), torch.arange(4) + 4], [[2, 3], [6, 7]]),
        ((torch.arange(4), ["a", "b", "c", "d"]), ([2, 3], ["c", "d"])),
        ({"x": torch.arange(4), "deep": {"y": (torch.arange(4),)}}, {"x": [2, 3], "deep": {"y": ([2, 3],)}}),
        (Pair(torch.arange(4), torch.ones(4)), ([2, 3], [1, 1])),
        (
            {"x": torch.arange(4), "epoch": 3, "name": "a", "no": None},
            {"x": [2, 3], "epoch": 3, "name": "a", "no": None},
        ),
    ],
)
def test_a_batch_of_any_structure_is_cut(whole: Any, part: Any) -> None:
    found = cut(whole, 2, 4, 4)
    assert type(found) is type(whole)
    assert plain(found) == part


def test_a_part_is_a_view() -> None:
    whole = torch.zeros(4)
    cut(whole, 2, 4, 4).fill_(1)
    assert whole.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("wrong", [torch.zeros(5, 2), {"x": torch.zeros(3)}, torch.tensor(1.0), ["a", "b"]])
def test_a_batch_of_another_size_is_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"this process has 4 samples of each step. Use plan_loader"):
        cut(wrong, 0, 2, 4)


TOGETHER = """
import sys, torch
import signs_dist as sd
from signs_dist.errors import NonFiniteLossError, UserError

def train(processes, case):
    torch.manual_seed(processes.rank if case == "weights" else 0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    plan = sd.EpochPlan(24, 12, seed=0, micro_batch=4)
    stop = sd.StopRequest()
    stop.is_set = case == "stop" and processes.rank == 1
    step = sd.ExactStep(net, plan, processes, stop=stop)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    dataset = [torch.tensor([float(number), 1.0]) for number in range(24)]
    try:
        for batch in sd.plan_loader(dataset, plan, processes, epoch=0):
            for part in step.parts(batch):
                spoilt = case == "nan" and part.number == 2
                part.backward(net(part.data).mean() * (float("inf") if spoilt else 1.0))
            step.finish()
            optimizer.step()
        print(case, step.stop_agreed, sd.weights_sha256(net)[:16])
    except (NonFiniteLossError, UserError) as error:
        print(case, type(error).__name__, str(error), getattr(error, "found", ""), step.steps_done)

with sd.connect(exact=True) as processes:
    for case in sys.argv[1:]:
        train(processes, case)
"""


def answers(world_size: int, folder: Path, *cases: str) -> list[list[str]]:
    """What each process says of each case."""
    ended = run_ranks(world_size, program_command(folder, TOGETHER, *cases), folder)
    assert [one.code for one in ended] == [0] * world_size, [one.err for one in ended]
    return [one.out.splitlines() for one in ended]


@pytest.mark.slow
def test_processes_agree(tmp_path: Path) -> None:
    """On weights, on a stop that one was asked for, on a loss of one, and on another start of one."""
    ((alone,),) = answers(1, tmp_path, "none")
    first, second = answers(2, tmp_path, "stop", "nan", "weights")
    assert first[0] == second[0] == alone.replace("none False", "stop True")
    assert first[1] == "nan NonFiniteLossError the loss is not a finite number [] 0"
    assert second[1] == "nan NonFiniteLossError the loss is not a finite number [{'step': 1, 'micro_batch': 2}] 0"
    assert first[2] == second[2]
    assert "rank 1 begins with other weights or another steps_done than rank 0" in first[2]
