"""What each layer computes while a network trains: its output, the gradient at its output, its parameters' gradients.

Watching reads and changes nothing: the bits of a step are those without it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal

from torch import Tensor, nn

Direction = Literal["forward", "backward", "gradient"]
OnOutput = Callable[[int, str, Direction, Tensor], None]
"""Called with (number of the pass, name, direction, tensor); see `LayerWatch`."""
NETWORK = "(network)"
"""The name of the network itself, where it computes its output beside its last layer."""


class LayerWatch:
    """Within `with LayerWatch(model, on_output):`, each tensor that a training pass computes is given to `on_output`.

    A pass is a call of the network and the backward pass after it. Passes are counted from 0 in the order of their
    calls: on each process the passes of a step are those of `StepSync.passes`. For each pass, in this order:

        "forward": the output of each layer as soon as it is computed, before a later layer changes it in place.
        "backward": the gradient at the output of each layer, as the backward pass reaches it.
        "gradient": the gradient of each parameter, named as in `named_parameters`, of this pass alone.

    The last two take turns: from the last layers of the network to the first.

    A layer is a module without modules in it, and any other module that computes a tensor beside what its own last
    layer gave, such as the sum at the end of a residual block, which follows the layers within it. It is named as in
    `named_modules`. Its second call in a pass is `name#2`. Of an output of several tensors the further ones are
    `name[1]`, `name[2]`. A frozen layer has no gradients. What gradient checkpointing computes again is not given.

    The gradients hold the factors of the loss: `StepSync.loss_factor` and the scale of float16. `on_output` gets the
    run's own tensors, without a graph: it may copy them, and must not change them.

    Args:
        model: the plain network, whose names are used.
        on_output: gets the tensors. It runs within the passes: an exception from it ends the step.
        part: the module that a pass calls, where it is not the whole network, as with stored features.
    """

    def __init__(self, model: nn.Module, on_output: OnOutput, *, part: nn.Module | None = None) -> None:
        self._model, self._on_output = model, on_output
        self._root = part if part is not None else model
        self._pass = -1
        self._is_within = False
        self._calls: dict[str, int] = {}
        self._last: tuple[Tensor, int] | None = None  # the output given last, and its version
        self._watched: set[str] = set()  # parameters
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> LayerWatch:
        within = {id(module) for module in self._root.modules()}
        for name, module in self._model.named_modules():
            if id(module) in within:
                is_leaf = not any(True for _ in module.children())
                note = functools.partial(self._note_output, name or NETWORK, is_leaf)
                self._cleanup.callback(module.register_forward_hook(note).remove)
        self._cleanup.callback(self._root.register_forward_pre_hook(self._begin_pass).remove)
        # Hooks are called in the order of their registration: the root's own output is given before its pass ends.
        self._cleanup.callback(self._root.register_forward_hook(self._end_pass, always_call=True).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._last = None
        self._watched.clear()
        self._cleanup.close()

    def _begin_pass(self, module: nn.Module, inputs: Any) -> None:
        self._pass += 1
        self._is_within, self._calls, self._last = True, {}, None
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad and name not in self._watched:  # all in the first pass, others after a thaw
                self._watched.add(name)
                note = functools.partial(self._note_gradient, name)
                self._cleanup.callback(parameter.register_hook(note).remove)  # type: ignore[no-untyped-call]

    def _end_pass(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._is_within, self._last = False, None

    def _note_output(self, name: str, is_leaf: bool, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._is_within:  # a block that is computed again in the backward pass
            return
        found = list(tensors_in(output))
        if not is_leaf and len(found) == 1 and self._last is not None:
            tensor, version = self._last
            if found[0] is tensor and tensor._version == version:
                return  # its last layer has given it
        count = self._calls[name] = self._calls.get(name, 0) + 1
        called = name if count == 1 else f"{name}#{count}"
        for place, tensor in enumerate(found):
            full_name = f"{called}[{place}]" if place else called
            self._on_output(self._pass, full_name, "forward", tensor.detach())
            if tensor.requires_grad and not tensor.is_leaf:  # a parameter that a module returns has its own hook
                note = functools.partial(self._note_backward, self._pass, full_name)
                tensor.register_hook(note)  # type: ignore[no-untyped-call]
        self._last = (found[-1], found[-1]._version) if found else None

    def _note_backward(self, number: int, name: str, gradient: Tensor) -> None:
        self._on_output(number, name, "backward", gradient.detach())

    def _note_gradient(self, name: str, gradient: Tensor) -> None:
        self._on_output(self._pass, name, "gradient", gradient.detach())


def tensors_in(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module returns: a tensor, or tuples, lists and mappings of them."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_in(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from tensors_in(value)
