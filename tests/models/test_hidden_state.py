"""What can be seen of the state behind a network."""

from __future__ import annotations

import collections
import contextvars
import datetime
import enum
import fractions
import functools
import importlib
import itertools
import logging
import multiprocessing
import queue
import random
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from signs_dist.models.hidden_state import ENVIRONMENT, NUMPY_GENERATOR, PYTHON_GENERATOR, is_library, look


class Holder(nn.Module):
    """A network with something hanging on it."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.layer.value = value


class Plain:
    def __init__(self) -> None:
        self.n = 0

    def bump(self) -> None:
        self.n += 1


class Slotted:
    __slots__ = ("n", "never_set")

    def __init__(self) -> None:
        self.n = 0


class Broken(collections.UserDict[str, int]):
    def __len__(self) -> int:
        raise RuntimeError("not now")


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Words(list[str]):
    """A list that may have attributes."""


PLACE: contextvars.ContextVar[int] = contextvars.ContextVar("PLACE", default=0)


def generate() -> Iterator[int]:
    yield 1
    yield 2


def count_up() -> Iterator[int]:
    n = 0
    while True:
        n += 1
        yield n


def with_closure() -> tuple[Callable[[], None], Callable[[], None]]:
    seen: list[int] = []
    return lambda: seen.append(1), lambda: None


def set_attribute(value: Any) -> None:
    value.n = 5


CHANGES: dict[str, tuple[Callable[[], Any], Callable[[Any], object], str]] = {
    "object": (Plain, set_attribute, "layer.value.n"),
    "slots": (Slotted, set_attribute, "layer.value.n"),
    "list": (lambda: [1], lambda value: value.append(2), "layer.value"),
    "item": (lambda: [[1], [2]], lambda value: value[1].append(2), "layer.value[1]"),
    "dictionary": (lambda: {"a": 1}, lambda value: value.update(a=2), "layer.value['a']"),
    "key that is an object": (lambda: {Plain: Plain()}, lambda value: value[Plain].bump(), "layer.value[…].n"),
    "deque": (lambda: collections.deque([1, 2], 2), lambda value: value.append(3), "layer.value[0]"),
    "set": (lambda: {1}, lambda value: value.add(2), "layer.value"),
    "partial": (lambda: functools.partial(print, Plain()), lambda value: value.args[0].bump(), "layer.value[0].n"),
    "method": (lambda: Plain().bump, lambda value: value(), "layer.value.n"),
    "function": (lambda: with_closure()[0], lambda value: value(), "seen of with_closure.<lambda>"),
    "counter": (itertools.count, next, "layer.value"),
    "iterator": (lambda: iter([1, 2]), next, "layer.value"),
    "generator": (generate, next, "layer.value"),
    "random": (lambda: random.Random(1), lambda value: value.random(), "layer.value"),
    "numpy": (lambda: np.random.default_rng(1), lambda value: value.random(), "layer.value"),
    "old numpy": (lambda: np.random.RandomState(1), lambda value: value.rand(), "layer.value"),
    "torch": (torch.Generator, lambda value: torch.rand(1, generator=value), "layer.value"),
    "tensor": (lambda: torch.zeros(2, dtype=torch.bfloat16), lambda value: value.add_(1), "layer.value"),
    "complex": (lambda: torch.zeros(2, dtype=torch.complex64), lambda value: value.add_(1j), "layer.value"),
    "array": (lambda: np.zeros(2), lambda value: value.fill(1), "layer.value"),
    "namespace": (lambda: types.SimpleNamespace(n=0), set_attribute, "layer.value.n"),
    "value of a thread": (threading.local, set_attribute, "layer.value.n"),
    "context": (lambda: PLACE, lambda value: value.set(7), "layer.value"),
    "list of a user's class": (Words, set_attribute, "layer.value.n"),
    "user list": (lambda: collections.UserList([1]), lambda value: value.append(2), "layer.value.data"),
    "queue": (queue.Queue, lambda value: value.put(1), "layer.value.queue"),
    "shared value": (lambda: multiprocessing.Value("i", 0), lambda value: setattr(value, "value", 1), "layer.value"),
    "bytes": (bytearray, lambda value: value.append(1), "layer.value"),
    "generator with variables": (count_up, lambda value: [next(value), next(value)], "layer.value"),
    "attribute of a tensor": (lambda: torch.zeros(1), set_attribute, "layer.value.n"),
    "attribute of a member": (lambda: Colour.RED, set_attribute, "layer.value.n"),
    "hidden network": (lambda: [nn.Linear(1, 1)], lambda value: value[0].weight.data.add_(1), "layer.value[0]"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name: str) -> None:
    make, change, told = CHANGES[name]
    model = Holder(make())
    before = look(model)
    assert before.first_difference(look(model)) == ""
    change(model.layer.value)
    assert before.first_difference(look(model)).startswith(told)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *((0, 0.0), (1, True), (None, 0), (1.0, 1.5), ("a", "b"), (0.0, -0.0), (1, [1])),
        *((Colour.RED, Colour.BLUE), (range(1), range(2)), (Path("a"), Path("b")), ([], set()), (slice(1), range(1))),
        *((fractions.Fraction(1), fractions.Fraction(2)), (datetime.timedelta(1), datetime.timedelta(2))),
    ],
)
def test_another_value_or_kind_differs(before: Any, after: Any) -> None:
    assert look(Holder(before)).first_difference(look(Holder(after))) == "layer.value"


@pytest.mark.parametrize(
    "make",
    [
        lambda: float("nan"),
        lambda: np.float32("nan"),
        lambda: torch.full((2,), float("nan")),
        lambda: torch.zeros(0),
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.zeros(2, device="meta"),
        lambda: torch.zeros(2, dtype=torch.bool),
        lambda: np.array([None, "a"], dtype=object),
        lambda: Colour.RED,
        lambda: logging.getLogger("a"),
        lambda: [torch, sys],
        lambda: slice(1, 2),
        Broken,
    ],
)
def test_equal_values_are_equal(make: Callable[[], Any]) -> None:
    assert look(Holder(make())).first_difference(look(Holder(make()))) == ""


def test_a_value_that_appears_or_vanishes_differs() -> None:
    model = Holder(1)
    before = look(model)
    model.layer.more = 2
    assert before.first_difference(look(model)) == "layer.more"
    del model.layer.more, model.layer.value
    assert before.first_difference(look(model)) == "layer.value"


def test_what_hangs_on_a_parameter_or_a_buffer_is_seen() -> None:
    model = nn.BatchNorm1d(2)
    before = look(model)
    model.weight.calls = 1  # type: ignore[attr-defined]
    assert before.first_difference(look(model)) == "weight.calls"
    del model.weight.calls
    model.running_mean.calls = 1  # type: ignore[union-attr]
    assert before.first_difference(look(model)) == "running_mean.calls"


def test_a_plain_value_on_a_class_or_a_module_of_a_library_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(nn.Linear):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images * torch.some_calls  # type: ignore[attr-defined]

    model = Net(1, 1)
    before = look(model)
    monkeypatch.setattr(nn.Linear, "some_calls", 1, raising=False)
    assert before.first_difference(look(model)) == "Linear.some_calls"
    before = look(model)
    monkeypatch.setattr(torch, "some_calls", 1, raising=False)
    assert before.first_difference(look(model)) == "torch.some_calls"


def test_objects_that_hold_each_other_are_looked_at_once() -> None:
    value = Plain()
    value.me, value.list = value, []
    value.list.append(value.list)
    model = Holder(value)
    before = look(model)
    value.bump()
    assert before.first_difference(look(model)) == "layer.value.n"


def test_what_a_checkpoint_holds_is_not_hidden() -> None:
    model = nn.Sequential(nn.LSTM(2, 2), nn.BatchNorm1d(2))
    before = look(model)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.add_(1)
    assert before.first_difference(look(model)) == ""


def test_counters_of_a_cached_function_are_no_state() -> None:
    @functools.lru_cache
    def table(size: int) -> int:
        return size

    model = Holder(table)
    before = look(model)
    table(1)
    assert before.first_difference(look(model)) == ""


def test_a_global_of_another_module_of_the_user_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bump = "N = 0\nUNUSED = 0\n\ndef bump():\n    global N\n    N += 1\n"
    net = "class Net(torch.nn.Module):\n    def forward(self, images):\n        state_helpers.bump()\n"
    (tmp_path / "state_helpers.py").write_text(bump)
    (tmp_path / "state_network.py").write_text(f"import torch\nimport state_helpers\n\n{net}")
    monkeypatch.syspath_prepend(tmp_path)
    model = importlib.import_module("state_network").Net()
    helpers = sys.modules["state_helpers"]
    before = look(model)
    monkeypatch.setattr(helpers, "UNUSED", 1)
    assert before.first_difference(look(model)) == ""
    model(None)
    assert before.first_difference(look(model)) == "state_helpers.N"
    del sys.modules["state_helpers"], sys.modules["state_network"]


def test_the_global_generators_and_the_environment_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, python, numpy = nn.Linear(1, 1), random.getstate(), np.random.get_state()
    try:
        before = look(model)
        np.random.rand()
        assert before.first_difference(look(model)) == NUMPY_GENERATOR
        random.random()
        assert before.first_difference(look(model)) == PYTHON_GENERATOR
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
    monkeypatch.setenv("SOME_VARIABLE", "1")
    assert before.first_difference(look(model)) == f"{ENVIRONMENT}SOME_VARIABLE"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("torch.nn.modules.linear", True),
        ("torchvision.models", True),
        ("os.path", True),
        ("pytest", True),  # installed
        ("signs_dist.models.mlp", True),
        ("__main__", False),
        ("tests.models.test_hidden_state", False),
        ("made_up", False),
        (None, True),
    ],
)
def test_which_modules_are_libraries(module: str | None, expected: bool) -> None:
    assert is_library(module) is expected


def test_a_large_network_is_looked_at_whole() -> None:
    model = torchvision.models.resnet18(weights=None)
    assert sum(name.startswith("layer4.1.bn2.") for name in look(model).values) >= 5


def test_a_long_list_is_looked_at_in_part() -> None:
    model = Holder(list(range(300_000)))
    assert len(look(model).values) <= 100_001
