"""The strategies side by side; nn.DataParallel's copies are made on the CPU here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.config.settings import DataConfig, LossConfig
from signs_dist.data.batches import Batch
from signs_dist.data.plan import MicroBatches
from signs_dist.distributed.replicas import EvaluationReplicas, Replicas
from signs_dist.distributed.strategy import DataParallel, SingleProcess, Summing, convert_sync_batchnorm
from signs_dist.errors import UserError
from signs_dist.learning.losses import build_loss
from signs_dist.learning.precision import Precision
from signs_dist.models.trainable import freeze_backbone, set_training_mode, thaw
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.loop import EvaluationForward, ForwardWithLoss, TrainingState, evaluate, train_epoch
from tests.processes import program_command, run_ranks

CPU = torch.device("cpu")
FLOAT32 = Precision("float32", "cpu")


class OnCpu:
    """What nn.DataParallel does with GPUs, done on the CPU: copies that share parameters, buffers of their own."""

    module: nn.Module
    num_copies: int

    def imitate(self, num_copies: int) -> Any:
        self.device_ids = [CPU] * num_copies
        self.src_device_obj = self.output_device = CPU
        self.dim = 0
        return self

    def replicate(self, module: nn.Module, device_ids: Sequence[Any]) -> list[nn.Module]:
        shared = {id(parameter): parameter for parameter in module.parameters()}
        # The first copy's buffers are the module's own, those of the others are dropped.
        return [module, *(copy.deepcopy(module, dict(shared)) for _ in device_ids[1:])]

    def parallel_apply(self, replicas: Sequence[nn.Module], inputs: Any, kwargs: Any) -> list[Any]:
        return [replica(*each, **named) for replica, each, named in zip(replicas, inputs, kwargs, strict=True)]

    def gather(self, outputs: Sequence[tuple[Tensor, ...]], output_device: Any) -> tuple[Tensor, ...]:
        return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))


class CpuReplicas(OnCpu, Replicas):
    pass


class CpuEvaluationReplicas(OnCpu, EvaluationReplicas):
    def scatter(self, inputs: tuple[Any, ...], kwargs: Any, device_ids: Sequence[Any]) -> Any:
        images, labels = inputs
        parts = list(zip(images.chunk(len(device_ids)), labels.chunk(len(device_ids)), strict=True))
        return parts, [{}] * len(parts)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 5)
    )


def batch(size: int) -> Batch:
    generator = torch.Generator().manual_seed(size)
    images = torch.randint(0, 256, (size, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return Batch(images, torch.arange(size) % 5, torch.arange(size), 0, 0)


def train_two_steps(model: nn.Module, strategy: SingleProcess, count: int) -> list[float]:
    forward = ForwardWithLoss(model, build_loss(LossConfig(), 5), FLOAT32)
    wrapped: nn.Module = strategy.wrap(forward, for_training=True)
    if isinstance(strategy, DataParallel):
        wrapped = CpuReplicas(forward, [CPU] * strategy.num_replicas).imitate(strategy.num_replicas)
    state = TrainingState(
        model=model,
        forward=wrapped,
        sync=strategy.sync(model, wrapped, MicroBatches(12 // count, count), (lambda: False, lambda: False), Summing()),
        num_classes=5,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        learning_rate=lambda _: 0.1,
        clip_norm=None,
        average=None,
        seed=3,
        pulse=Pulse(),
    )
    prepare = ImagePreparer.create(DataConfig(), CPU, channels_last=False)
    steps = train_epoch(state, [batch(12), batch(12)], prepare, first_step=0, first_run_step=0)
    return [float(step.sums.tensors()["loss"]) for step in steps]


@pytest.mark.parametrize(("count", "num_replicas"), [(3, 3), (4, 3), (4, 2), (2, 2), (12, 5)])
def test_data_parallel_trains_as_one_process_does(count: int, num_replicas: int) -> None:
    expected, model = network(), network()
    losses = train_two_steps(expected, SingleProcess(CPU), count)
    strategy = DataParallel([CPU] * num_replicas)
    assert train_two_steps(model, strategy, count) == pytest.approx(losses, rel=1e-6)
    assert model.state_dict().keys() == expected.state_dict().keys()  # no `module.`
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], msg=name)
    assert "torchrun --nproc_per_node=" + str(num_replicas) in strategy.describe()


@pytest.mark.parametrize("size", range(1, 10))
def test_data_parallel_evaluates_any_last_batch_as_one_gpu_does(size: int) -> None:
    model = network()
    forward = EvaluationForward(model, build_loss(LossConfig(label_smoothing=0), 5), FLOAT32, flip_average=True)
    prepare = ImagePreparer.create(DataConfig(), CPU, channels_last=False)
    alone = evaluate(forward, [batch(size)], prepare, 5).tensors()
    replicas = CpuEvaluationReplicas(forward, [CPU] * 3).imitate(3)
    shared = evaluate(replicas, [batch(size)], prepare, 5).tensors()
    assert torch.equal(shared["confusion"], alone["confusion"])
    assert abs(int(shared["loss"] - alone["loss"])) <= 8 * size  # of 2**24: rounding of the losses


def test_one_process_has_all_of_the_data() -> None:
    strategy = SingleProcess(CPU)
    assert (strategy.shard.index, strategy.shard.count, strategy.world_size, strategy.is_main) == (0, 1, 1, True)
    assert strategy.all_succeed(lambda: 3, "") == strategy.share_value(3, "") == 3
    assert strategy.gather_values("a", "") == ["a"]
    assert strategy.total({"loss": torch.tensor(3)})["loss"] == 3


def test_sync_batchnorm_is_for_several_gpus() -> None:
    with pytest.raises(UserError, match="which this run does not use"):
        convert_sync_batchnorm(network(), SingleProcess(CPU), (1,))
    strategy = SingleProcess(torch.device("cuda", 0))
    strategy.world_size = 3  # type: ignore[misc]
    with pytest.raises(UserError, match=r"not \(3, 3, 2\)\. Choose a train\.micro_batch that .* divisible by 3"):
        convert_sync_batchnorm(network(), strategy, (3, 3, 2))
    assert isinstance(convert_sync_batchnorm(network(), strategy, (2, 2, 2))[1], nn.SyncBatchNorm)  # type: ignore[index]


def test_sync_batchnorm_keeps_a_frozen_backbone_in_eval_mode() -> None:
    strategy = SingleProcess(torch.device("cuda", 0))
    strategy.world_size = 2  # type: ignore[misc]
    model = network()
    freeze_backbone(model)
    converted = convert_sync_batchnorm(model, strategy, (2, 2))
    set_training_mode(converted)
    norm = next(module for module in converted.modules() if isinstance(module, nn.SyncBatchNorm))
    assert not norm.training
    assert not any(parameter.requires_grad for parameter in norm.parameters())
    thaw(converted)
    set_training_mode(converted)
    assert norm.training
    assert all(parameter.requires_grad for parameter in norm.parameters())


WRAPPING = """
import sys
from pathlib import Path
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from signs_dist.environment.context import read_context
from signs_dist.distributed.rendezvous import join
from signs_dist.monitoring.heartbeat import Pulse
from signs_dist.distributed.strategy import DistributedProcesses, Summing
cpu = torch.device("cpu")
group = join(read_context(), cpu, rendezvous_seconds=60, timeout_seconds=60, pulse=Pulse())
import torch.distributed.nn.functional  # as a model does that compiles itself
strategy = DistributedProcesses(cpu, group)
module = nn.BatchNorm1d(2)
kinds = [
    isinstance(strategy.wrap(module, for_training=training, summing=Summing(exact=exact)), DistributedDataParallel)
    for training in (True, False) for exact in (False, True)
]
strategy.wrap(module, for_training=True)(torch.arange(4.0).view(2, 2)).sum().backward()
strategy.close()
threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
print(kinds, strategy.is_main, strategy.shard, [name for name in threads if "gloo" in name])
assert "torch._dynamo" not in sys.modules  # see quick_start.py
"""


@pytest.mark.slow
def test_only_fast_training_is_wrapped_and_no_thread_is_left(tmp_path: Path) -> None:
    ended = run_ranks(2, program_command(tmp_path, WRAPPING), tmp_path)
    assert [(one.code, one.out.strip()) for one in ended] == [
        (0, "[True, False, False, False] True Shard(index=0, count=2) []"),
        (0, "[True, False, False, False] False Shard(index=1, count=2) []"),
    ], [one.err for one in ended]
