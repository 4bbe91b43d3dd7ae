"""A training step in which each process also recomputes a micro-batch of another one: check.recompute_every.

Augmentation and dropout are hashes of the seed and the place in the run, and buffers start each micro-batch as they
were at the step's beginning. So two processes that compute one micro-batch get the same bits of its gradient, unless
the hardware of one of them computes something else.

Before the step, this process computes the other's micro-batch with the weights of the step's beginning; nothing of it
reaches the sums. During the step it adds up the bits of its own gradient that another process recomputes. What all
processes have a copy of is added up as well. One small exchange brings the sums together. On a GPU they are read after
the next step has been queued, so that the GPU never waits for the host; and always before a save. The hosts then
compare a digest of the sums, so that all processes come to the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor
from signs_dist.data.batches import Batch
from signs_dist.data.loader import TrainLoader
from signs_dist.data.plan import Shard
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.distributed.bit_sums import BitSums
from signs_dist.distributed.cross_checks import (
    Recomputation,
    Row,
    Sums,
    choose_thirds,
    compare_received,
    compare_replicas,
    find_disputes,
    recomputations,
    settle,
)
from signs_dist.distributed.group import Group
from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.step_sync import ExactSync
from signs_dist.distributed.strategy import DistributedProcesses
from signs_dist.errors import NonFiniteLossError, WrongResultError
from signs_dist.learning.metrics import RunningSums
from signs_dist.monitoring.beats import Identity
from signs_dist.training import loop
from signs_dist.training.image_preparer import Preparer
from signs_dist.training.prepare import Prepared
from signs_dist.training.process import Process
from signs_dist.training.single_batches import SingleBatches

Load = Callable[[int, int, int], Batch]
"""Reads a micro-batch, by (epoch from 0, step in the epoch from 0, number of the micro-batch)."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """A step of a run: its epoch and its number in the epoch, both from 0, and the steps of the run before it."""

    epoch: int
    step: int
    run_step: int


@dataclasses.dataclass
class _Check:
    """A check whose sums have not been compared yet.

    Attributes:
        place: the step.
        tasks: who recomputed what.
        state: what was trained.
        kept: copies of parameters and buffers at the step's beginning, for a third process; empty without one.
        scale: by which the loss of the step was scaled, float32 []: in float16 it changes with the steps.
        sums: of all ranks, int64 [ranks · sums], on the host.
        is_there: on a GPU, when `sums` are complete.
    """

    place: _Place
    tasks: Sequence[Recomputation]
    state: loop.TrainingState
    kept: list[Tensor]
    scale: Tensor
    sums: Tensor
    is_there: torch.cuda.Event | None


class CheckedStep:
    """Does what `loop.train_step` does, in exact mode; every so many steps it checks what the hardware computes.

    Args:
        every: steps from one check to the next.
        shard: this process's part of the data.
        group: all processes; None for one process, which recomputes its own micro-batches.
        load: reads a micro-batch of any process.
        prepare: makes the model's input from it.
        identity: of this process, for the report of a difference.

    Attributes:
        clean: the place before the newest step whose check has found no difference; None before the first.
    """

    def __init__(
        self, every: int, shard: Shard, group: Group | None, *, load: Load, prepare: Preparer, identity: Identity
    ) -> None:
        self.clean: Cursor | None = None
        self._every, self._shard, self._group = every, shard, group
        self._load, self._prepare, self._identity = load, prepare, identity
        self._pending: _Check | None = None

    def __call__(
        self,
        state: loop.TrainingState,
        batch: Batch,
        prepare: Preparer,
        *,
        step: int,
        run_step: int,
        sums: RunningSums,
    ) -> None:
        """As `loop.train_step`.

        Raises:
            WrongResultError: two processes got different results from the same input, in this step or a step before it.
                All processes raise it, also where the loss is not finite.
            NonFiniteLossError: as `loop.train_step`.
        """
        late, self._pending = self._pending, None

        def do_step() -> NonFiniteLossError | None:
            try:
                loop.train_step(state, batch, prepare, step=step, run_step=run_step, sums=sums)
            except NonFiniteLossError as error:  # on all processes alike: perhaps because of faulty hardware
                return error
            return None

        if (run_step + 1) % self._every:
            not_finite = do_step()
        else:
            self._pending, not_finite = self._check(state, _Place(batch.epoch, step, run_step), do_step)
        if late is not None:
            self._read(late)
        if self._pending is not None and (self._pending.is_there is None or not_finite is not None):
            self.settle()
        if not_finite is not None:
            try:
                raise not_finite
            finally:
                del not_finite  # the error's traceback refers to this frame, and the frame must not refer to the error

    def settle(self) -> None:
        """Compare what has not been compared yet. Call it before a save. Raises WrongResultError, as a step."""
        check, self._pending = self._pending, None
        if check is not None:
            self._read(check)

    def _check(
        self, state: loop.TrainingState, place: _Place, do_step: Callable[[], NonFiniteLossError | None]
    ) -> tuple[_Check, NonFiniteLossError | None]:
        """Do a step with a check. Returns what `do_step` returned with it."""
        state.pulse.enter("recompute", step=place.step + 1)
        world_size, rank = self._shard.count, self._shard.index
        number = (place.run_step + 1) // self._every
        tasks = recomputations(number, state.sync.micro_batches, world_size)
        kept = [each.detach().clone() for each in _tensors_of(state.model)] if world_size > 2 else []
        replicas = self._sum_replicas(state)
        scale = state.scaler.scale(torch.ones((), device=self._prepare.device))
        again = self._recompute(state, place, tasks[rank].number, scale)
        own = next(task.number for task in tasks if task.owner == rank)
        with self._watched(state, own) as found:
            not_finite = do_step()
        row = torch.cat([each.sums for each in (*found, *again, *replicas)])
        state.pulse.enter("compare checks", collective=self._group is not None)
        if self._group is not None:
            row = self._group.start_gather(row, row.new_empty(world_size * row.numel())).wait()
        host, is_there = _to_host(row)
        return _Check(place, tasks, state, kept, scale, host, is_there), not_finite

    @contextlib.contextmanager
    def _watched(self, state: loop.TrainingState, number: int) -> Iterator[tuple[BitSums, BitSums]]:
        """Within the block, the bits of micro-batch `number` are added up: of its images, and of its gradient."""
        images, gradient = BitSums(self._prepare.device), BitSums(self._prepare.device)
        observe = state.observe

        def see(numbers: range, part: Batch, prepared: Tensor, loss: Tensor) -> None:
            if number in numbers:
                images.add(prepared)
            if observe is not None:
                observe(numbers, part, prepared, loss)

        def take(leaf: int, first: int, vector: Tensor) -> None:
            if leaf == number:
                gradient.add(vector, first)

        assert isinstance(state.sync, ExactSync)
        state.observe = see
        try:
            with state.sync.watched(take):
                yield images, gradient
        finally:
            state.observe = observe

    def _recompute(
        self, state: loop.TrainingState, place: _Place, number: int, scale: Tensor
    ) -> tuple[BitSums, BitSums]:
        """Compute a micro-batch aside. Returns the sums of its images and of its gradient; weights and buffers stay."""
        sync = state.sync
        assert isinstance(sync, ExactSync)
        images, targets = self._prepare(self._load(place.epoch, place.step, number))
        key = stream_key(state.seed, Stream.DROPOUT, place.run_step, number)
        of_images, of_gradient = BitSums(self._prepare.device), BitSums(self._prepare.device)
        buffers = list(dict.fromkeys(state.model.buffers()))
        before = [buffer.clone() for buffer in buffers]
        with sync.watched(lambda leaf, first, vector: of_gradient.add(vector, first)), sync.aside(number):
            losses, _ = state.forward(images, targets, [key])  # [B]
            loss = losses.sum() / sync.micro_batches.global_batch
            of_images.add(images)
            (loss * sync.loss_factor * scale).backward()
        _put_back(buffers, before)
        return of_images, of_gradient

    def _sum_replicas(self, state: loop.TrainingState) -> list[BitSums]:
        """The sums of what all processes have a copy of, as `cross_checks.REPLICAS`."""
        parameters = list(state.model.parameters())
        average: list[Tensor] = []
        if state.average is not None:
            spread = state.average.spread if isinstance(state.average, ShardedAverage) else {}
            average = [each for name, each in state.average.weights().items() if name not in spread]
        replicas = (
            parameters,
            list(dict.fromkeys(state.model.buffers())),
            _optimizer_tensors(state.optimizer, set(parameters)),
            average,
        )
        found = []
        for tensors in replicas:
            sums = BitSums(self._prepare.device)
            sums.add_all(tensors)
            found.append(sums)
        return found

    def _read(self, check: _Check) -> None:
        if check.is_there is not None:
            check.is_there.synchronize()
        rows = [Row.from_numbers(each) for each in check.sums.view(self._shard.count, -1).tolist()]
        # All processes have to come to the same: one that alone went on to settle a difference would wait for ever.
        received = [hashlib.sha256(check.sums.numpy().tobytes()).hexdigest()]
        if self._group is not None:
            received = self._group.gather_values(received[0], "compare checks")
        verdict = compare_received(received) or compare_replicas(rows)
        disputes = find_disputes(rows, check.tasks)
        if verdict is None and not disputes:
            self.clean = Cursor(check.place.epoch, check.place.step)
            return
        thirds: dict[int, tuple[Sums, Sums]] = {}
        if verdict is None:
            thirds = self._compute_third(check, disputes)
        found = [(self._identity, thirds)]
        if self._group is not None:
            found = self._group.gather_values(found[0], "settle a check")
        if verdict is None:
            verdict = settle(disputes, rows, {number: value for _, each in found for number, value in each.items()})
        identities = [identity for identity, _ in found]
        raise WrongResultError(
            verdict.what,
            [identities[rank] for rank in verdict.ranks],
            is_certain=verdict.is_certain,
            step=check.place.run_step + 1,
            clean=self.clean,
        )

    def _compute_third(self, check: _Check, disputes: Sequence[Recomputation]) -> dict[int, tuple[Sums, Sums]]:
        """What this process finds for the disputed micro-batches whose third process it is. The run ends after it."""
        own = [
            number for number, rank in choose_thirds(disputes, self._shard.count).items() if rank == self._shard.index
        ]
        if own:
            _put_back(_tensors_of(check.state.model), check.kept)
        found: dict[int, tuple[Sums, Sums]] = {}
        for number in own:
            images, gradient = self._recompute(check.state, check.place, number, check.scale)
            found[number] = tuple(images.sums.tolist()), tuple(gradient.sums.tolist())
        return found


def make_checked_step(
    prepared: Prepared, process: Process, loader: TrainLoader, prepare: Preparer
) -> CheckedStep | None:
    """What checks the hardware in place of the plain step; None without check.recompute_every.

    Args:
        prepared: the parts of the run.
        process: where this process runs.
        loader: of its training batches.
        prepare: makes the input of the trained part from one of them.
    """
    every, strategy, context = prepared.config.check.recompute_every, process.strategy, process.context
    if every is None:
        return None
    return CheckedStep(
        every,
        strategy.shard,
        strategy.group if isinstance(strategy, DistributedProcesses) else None,
        load=SingleBatches.of(prepared, (prepared.features or prepared.sources)["train"], loader).micro_batch,
        prepare=prepare,
        identity=Identity(context.rank, context.world_size, context.host, context.process_id, process.devices, ""),
    )


def _tensors_of(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, each once."""
    return list(dict.fromkeys([*model.parameters(), *model.buffers()]))


def _optimizer_tensors(optimizer: torch.optim.Optimizer, whole: set[nn.Parameter]) -> Iterator[Tensor]:
    """The tensors that an optimizer keeps of whole parameters: of a piece no other process has a copy."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            kept = optimizer.state.get(parameter, {}) if parameter in whole else {}
            yield from (value for _, value in sorted(kept.items()) if isinstance(value, Tensor))


@torch.no_grad()
def _put_back(tensors: Sequence[Tensor], before: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, before, strict=True):
        tensor.copy_(value)


def _to_host(sums: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Begin to copy sums to the host; on a GPU with an event for the end of the copy."""
    if sums.device.type != "cuda":
        return sums, None
    host = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
    host.copy_(sums, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event
