"""A training step whose work on the device is recorded once for each shape of the images, and then replayed.

What changes from step to step is written into the recording's own tensors before a replay: images, targets, learning
rates, the share by which the moving average moves. Dropout's key seeds the device's generator before each pass, as in
the plain step. Adam's step number and the scale of float16's loss are tensors on the device already.

The host's part comes after a replay: losses and hits of the log, flags, samples, stop and save. A step is recorded
after `NUM_WARM_UP` steps of its shape, which are steps of the run: they do the same work unrecorded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from signs_dist.data.batches import Batch
from signs_dist.data.generators import seed_device
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.distributed.step_sync import Described, Replayed, StepSync
from signs_dist.errors import UserError
from signs_dist.learning.metrics import RunningSums
from signs_dist.training import loop
from signs_dist.training.graph_choice import GraphChoice
from signs_dist.training.graph_recorder import Recorder, Work, first_error
from signs_dist.training.image_preparer import Preparer

NUM_WARM_UP = 3
"""Steps of a shape before it is recorded: libraries choose kernels, and the optimizer makes its state."""
MOST_RECORDED = 4
"""Shapes that are recorded at a time; of more, the one that was used longest ago is dropped."""
MOST_RECORDINGS = 32
"""Recordings of a run. Images whose shape changes all the time are then trained by plain steps."""

Prepared = tuple[Tensor, Tensor]
"""(images, targets) of a pass, on the device."""
Signature = tuple[object, ...]


@dataclasses.dataclass
class _Recording:
    """The recording of a step for one shape of the images.

    Attributes:
        recorder: records its passes, in one pool of memory.
        images, targets: the input of a pass.
        outputs: losses [B], logits [B, C] and loss of each pass.
        flags: of the step.
        gradients: of the parameters that have one after the last pass.
        replays: of each pass; empty during the warm-up.
        num_warm: steps of the warm-up that are done.
    """

    recorder: Recorder
    images: Tensor
    targets: Tensor
    outputs: list[tuple[Tensor, Tensor, Tensor]] = dataclasses.field(default_factory=list)
    flags: Tensor | None = None
    gradients: list[tuple[nn.Parameter, Tensor]] = dataclasses.field(default_factory=list)
    replays: list[Work] = dataclasses.field(default_factory=list)
    num_warm: int = 0


class GraphedStep:
    """Does what `loop.train_step` does; call it in its place.

    Where a step cannot be recorded, it is done by `loop.train_step` from then on, and `tell` gets a line that says why.

    Args:
        choice: how much to record.
        make_recorder: makes the recorder of a shape.
        recover: makes forward, synchronisation and scaler of the state again after a recording that failed.
        tell: shows a line.

    Attributes:
        choice: how much is recorded. After a recording that failed it says why nothing is.
    """

    def __init__(
        self,
        choice: GraphChoice,
        make_recorder: Callable[[], Recorder],
        *,
        recover: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.choice = choice
        self._make_recorder, self._recover, self._tell = make_recorder, recover, tell
        self._recordings: dict[Signature, _Recording] = {}  # the one that was used longest ago is first
        self._num_recordings = 0
        self._sync: StepSync | None = None
        self._rates: list[Tensor] = []
        self._share = torch.zeros(())

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
        """As `loop.train_step`."""
        if self.choice.covers == "nothing":
            loop.train_step(state, batch, prepare, step=step, run_step=run_step, sums=sums)
            return
        self._begin(state, prepare.device)
        parts = list(loop.parts_of(batch, state.sync))
        inputs = [prepare(part) for _, part in parts]
        recording = self._find(inputs)
        if recording is None or not self._make_ready(state, recording, [part for _, part in parts]):
            loop.train_step(state, batch, prepare, step=step, run_step=run_step, sums=sums)
            return
        state.pulse.enter("forward", step=step + 1)
        self._write_numbers(state)
        seen: list[tuple[int, Described, Tensor]] = []
        for place, ((numbers, part), (images, targets)) in enumerate(zip(parts, inputs, strict=True)):
            recording.images.copy_(images)
            recording.targets.copy_(targets)
            seed_device(prepare.device, stream_key(state.seed, Stream.DROPOUT, run_step, numbers.start))
            if recording.replays:
                recording.replays[place]()
            else:
                work = functools.partial(self._do_pass, state, recording, place, part)
                recording.recorder.warm_up(work)
            # Copies: the next pass, or the next step, overwrites what a replay has computed.
            losses, logits, loss = (value.clone() for value in recording.outputs[place])
            seen.append((numbers.start, part, loss))
            if state.observe is not None:
                state.observe(numbers, part, images, loss)
            sums.add(losses, logits, targets)
        if not recording.replays:
            recording.num_warm += 1
        assert recording.flags is not None
        state.sync.finish(Replayed(recording.flags, seen))
        state.pulse.enter("optimizer")
        self._end(state, recording)

    def _begin(self, state: loop.TrainingState, device: torch.device) -> None:
        """Forget recordings of another network, such as the one before a thaw, and make the tensors of the numbers."""
        if self._sync is state.sync:
            return
        self._recordings.clear()
        self._sync = state.sync
        self._rates = [torch.zeros((), device=device) for _ in state.optimizer.param_groups]
        self._share = torch.zeros((), device=device)

    def _find(self, inputs: Sequence[Prepared]) -> _Recording | None:
        """The recording for these images, new or not; None if their passes differ in shape, or there were too many."""
        images, targets = inputs[0]
        signature = _signature(images, targets)
        if any(_signature(*other) != signature for other in inputs[1:]):
            return None
        recording = self._recordings.pop(signature, None)
        if recording is None:
            if self._num_recordings == MOST_RECORDINGS:
                return None
            self._num_recordings += 1
            if len(self._recordings) == MOST_RECORDED:
                del self._recordings[next(iter(self._recordings))]
            recording = _Recording(self._make_recorder(), torch.empty_like(images), torch.empty_like(targets))
        self._recordings[signature] = recording
        return recording

    def _make_ready(self, state: loop.TrainingState, recording: _Recording, parts: Sequence[Batch]) -> bool:
        """Record the step if its warm-up is over. Returns False if that failed; nothing was computed then.

        Args:
            state: what is trained, and how.
            recording: for the shape of these images.
            parts: the batch of each pass.

        Raises:
            UserError: it failed, and a graph is required.
        """
        if recording.replays or recording.num_warm < NUM_WARM_UP:
            return True
        state.sync.settle()  # the host's part of the steps before, which knows their losses
        replays: list[Work] = []
        try:
            for place, part in enumerate(parts):
                work = functools.partial(self._do_pass, state, recording, place, part, is_recorded=True)
                replays.append(recording.recorder.record(work))
        except RuntimeError as error:
            why = str(first_error(error)).strip().partition("\n")[0].rstrip(".")
            recording.recorder.recover()
            if self.choice.is_required:
                raise UserError(
                    f"train.graph=true: the training step cannot be recorded as a CUDA graph: {why}. Type "
                    f"train.graph=auto or train.graph=false."
                ) from error
        else:
            recording.replays = replays
            return True
        # After the block: the error refers to the synchronisation, which takes gradients for as long as it lives.
        self._recordings.clear()
        self._sync = None
        self._recover()
        self.choice = GraphChoice("nothing", f"it cannot be recorded: {why}")
        self._tell(f"the training step is {self.choice.describe()}")
        return False

    def _do_pass(
        self, state: loop.TrainingState, recording: _Recording, place: int, part: Batch, *, is_recorded: bool = False
    ) -> None:
        """A pass through the network, and what follows the last one on the device: the work that is recorded."""
        sync = state.sync
        silent = dataclasses.replace(state, observe=None, average=None)
        sync.recording = True
        try:
            numbers = sync.passes[place]
            images, targets = recording.images, recording.targets
            losses, logits, loss = loop.run_pass(silent, numbers, part, images, targets, ())
            recording.outputs[place:] = [(losses.detach(), logits.detach(), loss.detach())]
            if place < len(sync.passes) - 1:
                return
            recording.flags = sync.combine()
            if self.choice.covers == "passes":
                parameters = state.model.parameters()
                recording.gradients = [(one, one.grad) for one in parameters if one.grad is not None]
            else:
                with _on_device(state.optimizer, self._rates, is_recorded=is_recorded):
                    loop.move_weights(silent)
                if state.average is not None:
                    state.average.move(self._share)
        finally:
            sync.recording = False

    def _write_numbers(self, state: loop.TrainingState) -> None:
        """Write the numbers of this step into the tensors that the recorded optimizer reads."""
        if self.choice.covers != "step":
            return
        for rate, group in zip(self._rates, state.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        if state.average is not None:
            self._share.fill_(1 - state.average.decay_now())

    def _end(self, state: loop.TrainingState, recording: _Recording) -> None:
        """The optimizer's step, where it is not recorded; else what the host counts of it."""
        if self.choice.covers == "passes":
            for parameter, gradient in recording.gradients:
                parameter.grad = gradient  # after a step of another shape it has the gradient of that one
            loop.move_weights(state)
        elif state.average is not None:
            state.average.num_updates += 1


def _signature(images: Tensor, targets: Tensor) -> Signature:
    """What must be equal for two passes to be replayed by one recording."""
    return tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in (images, targets))


@contextlib.contextmanager
def _on_device(optimizer: torch.optim.Optimizer, rates: Sequence[Tensor], *, is_recorded: bool) -> Iterator[None]:
    """Within the block, the optimizer reads its learning rates from the device. A checkpoint has them as numbers."""
    groups = optimizer.param_groups
    before = [(group["lr"], group.get("capturable")) for group in groups]
    for group, rate in zip(groups, rates, strict=True):
        group["lr"] = rate
        if is_recorded and "capturable" in group:
            group["capturable"] = True  # torch asks for it; the fused kernels do not read it
    try:
        yield
    finally:
        for group, (rate_before, capturable) in zip(groups, before, strict=True):
            group["lr"] = rate_before
            if capturable is not None:
                group["capturable"] = capturable
