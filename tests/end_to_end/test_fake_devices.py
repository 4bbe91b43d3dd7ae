"""No tensor is on the wrong GPU: every step of training on tensors that claim to be on one. No GPU is needed.

A fake tensor has a shape, a dtype and a device, but no values; operations that mix devices raise. Three things are
imitated, as they ask the driver or need values: seeding a GPU, the backward pass, reading numbers on the host.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from signs_dist.config.settings import AugmentConfig, DataConfig, LossConfig, OptimConfig
from signs_dist.data import augment, batch_pixels
from signs_dist.data.batch_pixels import Numbers
from signs_dist.data.batches import Batch
from signs_dist.data.mixing import BatchMixer
from signs_dist.data.photo_operations import OPERATIONS, Operation
from signs_dist.data.plan import MicroBatches, Shard
from signs_dist.distributed.group import Group, Pending
from signs_dist.distributed.replicas import EvaluationReplicas, Replicas
from signs_dist.distributed.step_sync import DistributedSync, StepShare, StepSync
from signs_dist.distributed.strategy import DataParallel, DistributedProcesses, SingleProcess, Summing
from signs_dist.learning.losses import build_loss
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.precision import Precision
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.image_preparer import ImagePreparer
from signs_dist.training.loop import EvaluationForward, ForwardWithLoss, TrainingState, evaluate, train_epoch

FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)
FLOAT32 = Precision("float32", "cuda")
NUM_CLASSES = 5
NUM_IMAGES = 12
MIXED = "Expected all tensors to be on the same device|found two different devices"
ALL_AUGMENTATIONS = AugmentConfig(
    flip=0.5,
    rotate_degrees=20,
    shift=0.1,
    scale=0.1,
    brightness=0.2,
    contrast=0.2,
    cutout=0.3,
    crop_scale=(0.5, 1.0),
    policy="randaugment",
    erase=1.0,
    erase_fill="noise",
    mixup=0.2,
    cutmix=1.0,
)
NUM_OPS = {4: 9, 8: 6, 12: 6}
"""Number of images → with how many operations for each image every operation of the policy is drawn."""

each_device = pytest.mark.parametrize("device", [FIRST, SECOND], ids=str)


class HostNumbers:
    """Sample numbers as the loader gives them, on the host: unlike a fake tensor they have values."""

    def __init__(self, values: npt.NDArray[np.int64]) -> None:
        self.values = values

    def __getitem__(self, places: slice) -> HostNumbers:
        return HostNumbers(self.values[places])

    def numpy(self) -> npt.NDArray[np.int64]:
        return self.values


def host_batch(num_images: int = NUM_IMAGES) -> Batch:
    samples: Any = HostNumbers(np.arange(num_images))
    images = torch.zeros(num_images, 3, 8, 8, dtype=torch.uint8)
    return Batch(images, torch.arange(num_images) % NUM_CLASSES, samples, 0, 0)


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """The devices whose generators were seeded."""
    current: list[torch.device] = []
    seen: list[torch.device] = []

    @contextlib.contextmanager
    def enter(device: torch.device) -> Iterator[None]:
        current.append(device)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device", enter)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda key: seen.append(current[-1]))
    return seen


@pytest.fixture(autouse=True)
def fake_mode(seeded: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All tensors of the test are fake."""
    batch_pixels._pixel_centres_on.cache_clear()
    monkeypatch.setattr("signs_dist.distributed.step_flags.LateFlags", FlagsOnDevice)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    batch_pixels._pixel_centres_on.cache_clear()  # fake tensors must not reach the next test


class FlagsOnDevice:
    """In place of LateFlags: where the flags are is all that is known of them."""

    def publish(self, flags: Tensor) -> list[float]:
        assert flags.device.type == "cuda"
        return [0.0, 0.0, 0.0]

    def flush(self) -> list[float]:
        return [0.0, 0.0, 0.0]


class FakeGroup(Group):
    """Two processes: what one sends is on its device, and what it gets as well."""

    def __init__(self, device: torch.device, rank: int) -> None:
        self.rank, self.world_size, self.device = rank, 2, device

    def start_sum(self, tensor: Tensor) -> Pending:
        return self._answer(tensor)

    def sum(self, tensor: Tensor) -> Tensor:
        assert tensor.device == self.device
        return tensor

    def start_exchange(self, pieces: Tensor, num_pieces: Sequence[int]) -> Pending:
        assert pieces.device == self.device
        return self._answer(pieces.new_empty(sum(num_pieces), pieces.shape[-1]))

    def start_gather(self, chunk: Tensor, out: Tensor) -> Pending:
        assert chunk.device == out.device
        return self._answer(out)

    def _answer(self, result: Tensor) -> Pending:
        assert result.device == self.device
        return Pending(Done(), result)


class Done:
    def wait(self) -> None:
        return


class SilentWrapper(nn.Module):
    """The part of DistributedDataParallel that needs no other process."""

    def __init__(self, forward: nn.Module) -> None:
        super().__init__()
        self.module = forward

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def no_sync(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class OnFakeDevices:
    """What nn.DataParallel leaves to the driver: copying the module to its GPUs, threads, joining on the first."""

    def use(self, devices: Sequence[torch.device]) -> None:
        self.device_ids, self.output_device, self.src_device_obj, self.dim = list(devices), devices[0], devices[0], 0

    def replicate(self, module: nn.Module, device_ids: Sequence[torch.device]) -> list[nn.Module]:
        return [copy_to(module, device) for device in device_ids]

    def parallel_apply(self, replicas: Sequence[nn.Module], inputs: Any, kwargs: Any) -> list[Any]:
        return [replica(*each) for replica, each in zip(replicas, inputs, strict=True)]

    def gather(self, outputs: Sequence[tuple[Tensor, ...]], output_device: torch.device) -> tuple[Tensor, ...]:
        return tuple(torch.cat([part.to(output_device) for part in parts]) for parts in zip(*outputs, strict=True))


class FakeReplicas(OnFakeDevices, Replicas):  # type: ignore[misc]
    pass


class FakeEvaluationReplicas(OnFakeDevices, EvaluationReplicas):  # type: ignore[misc]
    def scatter(self, inputs: tuple[Any, ...], kwargs: Any, device_ids: Sequence[Any]) -> Any:
        pieces = zip(*(tensor.chunk(len(device_ids)) for tensor in inputs), strict=True)
        parts = [tuple(part.to(device) for part in piece) for piece, device in zip(pieces, device_ids, strict=False)]
        return parts, [{}] * len(parts)


def copy_to(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy without parameters of its own, as nn.DataParallel's replicas are."""
    copy: nn.Module = module._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    for name, tensor in (*module._parameters.items(), *module._buffers.items()):
        held = copy._buffers if name in module._buffers else copy.__dict__
        held[name] = None if tensor is None else tensor.to(device)
    for name, child in module._modules.items():
        copy._modules[name] = None if child is None else copy_to(child, device)
    return copy


def network(device: torch.device) -> nn.Module:
    with device:
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(4 * 36, NUM_CLASSES),
        )


def wrapped_by(strategy: SingleProcess, module: nn.Module, *, for_training: bool, exact: bool = False) -> nn.Module:
    """As `strategy.wrap`, with what asks the driver imitated."""
    if isinstance(strategy, DataParallel):
        replicas = (FakeReplicas if for_training else FakeEvaluationReplicas)(module, strategy.devices)
        replicas.use(strategy.devices)
        return replicas
    if isinstance(strategy, DistributedProcesses) and for_training and not exact:
        return SilentWrapper(module)
    return strategy.wrap(module, for_training=for_training, summing=Summing(exact=exact))


def sync_of(
    strategy: SingleProcess, model: nn.Module, wrapped: nn.Module, micro_batches: MicroBatches, *, exact: bool
) -> StepSync:
    if isinstance(strategy, DistributedProcesses) and not exact:
        wrapper: Any = wrapped
        share = StepShare(model, micro_batches, strategy.shard)
        return DistributedSync(share, group=strategy.group, wrapper=wrapper)
    return strategy.sync(model, wrapped, micro_batches, (lambda: False, lambda: False), Summing(exact=exact))


def imitate_backward(monkeypatch: pytest.MonkeyPatch, model: nn.Module) -> None:
    """Gradients appear one after the other on their parameters' devices, and hooks are called."""

    def backward(loss: Tensor) -> None:
        assert loss.device == next(model.parameters()).device
        for parameter in model.parameters():
            gradient = torch.zeros_like(parameter)
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
            hooks: Mapping[int, Any] = parameter._post_accumulate_grad_hooks or {}
            for hook in hooks.values():
                hook(parameter)

    monkeypatch.setattr(Tensor, "backward", backward)


def applied_operations(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the policy's operations, as they are applied."""
    applied: set[str] = set()

    def noted(name: str, operation: Operation) -> Operation:
        def apply(images: Tensor, magnitudes: Numbers) -> Tensor:
            applied.add(name)
            return operation(images, magnitudes)

        return apply

    noting = {name: noted(name, operation) for name, operation in OPERATIONS.items()}
    monkeypatch.setattr("signs_dist.data.policies.OPERATIONS", noting)
    return applied


def train_steps(
    strategy: SingleProcess,
    monkeypatch: pytest.MonkeyPatch,
    *,
    count: int,
    exact: bool = False,
    optimizer: str = "adamw",
    precision: Precision = FLOAT32,
    clip_norm: float | None = 1.0,
) -> TrainingState:
    """Two steps with everything on; returns what was trained."""
    device = strategy.device
    model = network(device)
    wrapped = wrapped_by(
        strategy,
        ForwardWithLoss(model, build_loss(LossConfig(), NUM_CLASSES, [1.0] * NUM_CLASSES), precision),
        for_training=True,
        exact=exact,
    )
    micro_batches = MicroBatches(NUM_IMAGES // count, count)
    state = TrainingState(
        model=model,
        forward=wrapped,
        sync=sync_of(strategy, model, wrapped, micro_batches, exact=exact),
        num_classes=NUM_CLASSES,
        optimizer=build_optimizer(model, OptimConfig(name=optimizer)),  # type: ignore[arg-type]
        scaler=precision.scaler(),
        learning_rate=lambda images_seen: 0.1,
        clip_norm=clip_norm,
        average=WeightAverage(model, 0.99),
        seed=3,
        pulse=Pulse(),
    )
    imitate_backward(monkeypatch, model)
    own = len(micro_batches.of(strategy.shard)) * micro_batches.size
    config = ALL_AUGMENTATIONS.model_copy(update={"num_ops": NUM_OPS[own]})
    augmenter = augment.BatchAugmenter(config, seed=3)
    mixer = BatchMixer(config, 3, num_classes=NUM_CLASSES, micro_batch=micro_batches.size)
    prepare = ImagePreparer.create(DataConfig(), device, channels_last=True, augment=augmenter, mix=mixer)
    applied = applied_operations(monkeypatch)
    steps = train_epoch(state, [host_batch(own)] * 2, prepare, first_step=0, first_run_step=0)
    sums = [report.sums.tensors() for report in steps]
    assert applied == OPERATIONS.keys() - {"Identity"}
    state.sync.settle()
    require_on(device, state, sums[-1])
    return state


def require_on(device: torch.device, state: TrainingState, sums: Mapping[str, Tensor]) -> None:
    assert state.average is not None
    optimizer_state = [
        value
        for values in state.optimizer.state.values()
        for value in values.values()
        if isinstance(value, Tensor) and value.ndim  # a plain optimizer counts steps on the host
    ]
    tensors = [
        *state.model.state_dict().values(),
        *(parameter.grad for parameter in state.model.parameters()),
        *state.average.weights().values(),
        *optimizer_state,
        *sums.values(),
    ]
    assert {tensor.device for tensor in tensors if tensor is not None} == {device}


@each_device
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("optimizer", ["adamw", "rmsprop"])  # fused and not; fused SGD has no fake kernel
def test_one_process_trains_on_its_device(
    device: torch.device,
    exact: bool,
    count: int,
    optimizer: str,
    monkeypatch: pytest.MonkeyPatch,
    seeded: list[torch.device],
) -> None:
    train_steps(SingleProcess(device), monkeypatch, count=count, exact=exact, optimizer=optimizer)
    assert seeded == [device] * 2 * count


@each_device
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_half_precision_trains_with_its_scaler(
    device: torch.device, clip_norm: float | None, monkeypatch: pytest.MonkeyPatch, seeded: list[torch.device]
) -> None:
    monkeypatch.setattr("torch.amp.grad_scaler.torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    half = Precision("float16", "cuda")
    state = train_steps(SingleProcess(device), monkeypatch, count=3, precision=half, clip_norm=clip_norm)
    scale = state.scaler._scale  # made by the first loss that is scaled
    assert isinstance(scale, Tensor)
    assert scale.device == device
    assert seeded == [device] * 2 * 3


@each_device
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_each_of_several_processes_trains_on_its_device(
    device: torch.device, exact: bool, rank: int, monkeypatch: pytest.MonkeyPatch, seeded: list[torch.device]
) -> None:
    strategy = DistributedProcesses(device, FakeGroup(device, rank))
    train_steps(strategy, monkeypatch, count=3, exact=exact)
    assert seeded == [device] * 2 * len(MicroBatches(4, 3).of(Shard(rank, 2)))


def test_data_parallel_uses_all_of_its_devices(monkeypatch: pytest.MonkeyPatch, seeded: list[torch.device]) -> None:
    train_steps(DataParallel([SECOND, FIRST]), monkeypatch, count=3)
    assert seeded == [SECOND, FIRST, SECOND] * 2


def test_data_parallel_puts_each_micro_batch_on_its_own_device() -> None:
    replicas = FakeReplicas(nn.Identity(), [SECOND, FIRST])
    images, labels = torch.zeros(8, 3, 4, 4, device=SECOND), torch.zeros(8, dtype=torch.int64, device=SECOND)
    scattered, named = replicas.scatter((images, labels, [11, 12]), {}, [SECOND, FIRST])
    assert [(part.device, truth.device, len(part), keys) for part, truth, keys in scattered] == [
        (SECOND, SECOND, 4, [11]),
        (FIRST, FIRST, 4, [12]),
    ]
    assert named == ({}, {})
    ((part, truth, keys),), _ = replicas.scatter((images[:4], labels[:4], [13]), {}, [SECOND, FIRST])
    assert (part.device, truth.device, keys) == (SECOND, SECOND, [13])  # the last pass may be smaller


@pytest.mark.parametrize(
    "strategy",
    [
        SingleProcess(FIRST),
        SingleProcess(SECOND),
        DataParallel([SECOND, FIRST]),
        DistributedProcesses(SECOND, FakeGroup(SECOND, 1)),
    ],
    ids=["cuda:0", "cuda:1", "data_parallel", "distributed"],
)
@pytest.mark.parametrize("num_images", [1, 5])
def test_evaluation_is_on_the_device(strategy: SingleProcess, num_images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []

    def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        seen.extend(tensor.device for tensor in tensors.values())
        return {name: np.zeros(tuple(tensor.shape), np.int64) for name, tensor in tensors.items()}

    monkeypatch.setattr("signs_dist.distributed.strategy.to_host", to_host)
    device = strategy.device
    forward = EvaluationForward(network(device), build_loss(LossConfig(), NUM_CLASSES), FLOAT32, flip_average=True)
    prepare = ImagePreparer.create(DataConfig(), device, channels_last=True)
    wrapped = wrapped_by(strategy, forward, for_training=False)
    sums = evaluate(wrapped, [host_batch(4), host_batch(num_images)], prepare, NUM_CLASSES)
    strategy.total(sums.tensors())
    assert seen == [device] * 3


def test_a_batch_left_on_the_host_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImagePreparer, "__call__", lambda self, batch: (batch.images.float(), batch.labels))
    with pytest.raises(RuntimeError, match=MIXED):
        train_steps(SingleProcess(SECOND), monkeypatch, count=1)


def test_a_replica_on_another_device_is_seen() -> None:
    with pytest.raises(RuntimeError, match=MIXED):
        copy_to(network(SECOND), FIRST)(torch.zeros(2, 3, 8, 8, device=SECOND))
