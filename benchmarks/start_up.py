"""What starting costs: the whole command of 1, 2 and 4 processes, whose workers are forked or are new interpreters.

python benchmarks/start_up.py                          # 4 minutes on 2 cores
python benchmarks/start_up.py --processes 2 --rounds 3

The run is of a small network on 64 drawn hands, so that little is left but the start. For each way: seconds until the
first step is in metrics.jsonl, seconds of the whole command, seconds on cores of all its processes, and the memory that
they held at most (proportional set size: of a page that N processes share, each holds an Nth).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
SMALL = (
    *("data.synthetic.train=64", "data.synthetic.val=16", "data.synthetic.test=16", "data.image_size=16"),
    *("model.name=mlp", "train.global_batch=16", "train.epochs=1", "log.every_steps=1"),
)
POLL_SECONDS = 0.02
LOOK_SECONDS = 0.25
NEW, FORKED = "new interpreters", "forked"


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one command took: seconds, but `bytes_held`."""

    first_step: float
    whole: float
    on_cores: float
    bytes_held: float


def command(num_processes: int, run_path: Path, settings: Sequence[str]) -> list[str]:
    """The command line of a run."""
    arguments = ["--quiet", "--run-dir", str(run_path), *SMALL, *settings]
    if num_processes == 1:
        return [sys.executable, "-m", "signs_dist.train", *arguments]
    return [sys.executable, "-m", "launch.local", "--nproc", str(num_processes), "--", *arguments]


def measure(num_processes: int, way: str, folder: Path, settings: Sequence[str]) -> Cost:
    """Run the command once in `folder`, which keeps the drawn hands."""
    from signs_dist.environment.process_table import read_held_bytes

    environment = {**os.environ, "SIGNS_DIST_REPORT": "0", "SIGNS_DIST_FORK": "0" if way == NEW else "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    run_path = folder / f"run-{time.monotonic_ns()}"
    metrics = run_path / "metrics.jsonl"
    started = time.perf_counter()
    first_step, held, next_look = 0.0, 0, started
    process = subprocess.Popen(
        command(num_processes, run_path, settings), cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    while True:
        ended, status, used = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        if not first_step and metrics.exists() and metrics.stat().st_size:
            first_step = time.perf_counter() - started
        if time.perf_counter() > next_look:  # not always: a look stops the process that it looks at
            held = max(held, read_held_bytes(process.pid))
            next_look = time.perf_counter() + LOOK_SECONDS
        time.sleep(POLL_SECONDS)
    whole = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"the run on {num_processes} processes, {way}, ended with {process.returncode}")
    return Cost(first_step or whole, whole, used.ru_utime + used.ru_stime, held)


def measure_import() -> Cost:
    """`import torch` in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", "import torch"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    whole = time.perf_counter() - started
    return Cost(whole, whole, used.ru_utime + used.ru_stime, 0)


def describe(name: str, costs: Sequence[Cost]) -> str:
    """A row: the median of each figure."""
    rows = zip(*map(dataclasses.astuple, costs), strict=True)
    first, whole, on_cores, held = (statistics.median(values) for values in rows)
    memory = f"{held / 2**20:9,.0f} MiB" if held else ""
    return f"{name:<32} {first:8.2f} s {whole:8.2f} s {on_cores:8.2f} s {memory}".rstrip()


def main(arguments: Sequence[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="how many (default: 1 2 4)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, alternating (default: %(default)s)")
    parser.add_argument("--setting", action="append", default=[], metavar="KEY=VALUE", help="of each run, as of train")
    options = parser.parse_args(arguments)
    ways = [(number, way) for number in options.processes for way in ((NEW, FORKED) if number > 1 else (NEW,))]
    found: dict[tuple[int, str], list[Cost]] = {way: [] for way in ways}
    imports: list[Cost] = []
    with tempfile.TemporaryDirectory() as name:
        measure(1, NEW, Path(name), options.setting)  # draws the hands, and brings the libraries into memory
        for _ in range(options.rounds):
            imports.append(measure_import())
            for number, way in ways:
                found[number, way].append(measure(number, way, Path(name), options.setting))
    print(f"{'':<32} {'1st step':>10} {'whole':>10} {'on cores':>10} {'memory':>13}")
    print(describe("import torch", imports))
    for (number, way), costs in found.items():
        print(describe("1 process" if number == 1 else f"{number} processes, {way}", costs))
    medians = {way: statistics.median(cost.whole for cost in costs) for way, costs in found.items()}
    for number in options.processes:
        if number > 1 and 1 in options.processes:
            ratio = medians[number, FORKED] / medians[1, NEW]
            print(f"whole command, {number} processes forked / 1 process: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    sys.exit(main(sys.argv[1:]))
