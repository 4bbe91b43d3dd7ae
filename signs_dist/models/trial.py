"""Trial passes of a network before it trains: what they compute, as a digest, and what they leave behind.

Exact mode compares the digest between processes and between the attempts of a run, and refuses a network whose passes
depend on more than images, weights, buffers and torch's generator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from signs_dist.data.generators import all_generators_kept, device_generator_kept
from signs_dist.models.determinism import find_unstable_layer, same_bits
from signs_dist.models.hidden_state import ENVIRONMENT, NUMPY_GENERATOR, PYTHON_GENERATOR, look
from signs_dist.models.standard_objects import torch_settings
from signs_dist.models.trainable import set_training_mode

EVALUATED_IMAGES = 2
"""Images of an evaluation pass. Networks take any number of images in evaluation."""

Compute = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From (images [B, 3, H, W], targets) to (losses [B], logits [B, C])."""
_Values = dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class TrialDigest:
    """SHA-256 (hex) of what a network computes from its initial weights, the same on all processes of an exact run.

    Attributes:
        weights: initial parameters and buffers.
        training: losses, logits, gradients and moved buffers of a training pass over the first micro-batch of the run.
        evaluation: losses and logits of an evaluation pass over its first images.
    """

    weights: str
    training: str
    evaluation: str


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network, and a micro-batch to try it on.

    Attributes:
        model: the plain network, with its initial weights.
        train: computes losses and logits, and seeds torch's generator for dropout, the same at each call.
        evaluate: computes losses and logits as an evaluation does, without seeding.
        images: float32 [B, 3, H, W], prepared, on the network's device.
        labels: targets of the loss: int64 [B], or shares of the classes float32 [B, C].
        is_split: whether a step of the run has several micro-batches, which processes may share.
    """

    model: nn.Module
    train: Compute
    evaluate: Compute
    images: Tensor
    labels: Tensor
    is_split: bool = True


def find_digest(trial: Trial) -> TrialDigest:
    """What the network computes, from one pass in training mode and one in evaluation mode."""
    with _Passes(trial).kept() as passes:
        return passes.digest()


def find_fault(trial: Trial, *, thorough: bool = True) -> tuple[TrialDigest, str]:
    """Try the network, and find what would make its results depend on the processes or on kills.

    A pass may change buffers, and may keep what depends on its own images only, such as a cache or its last features.
    So the passes are training and evaluation in turn, with the same images, then with other images, then with the same
    again. Results must repeat, and so must everything that `hidden_state.look` sees. Afterwards parameters, buffers and
    random generators are as before, gradients are cleared, and the network is in training mode.

    Args:
        trial: the network and its micro-batch.
        thorough: False for networks that are known to keep nothing: the results of two training passes are compared.

    Returns:
        The digest, and a clause such as `its forward pass changes layers.calls, …`; "" without a fault.
    """
    settings = torch_settings()
    with _Passes(trial).kept() as passes:
        digest = passes.digest()
        passes.train()
        if changed := next((name for name, value in torch_settings().items() if settings[name] != value), ""):
            return digest, f"its forward pass changes {changed}, on which its results depend. Leave it as it is"
        kept = (_history(passes) or passes.find_changed_parameter()) if thorough else ""
        return digest, kept or passes.find_unequal_result()


def _history(passes: _Passes) -> str:
    """Repeat the passes, with other images between them, and name what they leave behind."""
    states = [look(passes.trial.model)]
    passes.train()
    states.append(look(passes.trial.model))
    if name := states[0].first_difference(states[1]):
        return _about_hidden(name)
    if fault := passes.find_new_buffer():
        return fault
    passes.evaluate()
    repeated = [look(passes.trial.model)]
    passes.evaluate()
    repeated.append(look(passes.trial.model))
    passes.train(other=True)
    passes.evaluate(other=True)
    passes.train()
    passes.evaluate()
    repeated.append(look(passes.trial.model))
    names = (one.first_difference(other) for one, other in itertools.pairwise(repeated))
    name = next((name for name in names if name), "")
    return (_about_hidden(name) if name else "") or passes.find_lost_buffer()


def _about_hidden(name: str) -> str:
    if name in (PYTHON_GENERATOR, NUMPY_GENERATOR):
        return f"its forward pass draws from {name}. Draw from torch's generator, as torch.rand does"
    if name.startswith(ENVIRONMENT):
        return f"its forward pass changes {name}. Keep what the pass needs in a buffer"
    holder, _, last = name.rpartition(".")
    if last == "training":
        what = holder or "the network"
        return f"its forward pass switches {what} between training and evaluation. Leave that to the run"
    attribute = last.partition("[")[0]
    how = f'self.register_buffer("{attribute}", torch.zeros(()))' if attribute.isidentifier() else "register_buffer"
    return (
        f"its forward pass changes {name}, which no checkpoint holds and which differs between processes. Make it a "
        f"buffer with {how}, and change it in place"
    )


class _Passes:
    """Runs passes of a trial, and keeps the results of the first.

    Attributes:
        trial: the network and its micro-batch.
    """

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        model = trial.model
        self._device = trial.images.device
        self._buffers = {name: (buffer, buffer.detach().clone()) for name, buffer in _buffers(model)}
        self._weights = _digests((*_parameters(model), *((name, kept) for name, (_, kept) in self._buffers.items())))
        self._first: dict[str, _Values] = {}
        self._unequal: dict[str, str] = {}
        self._is_training: bool | None = None
        self._buffers_now: _Values = {}
        self._new_buffer = self._lost_buffer = ""

    @contextlib.contextmanager
    def kept(self) -> Iterator[_Passes]:
        """After the block buffers and random generators are as before, and gradients are cleared."""
        with all_generators_kept(), device_generator_kept(self._device):
            try:
                yield self
            finally:
                self._restore()
                self.trial.model.zero_grad(set_to_none=True)
                set_training_mode(self.trial.model)

    def digest(self) -> TrialDigest:
        """The first passes."""
        self.train()
        self.evaluate()
        return TrialDigest(
            _combined(self._weights),
            *(_combined(_digests(self._first[mode].items())) for mode in ("training", "evaluation")),
        )

    def train(self, *, other: bool = False) -> None:
        """A training pass, forward and backward, from the buffers of the start; `other`: over other images."""
        model = self.trial.model
        self._enter(is_training=True)
        self._restore()
        model.zero_grad(set_to_none=True)
        losses, logits = self.trial.train(*self._batch(other=other))
        losses.sum().backward()  # type: ignore[no-untyped-call]
        gradients = {
            f"the gradient of {name}": parameter.grad
            for name, parameter in _parameters(model)
            if parameter.grad is not None
        }
        buffers = dict(_buffers(model))
        self._compare_buffers(buffers, other=other)
        moved = {f"the buffer {name}": buffer.detach().clone() for name, buffer in buffers.items()}
        results = {"the loss": losses.detach(), "the output": logits.detach(), **gradients, **moved}
        self._keep("training", results, other=other)

    @torch.no_grad()
    def evaluate(self, *, other: bool = False) -> None:
        """An evaluation pass; `other`: over other images."""
        self._enter(is_training=False)
        is_first = "evaluation" not in self._first  # it may fill a cache
        before = {name: buffer.clone() for name, buffer in _buffers(self.trial.model)}
        images, labels = self._batch(other=other)
        losses, logits = self.trial.evaluate(images[:EVALUATED_IMAGES], labels[:EVALUATED_IMAGES])
        results = {"the loss in evaluation": losses.clone(), "the output in evaluation": logits.clone()}
        self._keep("evaluation", results, other=other)
        changed = _first_difference(before, dict(_buffers(self.trial.model)))
        if changed and not is_first:
            self._lost_buffer = (
                f"it changes the buffer {changed} in evaluation, where each process has other images. Change it in "
                f"training only, where self.training is true"
            )

    def find_changed_parameter(self) -> str:
        """A clause on the first parameter that a pass has changed; "" without one."""
        now = _digests(_parameters(self.trial.model))
        changed = next((name for name, digest in now.items() if self._weights.get(name) != digest), "")
        if not changed:
            return ""
        return f"its forward pass changes the parameter {changed}. Make it a buffer"

    def find_new_buffer(self) -> str:
        """A clause on the first buffer that each pass replaces; "" without one."""
        return self._new_buffer

    def find_lost_buffer(self) -> str:
        """A clause on the first buffer whose changes are lost or differ between processes; "" without one."""
        return self._lost_buffer

    def find_unequal_result(self) -> str:
        """A clause on the first result that did not repeat; it names a layer if one can be told. "" without one."""
        if "training" in self._unequal:
            set_training_mode(self.trial.model)
            self._restore()
            found = find_unstable_layer(self.trial.model, self._loss) or self._unequal["training"]
        else:
            found = self._unequal.get("evaluation", "")
        if not found:
            return ""
        return (
            f"{found} gives other bits each time for the same images and seed. Let it read its input, its weights and "
            f"buffers, and torch's generator of the device only"
        )

    def _loss(self) -> Tensor:
        losses, _ = self.trial.train(*self._batch(other=False))
        return losses.sum()

    def _enter(self, *, is_training: bool) -> None:
        # Set at a change only: a pass must not change the mode of a layer either.
        if is_training and self._is_training is not True:
            set_training_mode(self.trial.model)
        elif not is_training and self._is_training is not False:
            self.trial.model.eval()
        self._is_training = is_training

    def _batch(self, *, other: bool) -> tuple[Tensor, Tensor]:
        images, labels = self.trial.images.clone(), self.trial.labels.clone()  # a network may write into its input
        if not other:
            return images, labels
        mean = images.mean()
        return (mean + 2 * (images - mean)).flip(0, 3), labels.flip(0)  # with larger and smaller pixels than any before

    @torch.no_grad()
    def _restore(self) -> None:
        for buffer, kept in self._buffers.values():
            buffer.copy_(kept)

    def _keep(self, mode: str, results: _Values, *, other: bool) -> None:
        if other:
            return
        if mode not in self._first:
            self._first[mode] = results
        elif unequal := _first_difference(self._first[mode], results):
            self._unequal.setdefault(mode, unequal)

    def _compare_buffers(self, buffers: _Values, *, other: bool) -> None:
        """Look at the buffers after a training pass."""
        before, self._buffers_now = self._buffers_now, buffers
        replaced = next((name for name, buffer in buffers.items() if before.get(name, buffer) is not buffer), "")
        self._new_buffer = (
            f"its forward pass gives the buffer {replaced} a new tensor. Change it in place, as "
            f"self.{replaced.rpartition('.')[2]}.copy_(…) does"
            if replaced
            else ""
        )
        saved = self.trial.model.state_dict(keep_vars=True)
        for name, (buffer, kept) in self._buffers.items():
            if name not in saved and buffers.get(name) is buffer and not same_bits(buffer, kept):
                self._lost_buffer = (
                    f"its forward pass changes the buffer {name}, which no checkpoint holds. Register it with "
                    f"persistent=True"
                )
        if other and self.trial.is_split:
            counters = {name: each for name, each in buffers.items() if not each.is_floating_point()}
            first = self._first["training"]
            expected = {name: first.get(f"the buffer {name}", each) for name, each in counters.items()}
            if name := _first_difference(expected, counters):
                self._lost_buffer = (
                    f"its buffer {name} holds whole numbers that depend on the images, and cannot be averaged over "
                    f"processes. Make it a floating-point buffer"
                )


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, each) for name, each in model.named_parameters() if not _is_lazy(each))


def _buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, each) for name, each in model.named_buffers() if not _is_lazy(each))


def _is_lazy(tensor: Tensor) -> bool:
    return bool(nn.parameter.is_lazy(tensor))


def _first_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """The first name whose tensors differ, or which one of the two lacks; "" if all are equal."""
    for name, tensor in expected.items():
        if name not in found or not same_bits(tensor, found[name]):
            return name
    return next((name for name in found if name not in expected), "")


def _digests(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, str]:
    """SHA-256 (hex) of each tensor: dtype, shape and bytes. All values that are not a number count as one."""
    digests = {}
    for name, tensor in tensors:
        plain = tensor.detach()
        if plain.is_floating_point():
            plain = plain.masked_fill(plain.isnan(), float("nan"))
        plain = plain.cpu().contiguous()
        hasher = hashlib.sha256(f"{plain.dtype}\0{list(plain.shape)}\0".encode())
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data if plain.numel() else b"")
        digests[name] = hasher.hexdigest()
    return digests


def _combined(digests: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{name}\0{digest}" for name, digest in digests.items()).encode()).hexdigest()
