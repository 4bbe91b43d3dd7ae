"""What objects of Python's and NumPy's own classes hold, and which settings of torch are compared."""

from __future__ import annotations

import array
import ctypes
import decimal
import io
import os
import queue
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.models.standard_objects import has_attributes, torch_settings, value_of


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (bytearray, lambda value: value.append(1)),
        (lambda: array.array("b"), lambda value: value.append(1)),
        (ctypes.c_int, lambda value: setattr(value, "value", 1)),
        (ctypes.c_double * 2, lambda value: value.__setitem__(1, 0.5)),
        (io.StringIO, lambda value: value.write("a")),
        (io.BytesIO, lambda value: value.write(b"a")),
        (queue.SimpleQueue, lambda value: value.put(1)),
        (lambda: np.random.SeedSequence(0), lambda value: value.spawn(1)),
        (lambda: np.random.PCG64(0), lambda value: value.advance(1)),
    ],
)
def test_another_content_is_another_value(make: Callable[[], Any], change: Callable[[Any], object]) -> None:
    value = make()
    before = value_of(value)
    assert before is not None
    assert value_of(value) == value_of(make()) == before
    change(value)
    assert value_of(value) != before


def test_equal_text_of_another_class_is_another_value() -> None:
    assert value_of(decimal.Decimal("1")) != value_of(range(1))
    assert value_of(object()) is None


def test_which_objects_are_bags_of_attributes() -> None:
    assert has_attributes(SimpleNamespace())
    assert not has_attributes(io.StringIO())


def test_settings_that_change_results_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch_settings()
    with arithmetic_kept():
        torch.set_num_threads(torch.get_num_threads() + 1)
        assert torch_settings()["torch.get_num_threads()"] != before["torch.get_num_threads()"]
        torch.set_deterministic_debug_mode("warn")
        assert torch_settings()["torch.get_deterministic_debug_mode()"] == 1
    assert torch_settings() == before
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")  # noqa: PTH106
    assert torch_settings()["the current folder"] == ""
