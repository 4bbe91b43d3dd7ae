"""Measure whole commands: signs_dist, the tutorial's loop, accelerate and Lightning, from Enter to the end.

    make bench-peers ARGS="--data PHOTOS"
    .venv-bench/bin/python benchmarks/whole_commands.py --data PHOTOS --processes 2
    .venv-bench/bin/python benchmarks/whole_commands.py --data PHOTOS --best --bfloat16

All train the published network of the tutorial on the same photos (folders train_signs and val_signs), with a batch
of 32 over all processes, validate and save each epoch. The programs of the peers are in benchmarks/peers/, as their
documents tell users to write them; `--best` lets the peers use channels_last, fused Adam and persistent workers.
They take turns, round by round. It prints the median seconds, seconds of processor time and the largest memory
(proportional set size of all processes of the command), and the ratios of the rounds.

The peers need an environment of their own: `make .venv-bench/installed`. Leave the machine idle.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from signs_dist.environment.process_table import read_held_bytes

REPOSITORY = Path(__file__).resolve().parent.parent
LOOK_SECONDS = 0.25
OURS = "signs_dist"


class Measured:
    """What one command took: seconds, processor seconds of all its processes, and megabytes at most."""

    def __init__(self, command: list[str], folder: Path) -> None:
        before = os.times()
        begun = time.perf_counter()
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}  # launch/ is not installed from a checkout
        with (folder / "output.txt").open("w") as output:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
            looking = threading.Thread(target=self._look, args=(process,), daemon=True)
            self.megabytes = 0.0
            looking.start()
            code = process.wait()
        self.seconds = time.perf_counter() - begun
        after = os.times()
        self.processor_seconds = sum(after[2:4]) - sum(before[2:4])
        looking.join()
        if code:
            raise SystemExit(f"{' '.join(command)} ended with {code}:\n{(folder / 'output.txt').read_text()[-2000:]}")

    def _look(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            self.megabytes = max(self.megabytes, read_held_bytes(process.pid) / 2**20)
            time.sleep(LOOK_SECONDS)


def commands(options: argparse.Namespace, folder: Path) -> dict[str, list[str]]:
    """The command of each way, for one round in `folder`."""
    python, peers = sys.executable, REPOSITORY / "benchmarks/peers"
    number = str(options.processes)
    flags = ["--data", str(options.data), "--epochs", str(options.epochs), "--processes", number]
    flags += ["--workers", str(options.workers)] + ["--best"] * options.best + ["--bfloat16"] * options.bfloat16
    several = ["-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--num_processes", number]
    several += ["--dynamo_backend", "no", "--mixed_precision", "bf16" if options.bfloat16 else "no"]
    start = ["-m", "signs_dist.train"] if options.processes == 1 else ["-m", "launch.local", "--nproc", number, "--"]
    settings = [f"train.epochs={options.epochs}", f"data.root={options.data}", f"data.cache={folder / 'cache'}"]
    settings += [f"train.precision={'bfloat16' if options.bfloat16 else 'float32'}", *options.settings]
    ours = ["--config", str(REPOSITORY / "configs/cs230.yaml"), "--run-dir", str(folder / "run"), *settings]
    found = {
        OURS: [python, *start, *ours],
        "tutorial": [python, str(peers / "tutorial.py"), *flags],
        "accelerate": [python, *(several if options.processes > 1 else []), str(peers / "accelerate_loop.py"), *flags],
        "lightning": [python, str(peers / "lightning_trainer.py"), *flags],
    }
    if options.processes > 1:
        del found["tutorial"]  # it trains on one process
    return {way: command for way, command in found.items() if way == OURS or not options.only or way in options.only}


def machine() -> str:
    """The processor and the number of cores."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{names[0].partition(':')[2].strip() if names else platform.machine()}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder with train_signs, val_signs")
    parser.add_argument("--epochs", type=int, default=5, help="(default: 5)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each command (default: 5)")
    parser.add_argument("--processes", type=int, default=1, help="processes that share the batch (default: 1)")
    parser.add_argument("--workers", type=int, default=2, help="loader workers of the peers (default: 2)")
    parser.add_argument("--best", action="store_true", help="the peers at their best: channels_last, fused Adam")
    parser.add_argument("--bfloat16", action="store_true", help="all compute in bfloat16")
    parser.add_argument("--only", action="append", help="a peer to compare with, such as accelerate (default: all)")
    parser.add_argument("settings", nargs="*", metavar="section.key=value", help="of signs_dist")
    options = parser.parse_args()
    options.data = options.data.resolve()
    measured: dict[str, list[Measured]] = {}
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as name:
            for way, command in commands(options, Path(name)).items():
                folder = Path(name) / way
                folder.mkdir()
                command += [] if way == OURS else ["--out", str(folder / "out")]
                measured.setdefault(way, []).append(Measured(command, folder))
                print(f"round {number + 1}: {way} {measured[way][-1].seconds:.1f} s", flush=True)
    print(
        f"\n{options.processes} processes, {options.epochs} epochs, {'bfloat16' if options.bfloat16 else 'float32'}, "
        f"peers {'at their best' if options.best else 'as their documents have it'}; {machine()}; "
        f"medians of {options.rounds}"
    )
    for way, times in measured.items():
        ratio = statistics.median(
            ours.seconds / other.seconds for ours, other in zip(measured[OURS], times, strict=True)
        )
        middle = [
            statistics.median(getattr(each, name) for each in times)
            for name in ("seconds", "processor_seconds", "megabytes")
        ]
        print(
            f"{way:<12} {middle[0]:6.1f} s  {middle[1]:6.1f} s of processor time  {middle[2]:7,.0f} MB"
            + ("" if way == OURS else f"  signs_dist takes {ratio:.2f} of its time")
        )


if __name__ == "__main__":
    main()
