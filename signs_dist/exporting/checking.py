"""Whether an export gives what the run's own model gives: it is run where this project cannot be imported.

The lines of Python that load it are those of its model card. They run in a process of their own, with only what a
colleague has: numpy, Pillow, and the packages of the format.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from signs_dist.errors import ExportDiffersError
from signs_dist.exporting.formats import ExportFormat
from signs_dist.inference.export_record import ExportRecord

Images = npt.NDArray[np.uint8]
Shares = npt.NDArray[np.float32]

TOLERANCE = 1e-4
"""Largest difference of a probability for photos of the network's own size."""
RESIZED_TOLERANCE = 0.02
"""The same for larger photos: `load_rgb` shrinks those of more than three times the size in two steps, to save time."""
BATCH = 16
"""Images per forward pass of the check."""
LONGEST_SECONDS = 3600
"""How long the check may take."""

_AROUND = """\
import sys
sys.modules["signs_dist"] = None  # importing it fails
sys.path += {folders!r}  # of the user's own network
import importlib.metadata, io, json, numpy
{load}
{classify}
names = sys.argv[1:]
for name in names:
    images = numpy.load(name + ".images.npy")
    parts = [classify(images[start : start + {batch}]) for start in range(0, len(images), {batch})]
    content = io.BytesIO()
    numpy.save(content, numpy.concatenate(parts).astype(numpy.float32))
    with open(name + ".found.npy", "wb") as stream:
        stream.write(content.getvalue())
with open(names[0] + ".versions.json", "w") as stream:
    json.dump({{package: importlib.metadata.version(package) for package in {packages!r}}}, stream)
"""


@dataclasses.dataclass(frozen=True)
class PhotoSet:
    """Photos for the check, and what the run's own model gives for them.

    Attributes:
        what: such as `216 val photos`.
        images: uint8 [N, H, W, 3].
        expected: probabilities [N, C].
        tolerance: largest difference of a probability.
    """

    what: str
    images: Images
    expected: Shares
    tolerance: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How an export and the run's own model agree on a set of photos.

    Attributes:
        what: the photos.
        num_images: how many.
        num_other_class: those with another most probable class, without ties: a class that is as probable as the best
            up to the tolerance.
        largest: the largest difference of a probability.
        tolerance: what is allowed.
    """

    what: str
    num_images: int
    num_other_class: int
    largest: float
    tolerance: float

    @property
    def is_good(self) -> bool:
        """Whether they agree. A difference that is not a number is none that is allowed."""
        return self.num_other_class == 0 and self.largest <= self.tolerance

    def line(self) -> str:
        """For people."""
        classes = f"another class on {self.num_other_class:,}" if self.num_other_class else "same class on all"
        return f"{self.what}: {classes}, probabilities to {self.largest:.1e} (allowed: {self.tolerance:g})"


def compare(photos: PhotoSet, found: Shares) -> Agreement:
    """Compare probabilities [N, C] with those that are expected."""
    expected = photos.expected
    if found.shape != expected.shape:
        return Agreement(f"{photos.what}, shape {list(found.shape)}", len(expected), len(expected), np.inf, 0.0)
    rows = np.arange(len(expected))
    best, other = expected.argmax(axis=1), found.argmax(axis=1)
    is_tie = expected[rows, best] - expected[rows, other] <= photos.tolerance
    num_other = int(((best != other) & ~is_tie).sum())
    largest = float(np.abs(found - expected).max(initial=0.0))
    return Agreement(photos.what, len(expected), num_other, largest, photos.tolerance)


def check(
    form: ExportFormat, folder: Path, record: ExportRecord, photo_sets: Sequence[PhotoSet]
) -> tuple[list[Agreement], dict[str, str]]:
    """Run an export on photos, and compare.

    Args:
        form: its format.
        folder: its files.
        record: what it says about itself.
        photo_sets: the photos.

    Returns:
        (how it agrees on each set, the versions of the packages that ran it).

    Raises:
        ExportDiffersError: it cannot be run, or differs. The message says where.
        OSError: the disk is full. Photos and probabilities lie below `folder` for a while.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix=".check.") as scratch:
        names = [str(Path(scratch, str(number)).absolute()) for number in range(len(photo_sets))]
        for name, photos in zip(names, photo_sets, strict=True):
            _save(Path(f"{name}.images.npy"), photos.images)
        _run(program(form, folder, record), folder, names)
        found = [np.load(f"{name}.found.npy") for name in names]
        versions: dict[str, str] = json.loads(Path(f"{names[0]}.versions.json").read_text(encoding="utf-8"))
    agreements = [compare(photos, shares) for photos, shares in zip(photo_sets, found, strict=True)]
    if not all(agreement.is_good for agreement in agreements):
        lines = "\n".join(f"  {agreement.line()}" for agreement in agreements)
        raise ExportDiffersError(f"the export differs from the run, and was not kept:\n{lines}")
    return agreements, versions


def _save(path: Path, images: Images) -> None:
    """As numpy.save, whose error on a full disk does not say that the disk is full."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, np.lib.format.header_data_from_array_1_0(images))
    with path.open("wb") as stream:
        stream.write(content.getvalue())
        stream.write(np.ascontiguousarray(images).data)


def program(form: ExportFormat, folder: Path, record: ExportRecord) -> str:
    """The program that runs an export; its arguments are names of files of images."""
    return _AROUND.format(
        folders=[str(Path(folder).resolve()) for folder in sys.path],
        load="\n".join(form.load_lines(record, folder)),
        classify="\n".join(form.classify_lines(record)),
        batch=BATCH,
        packages=list(form.packages(record)),
    )


def _run(source: str, folder: Path, names: Sequence[str]) -> None:
    command = [sys.executable, "-I", "-W", "ignore", "-c", source, *names]
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env=_environment(os.environ),
            capture_output=True,
            text=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportDiffersError(
            f"the check of the export did not end in {LONGEST_SECONDS:,} seconds, and the export was not kept."
        ) from error
    if ended.returncode:
        reason = _why_it_failed(ended.returncode, ended.stderr)
        if f"[Errno {errno.ENOSPC}]" in reason:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise ExportDiffersError(f"the export cannot be run without signs_dist, and was not kept: {reason}")


def _why_it_failed(code: int, output: str) -> str:
    """The last line of what a process printed on standard error, or what ended it."""
    if code < 0:
        return f"the process was killed by signal {-code}; 9 comes when memory runs out"
    lines = output.strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"


def _environment(variables: Mapping[str, str]) -> dict[str, Any]:
    """The variables of the process: it computes on the CPU, as the run's own model for this comparison."""
    return {**variables, "CUDA_VISIBLE_DEVICES": ""}
