"""Photos in parts, which threads read ahead."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from signs_dist.data.images import BadImageError
from signs_dist.inference import parts as module
from signs_dist.inference.parts import CHUNK, Part, PartReader, ReadPart, divide, work_ahead


def named(count: int) -> list[Path]:
    return [Path(str(number)) for number in range(count)]


@pytest.mark.parametrize(
    ("num_paths", "num_together", "num_computing", "sizes"),
    [
        (0, 4, 1, []),
        (3, 4, 1, [(3, True, False)]),
        (20, 64, 1, [(8, False, False), (8, False, False), (4, True, False)]),
        (9, 4, 1, [(4, True, False), (4, True, False), (1, True, False)]),
        (32, 32, 2, [(16, False, True), (16, True, True)]),
        (32, 32, 3, [(11, False, True), (11, False, True), (10, True, True)]),
        (41, 32, 2, [(16, False, True), (16, True, True), (8, False, False), (1, True, False)]),
    ],
)
def test_batches_are_divided(
    num_paths: int, num_together: int, num_computing: int, sizes: list[tuple[int, bool, bool]]
) -> None:
    parts = list(divide(named(num_paths), num_together, num_computing))
    assert [(len(part.paths), part.ends_batch, part.is_computed) for part in parts] == sizes
    assert [path for part in parts for path in part.paths] == named(num_paths)


def test_paths_without_an_end_are_divided_as_they_come() -> None:
    endless = (Path(str(number)) for number in itertools.count())
    assert len(next(divide(endless, 64, 2)).paths) == 32


def as_read(part: Part) -> ReadPart:
    return ReadPart(part.paths, {}, np.zeros((0, 1, 1, 3), np.uint8), None, None, part.ends_batch)


def test_parts_are_read_in_order_and_in_several_threads() -> None:
    both_run = threading.Barrier(2, timeout=60)
    names: set[str] = set()

    def read(part: Part) -> ReadPart:
        names.add(threading.current_thread().name)
        if part.paths[0].name in ("0", str(CHUNK)):  # the first two parts wait for each other
            both_run.wait()
        return as_read(part)

    found = list(work_ahead(divide(named(43), 64, 1), read, num_threads=2, num_ahead=2 * CHUNK))
    assert [path for part in found for path in part.paths] == named(43)
    assert len(names) == 2


def test_nothing_is_read_any_more_after_an_early_end(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, goes_on, names = threading.Event(), threading.Event(), []

    def load(path: Path, **_: Any) -> Image.Image:
        names.append(path.name)
        if path.name == "5":
            begun.set()
            assert goes_on.wait(60)
        return Image.new("RGB", (2, 2))

    monkeypatch.setattr(module, "load_rgb", load)
    reader = PartReader([], size=2, max_megapixels=1, skip_bad=True)

    def parts() -> Iterator[Part]:
        yield Part(named(3), ends_batch=False, is_computed=False)
        yield Part(named(40)[3:], ends_batch=False, is_computed=False)
        yield Part(named(80)[40:], ends_batch=True, is_computed=False)

    ahead = work_ahead(parts(), reader, num_threads=1, num_ahead=100)
    next(ahead)
    assert begun.wait(60)
    reader.stop()  # as after Ctrl-C
    goes_on.set()
    before = time.monotonic()
    ahead.close()
    assert names == [str(number) for number in range(6)]
    assert time.monotonic() - before < 30


@pytest.mark.parametrize(
    ("skip_bad", "names", "errors", "ends"), [(True, ["a", "bad", "b"], [1], False), (False, ["a"], [], True)]
)
def test_an_unreadable_photo(
    skip_bad: bool, names: list[str], errors: list[int], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, **_: Any) -> Image.Image:
        if path.name == "bad":
            raise BadImageError(path.name, "truncated")
        return Image.new("RGB", (2, 2), (ord(path.name), 0, 0))

    monkeypatch.setattr(module, "load_rgb", load)
    reader = PartReader([], size=2, max_megapixels=1, skip_bad=skip_bad)
    found = reader(Part([Path("a"), Path("bad"), Path("b")], ends_batch=True, is_computed=False))
    assert [path.name for path in found.paths] == names
    assert list(found.errors) == errors
    assert (found.last_error is not None) is ends
    assert found.pixels[:, 0, 0, 0].tolist() == [ord(name) for name in names if name != "bad"]
    assert found.shares is None


def test_each_thread_computes_with_a_model_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    both_run = threading.Barrier(2, timeout=60)
    used: list[Any] = []

    def compute(model: Any, pixels: Any) -> list[list[float]]:
        both_run.wait()
        used.append(model)
        return [[1.0]] * len(pixels)

    monkeypatch.setattr(module, "load_rgb", lambda path, **_: Image.new("RGB", (2, 2)))
    monkeypatch.setattr(module, "compute_shares", compute)
    reader = PartReader(cast("Any", ["first", "second"]), size=2, max_megapixels=1, skip_bad=True)
    found = list(work_ahead(divide(named(64), 32, 2), reader, num_threads=2, num_ahead=64))
    assert sorted(used) == ["first", "first", "second", "second"]
    assert [len(part.shares or ()) for part in found] == [16] * 4
