"""The images that each step trained on, logged by every process, to check that none is lost or repeated.

logs/samples-rank0.jsonl    {"epoch": 1, "step": 3, "micro_batch": 0, "samples": [17, 4, …]}, a line per forward pass
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from signs_dist.files import write_text
from signs_dist.run_folder.lines import append_line, read_lines, to_line

Place = tuple[int, int]
"""Epoch and step, both from 1."""


class SampleLog:
    """The file of one process.

    Args:
        logs: the run's logs folder.
        rank: of this process.
    """

    def __init__(self, logs: Path, rank: int) -> None:
        self._path = logs / f"samples-rank{rank}.jsonl"

    def write(self, epoch: int, step: int, micro_batch: int, samples: Sequence[int]) -> None:
        """Add a line. `epoch` and `step` count from 1; `micro_batch` is the first of this forward pass, from 0."""
        line = {"epoch": epoch, "step": step, "micro_batch": micro_batch, "samples": list(samples)}
        append_line(self._path, line)


def read_samples(logs: Path) -> dict[Place, list[int]]:
    """Sample numbers of each step of all processes, in the order of its micro-batches.

    A step that was done twice has its samples twice.
    """
    rows = sorted(_read(logs), key=lambda line: (line["epoch"], line["step"], line["micro_batch"]))
    found: dict[Place, list[int]] = collections.defaultdict(list)
    for line in rows:
        found[line["epoch"], line["step"]] += line["samples"]
    return dict(found)


def keep_samples(logs: Path, is_kept: Callable[[Place], bool]) -> None:
    """Keep only the steps for which `is_kept` is true, in all files: a resumed run repeats the others."""
    for path in logs.glob("samples-rank*.jsonl"):
        lines = [line for line in _read_file(path) if is_kept((line["epoch"], line["step"]))]
        write_text(path, b"".join(map(to_line, lines)).decode("utf-8"))


def find_repeated(found: dict[Place, list[int]]) -> list[Place]:
    """Steps with a sample that occurs more than once in its epoch. Only a balanced order repeats samples on purpose."""
    seen: dict[int, set[int]] = collections.defaultdict(set)
    repeated = []
    for (epoch, step), samples in sorted(found.items()):
        if len(set(samples)) < len(samples) or seen[epoch] & set(samples):
            repeated.append((epoch, step))
        seen[epoch] |= set(samples)
    return repeated


def _read(logs: Path) -> list[dict[str, Any]]:
    return [line for path in sorted(logs.glob("samples-rank*.jsonl")) for line in _read_file(path)]


def _read_file(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; others, such as a last line that a kill cut off, are omitted."""
    return [line for line in read_lines(path) if _is_whole(line)]


def _is_whole(line: dict[str, Any]) -> bool:
    numbers, samples = [line.get(name) for name in ("epoch", "step", "micro_batch")], line.get("samples")
    is_listed = isinstance(samples, list) and all(type(sample) is int for sample in samples)
    return is_listed and all(type(number) is int for number in numbers)
