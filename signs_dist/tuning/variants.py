"""The ways in which one network can be computed on this machine: numbers of threads, memory format, precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to compute the network.

    Attributes:
        num_threads: of one operation on the CPU.
        channels_last: the memory format of images and weights.
        precision: of the forward pass: float32, bfloat16 or float16.
    """

    num_threads: int
    channels_last: bool
    precision: str

    @property
    def name(self) -> str:
        """For tables: `2 threads, channels_last, bfloat16`."""
        threads = "1 thread" if self.num_threads == 1 else f"{self.num_threads} threads"
        return f"{threads}, {'channels_last' if self.channels_last else 'contiguous'}, {self.precision}"


def thread_counts(num_cores: int) -> list[int]:
    """1, 2, 4 … and the number of usable cores."""
    counts, count = [], 1
    while count < num_cores:
        counts.append(count)
        count *= 2
    return [*counts, num_cores]


def precisions(device_type: str, *, has_bfloat16: bool) -> list[str]:
    """What the device computes in natively: an emulated bfloat16 is slower than float32, and is not measured."""
    more = ["bfloat16"] if has_bfloat16 else []
    return ["float32", *more, *(["float16"] if device_type == "cuda" else [])]


def list_variants(chosen: Variant, num_cores: int, precision_names: Sequence[str], device_type: str) -> list[Variant]:
    """What is measured: the run's own way first, then ways that differ in the threads, or in format and precision.

    Not all combinations: on a machine with 64 cores they would take minutes. On a GPU the threads of the CPU have no
    part in the network.

    Args:
        chosen: what the run uses.
        num_cores: cores that this process may use.
        precision_names: from `precisions`.
        device_type: cpu or cuda.
    """
    counts = thread_counts(num_cores) if device_type == "cpu" else []
    found = [chosen, *(dataclasses.replace(chosen, num_threads=count) for count in counts)]
    found += [
        dataclasses.replace(chosen, channels_last=layout, precision=precision)
        for precision in precision_names
        for layout in (True, False)
    ]
    return list(dict.fromkeys(found))


def fitting_batch(batch: int, seconds_per_image: float, seconds: float) -> int:
    """Images of a step that takes at most `seconds`: the whole batch, or halves of it, but at least 2.

    Args:
        batch: of this process.
        seconds_per_image: of a forward and backward pass.
        seconds: what a step may take.
    """
    while batch > 3 and batch * seconds_per_image > seconds:
        batch //= 2
    return batch
