"""Measure what the chain of states costs an exact run: the stall of a save, and processor time for each save.

    python benchmarks/state_chain.py
    python benchmarks/state_chain.py --megabytes 400 --saves 9

It trains an `mlp` of that size in exact mode, with AdamW and a save every few steps, with the chain and without it in
turn. The stalls are those of metrics.jsonl. The processor time is that of the whole process, so the difference by the
number of saves is what one digest costs; it is spent in the thread that writes, beside training. On a busy machine
single times vary: compare the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import signs_dist
from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import CheckpointStore, read_checkpoint
from signs_dist.training import state_chain

MICRO_BATCH = 4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100, help="MiB of the model's weights (default: 100)")
    parser.add_argument("--saves", type=int, default=8, help="saves of a run (default: 8)")
    parser.add_argument(
        "--steps", type=int, default=40, help="steps between saves, in which writing must end (default: 40)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs with the chain, and as many without (default: 3)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to write (default: here)")
    parser.add_argument("--run", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args(arguments)
    if options.run is not None:
        train_once(*json.loads(options.run))
        return
    stalls: dict[bool, list[float]] = {False: [], True: []}
    processor: dict[bool, list[float]] = {False: [], True: []}
    wall: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = Path(folder)
        for number in range(options.repeats):
            for has_chain in (number % 2 == 0, number % 2 == 1):
                run = Path(folder).resolve() / f"{'chain' if has_chain else 'none'}-{number}"
                given = json.dumps([has_chain, str(run), settings(options.megabytes, options.saves, options.steps)])
                command = [sys.executable, __file__, "--run", given]
                # In a folder of its own: photos beside the checkout would be used in place of the drawn ones.
                done = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment()
                )
                used, seconds = json.loads(done.stdout.splitlines()[-1])
                lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
                assert any(line["kind"] == "state" for line in lines) == has_chain
                # The first save of a process also allocates its memory, and the last one ends the epoch.
                stalls[has_chain] += [line["stall_seconds"] for line in lines if line["kind"] == "save"][1:-1]
                processor[has_chain].append(used)
                wall[has_chain].append(seconds)
        newest = CheckpointStore(run / "checkpoints").newest()
        assert newest is not None
        content, num_bytes = read_checkpoint(newest), newest.stat().st_size
    hashing = []
    for _ in range(5):
        begun = time.thread_time()
        state_sha256(content)
        hashing.append(time.thread_time() - begun)
    one = statistics.median(hashing)
    print(f"weights {options.megabytes} MiB, checkpoint {num_bytes / 2**20:.0f} MiB, torch {torch.__version__}")
    print(f"digest of a state        {1000 * one:8.1f} ms of a processor, {num_bytes / one / 2**20:,.0f} MiB/s")
    for name, values, unit, factor in (
        ("a save stops training", stalls, "ms", 1000.0),
        ("processor time of a run", processor, "s", 1.0),
        ("a run from call to result", wall, "s", 1.0),
    ):
        without, with_chain = (factor * statistics.median(values[each]) for each in (False, True))
        more = f"{100 * (with_chain / without - 1):+.1f} %"
        print(f"{name:<26} without {without:8.1f} {unit}, with the chain {with_chain:8.1f} {unit}: {more}")
    difference = statistics.median(processor[True]) - statistics.median(processor[False])
    print(f"processor time for each save, by the difference of runs: {1000 * difference / options.saves:.0f} ms")


def train_once(has_chain: bool, run: str, overrides: list[str]) -> None:
    """Train a run, and print its processor time and its time in seconds."""
    state_chain.is_written = has_chain
    config = signs_dist.load_config(None, overrides)
    used, begun = time.process_time(), time.perf_counter()
    signs_dist.fit(config, run_dir=run, quiet=True)
    print(json.dumps([time.process_time() - used, time.perf_counter() - begun]))


def environment() -> dict[str, str]:
    """The environment of a program that imports this toolkit, in any folder."""
    place = str(Path(signs_dist.__file__).resolve().parent.parent)
    places = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places if place in places else [place, *places])}


def settings(megabytes: int, num_saves: int, steps_between: int) -> list[str]:
    """The config of a run with so many saves, the one at the end of its epoch included."""
    hidden = max(1, round(megabytes * 2**20 / 4 / (3 * 32 * 32 + 7)))
    steps = steps_between * num_saves
    return [
        *("exact=true", f"train.micro_batch={MICRO_BATCH}", "train.precision=float32", "data.image_size=32"),
        *("model.name=mlp", f"model.args={{hidden: [{hidden}]}}", "optim.name=adamw", "optim.lr=0.001"),
        *("train.epochs=1", f"train.epoch_steps={steps}", f"train.global_batch={MICRO_BATCH}", "log.report=false"),
        f"data.synthetic.train={max(100, steps * MICRO_BATCH)}",
        *(
            "data.synthetic.val=12",
            "data.synthetic.test=12",
            f"checkpoint.every_steps={steps_between}",
            "checkpoint.keep=1",
        ),
    ]


if __name__ == "__main__":
    main()
