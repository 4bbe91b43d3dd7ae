"""One rank of benchmarks/growth.py: trains some steps in each way, and writes seconds and bytes to a file.

The steps are those of a run: its loader, its loop, its sums over processes. All ways are prepared first; then they take
turns, round by round. Before each turn the ranks wait for each other.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
WARM_UP_STEPS = 3
"""DistributedDataParallel orders its buckets after the first step, and PowerSGD begins after the second."""
ACCUMULATED = 4
"""How many times more images a step has in the way `accumulate`."""
NUM_SUMS = 5
ALIKE = (
    *("train.num_threads=1", "data.num_workers=0", "log.every_steps=1000000", "train.progressive_sizes=[]"),
    *("ema.decay=null", "train.epochs=1000", "schedule.name=constant", "optim.lr=0.0001"),
)
WAYS: dict[str, tuple[str, ...]] = {
    "compute": (),
    "fast": (),
    "exact": ("exact=true",),
    "bfloat16": ("train.gradient_compression=bfloat16",),
    "powersgd": ("train.gradient_compression=powersgd", "train.powersgd_start_step=2"),
    "accumulate": (),
}
"""Settings of each way. `compute` sums nothing over processes; `accumulate` is `fast` with larger steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the figures of each rank")
    parser.add_argument("--interface", required=True, help="whose bytes are counted")
    parser.add_argument("--ways", nargs="+", required=True, choices=WAYS)
    parser.add_argument("--steps", type=int, required=True, help="steps of a turn")
    parser.add_argument("--rounds", type=int, required=True, help="turns of each way")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--global-batch", type=int, required=True)
    parser.add_argument("--micro-batch", type=int, required=True)
    parser.add_argument("--setting", action="append", default=[])
    options = parser.parse_args()

    from signs_dist.config.reading import load_config
    from signs_dist.console.screen import Screen
    from signs_dist.distributed.device_choice import plan_process
    from signs_dist.environment.context import read_context
    from signs_dist.training.process import Process
    from signs_dist.training.start import run_process
    from signs_dist.training.supervisor import Supervisor

    def work(process: Process, supervisor: Supervisor) -> dict[str, Any]:
        found = measure(options, process)
        (options.out / f"rank{context.rank}.json").write_text(json.dumps(found))
        return found

    context = read_context()
    screen = Screen(is_terminal=False, quiet=True, is_silent=context.rank != 0)
    limits = load_config(None, ["processes.rendezvous_seconds=120"]).processes
    run_process(work, plan_process(context, device="cpu"), context, screen, limits)


def measure(options: argparse.Namespace, process: Any) -> dict[str, Any]:
    """The figures of this rank: `ways` has seconds and sent bytes of a step for each turn of each way."""
    import torch

    from benchmarks.growth_network import read_sent_bytes
    from signs_dist.distributed.exactness import arithmetic_kept, exact_arithmetic

    strategy = process.strategy
    with contextlib.ExitStack() as stack:
        loops = {}
        for way in options.ways:
            with arithmetic_kept():
                stepper, loops[way] = _prepare(way, options, process)
            stack.callback(stepper.close)
            stack.callback(loops[way].close)
        shapes = [list(one.shape) for one in stepper.prepared.model.parameters() if one.requires_grad]
        num_extras = stepper.state.sync.num_extras
        turns: dict[str, list[dict[str, float]]] = {way: [] for way in loops}
        for turn in range(options.rounds + 1):
            num_steps = options.steps if turn else WARM_UP_STEPS
            for way, loop in loops.items():
                with exact_arithmetic(1) if way == "exact" else contextlib.nullcontext():
                    strategy.gather_values(None, "wait for all to begin")
                    sent, begun = read_sent_bytes(options.interface), time.perf_counter()
                    loop.work(num_steps)
                    seconds = time.perf_counter() - begun
                strategy.gather_values(None, "wait for all to end")  # their bytes count too where ranks share
                sent = read_sent_bytes(options.interface) - sent
                if turn:
                    turns[way].append({"seconds": seconds / num_steps, "bytes": sent / num_steps})
        found = {
            "ways": turns,
            "shapes": shapes,
            "num_extras": num_extras,
            "sums": [
                _sum_seconds(strategy, torch.zeros(size)) if strategy.world_size > 1 else 0.0
                for size in (1, sum(map(math.prod, shapes)))
            ],
        }
    del loops, stepper
    gc.collect()
    return found


def _prepare(way: str, options: argparse.Namespace, process: Any) -> tuple[Any, Any]:
    """The stepper of a way, and its endless loop."""
    import torch

    from signs_dist.benching.loops import RealLoop
    from signs_dist.config.reading import load_config
    from signs_dist.distributed.strategy import SingleProcess
    from signs_dist.training.prepare import prepare
    from signs_dist.training.stepper import Stepper

    batch = options.global_batch * (ACCUMULATED if way == "accumulate" else 1)
    sizes = [f"train.global_batch={batch}", f"train.micro_batch={options.micro_batch}"]
    config = load_config(options.config, [*ALIKE, *sizes, *options.setting, *WAYS[way]])
    prepared = process.strategy.all_succeed(lambda: prepare(config, process), "wait for all to prepare")
    if way == "compute":  # the same share of the work, and nobody to wait for
        alone = SingleProcess(torch.device("cpu"))
        alone.shard = process.strategy.shard
        process = dataclasses.replace(process, strategy=alone)
    stepper = Stepper(prepared, process)
    return stepper, RealLoop(stepper, process)


def _sum_seconds(strategy: Any, tensor: Any) -> float:
    """The seconds of a sum of `tensor` over all processes, without a network that computes."""
    strategy.group.sum(tensor)
    begun = time.perf_counter()
    for _ in range(NUM_SUMS):
        strategy.group.sum(tensor)
    return (time.perf_counter() - begun) / NUM_SUMS


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    main()
