"""Which share of training goes into saving, logging and the heartbeat, and into evaluating, for 1 to 8 processes.

    python benchmarks/shares.py data.root=PHOTOS                                # 4 minutes on 2 cores
    python benchmarks/shares.py --processes 1 2 --rounds 1 data.root=PHOTOS

Whole runs of one config, each process with one thread. Their methods are timed from outside: see shares_rank.py. All
is seen from rank 0, which saves and prints. `saving` is how long training stands still for checkpoints, predictions,
model.pt and result.json; `logging` is sums for metrics.jsonl, its lines, and the console; `heartbeat` is the processor
time of its threads in all processes, as a share of all processor time. These three are to be below 2 % together.
`evaluating` is work that the config asks for. `writing` is the processor time of the thread that writes checkpoints
beside the steps. The report at the end is left out: benchmarks/report_opening.py measures it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BAR = 0.02
"""Saving, logging and the heartbeat together."""
COLUMNS = ("saving", "logging", "heartbeat", "together", "evaluating", "writing")


def shares_of(ranks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The shares of a run from what its ranks counted: of the seconds of training, and of all processor time."""
    first = ranks[0]
    on_cores = sum(rank["on cores"] for rank in ranks)
    shares = {kind: first[kind] / first["training"] for kind in ("saving", "logging", "evaluating")}
    shares |= {kind: sum(rank[kind] for rank in ranks) / on_cores for kind in ("heartbeat", "writing")}
    return shares | {"together": shares["saving"] + shares["logging"] + shares["heartbeat"]}


def to_line(num_processes: int, seconds: float, shares: Mapping[str, float]) -> str:
    """A row of the table."""
    return f"{num_processes:>9} {seconds:8.1f} s" + "".join(f"{shares[name]:>12.2%}" for name in COLUMNS)


def run(num_processes: int, folder: Path, clock: str, arguments: Sequence[str]) -> list[dict[str, float]]:
    """Train once; returns what each rank counted by the function `clock` of `time`."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    try:
        for rank in range(num_processes):
            variables = {"RANK": rank, "WORLD_SIZE": num_processes, "LOCAL_RANK": rank}
            variables |= {"LOCAL_WORLD_SIZE": num_processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            words = {name: str(value) for name, value in variables.items()} if num_processes > 1 else {}
            environment = {**os.environ, **words, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
            command = [sys.executable, str(REPOSITORY / "benchmarks/shares_rank.py"), str(folder), clock, *arguments]
            with (folder / f"{rank}.txt").open("w") as output:
                started.append(
                    subprocess.Popen(
                        [*command, "--run-dir", str(folder / "run")],
                        cwd=folder.parent,
                        env=environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        for rank, process in enumerate(started):
            if process.wait():
                raise SystemExit(
                    f"rank {rank} ended with {process.returncode}:\n{(folder / f'{rank}.txt').read_text()}"
                )
    finally:
        for process in started:
            process.kill()
            process.wait()
    return [json.loads((folder / f"shares{rank}.json").read_text()) for rank in range(num_processes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs/cs230.yaml", help="(default: cs230.yaml)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8], help="how many (default: 1 2 4 8)")
    parser.add_argument("--epochs", type=int, default=5, help="of a run (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument(
        "--on-cores", action="store_true", help="count processor time, on a busy machine: waits do not count then"
    )
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    clock = "thread_time" if options.on_cores else "perf_counter"
    found: dict[int, list[tuple[float, dict[str, float]]]] = {number: [] for number in options.processes}
    with tempfile.TemporaryDirectory() as name:
        settings = [f"data.cache={Path(name) / 'cache'}", f"train.epochs={options.epochs}", "log.report=false"]
        arguments = ["--config", str(options.config.resolve()), *settings, "train.num_threads=1", *options.settings]
        for turn in range(options.rounds):
            for number in options.processes:
                ranks = run(number, Path(name) / f"{turn}-{number}", clock, arguments)
                found[number].append((ranks[0]["training"], shares_of(ranks)))
                print(f"round {turn + 1}: {number} processes {ranks[0]['training']:.1f} s", flush=True)
    print(f"\n{'processes':>9} {'training':>10}" + "".join(f"{name:>12}" for name in COLUMNS))
    above = []
    for number, runs in found.items():
        middle = {name: statistics.median(shares[name] for _, shares in runs) for name in COLUMNS}
        print(to_line(number, statistics.median(seconds for seconds, _ in runs), middle))
        above += [number] * (middle["together"] > BAR)
    print(f"above {BAR:.0%}: {', '.join(map(str, above))}" if above else f"all below {BAR:.0%}")


if __name__ == "__main__":
    main()
