"""Measure the start of a run on many files: listing, labels and fingerprints, and the memory of all its processes.

    python benchmarks/million_files.py                                     # up to 100,000 files
    python benchmarks/million_files.py --files 10 1000000 --processes 1 2  # a million; 2 minutes to make and remove

It makes a data set of class folders in a temporary folder: many links to a few small photos, so that a million files
take the room of their names; those of `--kinds unsplit` are all different, and take 4 kB each. Each start is a process
of its own, as each process of a run is, that opens the data set with data.storage=files and reads a batch. Memory is
the proportional set size (PSS) of all processes together, at its peak, less that with the fewest files: a page that
two processes share counts once.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from signs_dist.environment.process_table import read_held_bytes

KINDS = ("folders", "unsplit", "table", "shards")
LINKS_PER_PHOTO = 60_000
"""Links to one file: ext4 allows 65,000."""
SAMPLE_SECONDS = 0.02


class Started(NamedTuple):
    """What a start took: of the slowest of its processes, and of all of them together."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    fingerprints: dict[str, str]


class Photos:
    """Small photos that are linked to; another one is made where a file system allows no more links to one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number, self._left = folder, 0, 0
        folder.mkdir(parents=True)

    def link(self, name: str, folder: int) -> None:
        """Make a link in a folder that is given by its descriptor."""
        if not self._left:
            self._next()
        try:
            os.link(self._photo, name, dst_dir_fd=folder)
        except OSError as error:
            if error.errno != errno.EMLINK:
                raise
            self._next()
            os.link(self._photo, name, dst_dir_fd=folder)
        self._left -= 1

    def _next(self) -> None:
        self._number, self._left = self._number + 1, LINKS_PER_PHOTO
        self._photo = self._folder / f"{self._number}.jpg"
        self._photo.write_bytes(photo(self._number))


def photo(number: int) -> bytes:
    """A JPEG of 32 x 32 pixels; each number gives another one."""
    import numpy
    from PIL import Image

    pixels = numpy.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def num_classes_of(num_files: int) -> int:
    """Classes of a data set: each has at least 4 photos in train and 1 in val."""
    return max(2, min(1000, num_files // 100))


def make_class_folders(root: Path, num_files: int, *, is_split: bool) -> None:
    """A folder for each class, in train/ and val/ or in neither.

    Photos that are not split are all different, as copies would be on one side of their division.
    """
    photos, classes = Photos(root.with_name(f"{root.name}-photos")), num_classes_of(num_files)
    content = photo(0)
    for label in range(classes):
        own = range(label, num_files, classes)
        parts = {"val": own[:1], "train": own[1:]} if is_split else {"": own}
        for split, numbers in parts.items():
            folder = root / split / f"class_{label:04d}"
            folder.mkdir(parents=True)
            descriptor = os.open(folder, os.O_RDONLY)
            for number in numbers:
                if is_split:
                    photos.link(f"IMG_{number:08d}.jpg", descriptor)
                else:
                    (folder / f"IMG_{number:08d}.jpg").write_bytes(content + b"%08d" % number)
            os.close(descriptor)


def make_table(root: Path, num_files: int) -> None:
    """The class folders, and a CSV that names path, class and split of each photo."""
    make_class_folders(root, num_files, is_split=True)
    with root.with_suffix(".csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        for folder in sorted(root.glob("*/*")):
            for file in sorted(folder.iterdir()):
                writer.writerow([file.relative_to(root.parent), folder.name, folder.parent.name])


def make_shards(root: Path, num_files: int) -> None:
    """Tars of 100,000 photos for train, and one for val."""
    root.mkdir(parents=True)
    content, classes = photo(0), num_classes_of(num_files)
    for split, numbers in {"val": range(classes), "train": range(classes, num_files)}.items():
        for shard, start in enumerate(range(0, len(numbers), 100_000)):
            with (root / f"{split}-{shard:06d}.tar").open("wb") as stream:
                for number in numbers[start : start + 100_000]:
                    for suffix, data in (("cls", b"%d" % (number % classes)), ("jpg", content)):
                        member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                        member.size = len(data)
                        stream.write(member.tobuf() + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE))
                stream.write(b"\0" * 2 * tarfile.BLOCKSIZE)


MAKERS: dict[str, Callable[[Path, int], None]] = {
    "folders": lambda root, num_files: make_class_folders(root, num_files, is_split=True),
    "unsplit": lambda root, num_files: make_class_folders(root, num_files, is_split=False),
    "table": make_table,
    "shards": make_shards,
}


@contextlib.contextmanager
def data_set(kind: str, num_files: int, below: Path | None) -> Iterator[Path]:
    """A data set in a folder of its own, which is removed after the block."""
    folder = Path(tempfile.mkdtemp(prefix="million-", dir=below))
    try:
        begun = time.perf_counter()
        MAKERS[kind](folder / "photos", num_files)
        print(f"{kind}: {num_files:,} photos made in {time.perf_counter() - begun:.1f} s", flush=True)
        yield folder / ("photos.csv" if kind == "table" else "photos")
    finally:
        shutil.rmtree(folder)


def start(root: Path, num_processes: int) -> Started:
    """Open a data set in several processes at once, as those of a run do."""
    command = [sys.executable, __file__, "--open", str(root), "--since", repr(time.monotonic())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    running = [subprocess.Popen(command, text=True, cwd=root.parent, **pipes) for _ in range(num_processes)]
    with peak_memory([process.pid for process in running]) as peak:
        lines = [process.stdout.readline() for process in running if process.stdout is not None]
        time.sleep(5 * SAMPLE_SECONDS)  # all of them hold what a run holds
    for process in running:
        process.communicate()
    if any(process.returncode for process in running):
        raise SystemExit(f"a process failed: {' '.join(command)}")
    told = [json.loads(line) for line in lines]
    assert all(each["fingerprints"] == told[0]["fingerprints"] for each in told)
    seconds = max(each["seconds"] for each in told)
    return Started(seconds, sum(each["cpu_seconds"] for each in told), peak[0], told[0]["fingerprints"])


@contextlib.contextmanager
def peak_memory(pids: Sequence[int]) -> Iterator[list[int]]:
    """Within the block, the first value of the list is the largest sum of PSS of processes and their children."""
    peak, is_over = [0], threading.Event()

    def sample() -> None:
        while not is_over.wait(SAMPLE_SECONDS):
            peak[0] = max(peak[0], sum(map(read_held_bytes, pids)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


def open_once(root: Path, since: float) -> None:
    """One process of a start: open the data set, fetch a batch, tell what it took, and wait for the end of input."""
    from signs_dist.config.settings import DataConfig
    from signs_dist.data.plan import EpochPlan, Shard
    from signs_dist.data.samplers import PlanSampler
    from signs_dist.data.sets import open_data_set, open_split

    def report(*_: object) -> None:
        return None

    config = DataConfig(root=str(root), cache="cache", split_folder="splits", storage="files", image_size=32)
    begun, cpu_begun = time.perf_counter(), used_cpu_seconds()
    data = open_data_set(config, num_processes=1, report=report, since=since)
    opened = {name: open_split(index, config, num_threads=1, report=report) for name, index in data.splits.items()}
    dataset = opened["train"][0]
    plan = EpochPlan(len(data.splits["train"]), global_batch=4, seed=0)
    sampler = PlanSampler(dataset, plan, Shard())
    sampler.set_epoch(0)
    batch = dataset[next(sampler.steps())]
    told = {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": used_cpu_seconds() - cpu_begun,
        "fingerprints": {name: fingerprint for name, (_, fingerprint) in opened.items()},
    }
    assert len(batch.labels) == 4
    print(json.dumps(told), flush=True)
    sys.stdin.read()


def used_cpu_seconds() -> float:
    """Processor time of this process and of those that it started and that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def changes(root: Path) -> Iterator[tuple[str, bool]]:
    """Change the data set of folders once and again: (what was done, whether the fingerprint is to be another)."""
    folder = sorted((root / "train").iterdir())[0]
    added = folder / "IMG_added.jpg"
    added.write_bytes(photo(0))
    yield "one file added", True
    added.write_bytes(photo(0) + b"\0")
    yield "one file changed", True
    added.unlink()
    yield "one file removed", True


def measure(kind: str, num_files: int, num_processes: int, least: dict[tuple[str, int, str], int], root: Path) -> None:
    """Print a line for each kind of start. `least`: (kind, processes, start) → peak memory with the fewest files."""
    shutil.rmtree(root.parent / "cache", ignore_errors=True)
    shutil.rmtree(root.parent / "splits", ignore_errors=True)
    for beside in root.parent.rglob("*.index.json"):
        beside.unlink()
    before = {}

    def line(what: str) -> Started:
        found = start(root, num_processes)
        more = found.peak_bytes - least.setdefault((kind, num_processes, what), found.peak_bytes)
        print(
            f"{kind:8} {num_files:>9,} files, {num_processes} process{'es' if num_processes > 1 else '  '}  {what:18} "
            f"{found.seconds:7.2f} s ({found.cpu_seconds:6.2f} s of processors)  {more / 1e6:+7.0f} MB",
            flush=True,
        )
        return found

    before = line("first").fingerprints
    assert line("second, unchanged").fingerprints == before, "the fingerprint changed without the files"
    if kind == "folders":
        for what, is_other in changes(root):
            now = line(what).fingerprints
            assert (now != before) == is_other, f"{what}: {before} {now}"
            before = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[10, 10_000, 100_000], help="sizes, fewest first")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="processes of a run (default: 1 2)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["folders"], help="how the photos lie")
    parser.add_argument("--below", type=Path, help="make the data sets in this folder (default: the temporary one)")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--since", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open is not None:
        open_once(options.open, options.since)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the files are removed
    least: dict[tuple[str, int, str], int] = {}
    for kind in options.kinds:
        for num_files in options.files:
            with data_set(kind, num_files, options.below) as root:
                for num_processes in options.processes:
                    measure(kind, num_files, num_processes, least, root)


if __name__ == "__main__":
    main()
