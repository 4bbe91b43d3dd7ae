"""Measure what train.shard_optimizer saves: the memory of each process, also while it saves, and the time of a step.

    python benchmarks/shard_optimizer.py
    python benchmarks/shard_optimizer.py --nproc 4 --width 1024

Processes train linear layers on random numbers in exact mode, with AdamW and a moving average: whole, and in pieces.
State is what optimizer and average keep, counted from their tensors. Memory is what the process has grown by, at its
largest, since before its optimizer was made: during the steps, and while a checkpoint is written (Linux).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from signs_dist.checkpointing.tensors import Copier, save
from signs_dist.config.settings import OptimConfig
from signs_dist.data.plan import MicroBatches
from signs_dist.distributed.connect import ConnectedProcesses, connect
from signs_dist.distributed.gradient_tree import GradientTree
from signs_dist.distributed.sharded_average import ShardedAverage
from signs_dist.distributed.sharded_state import ShardedState
from signs_dist.distributed.sharded_tree import ShardedTree
from signs_dist.learning.optim import optimizer_of_groups
from signs_dist.learning.parameter_groups import parameter_groups
from signs_dist.learning.weight_average import WeightAverage

NUM_STEPS = 7
MEGA = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nproc", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--width", type=int, default=2048, help="of the four linear layers (default: 2048)")
    parser.add_argument("--worker", choices=("whole", "pieces"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker == "pieces", options.width, options.folder)
        return
    print(f"{options.nproc} processes, {4 * options.width**2 * 4 / MEGA:,.0f} MiB of weights, AdamW, moving average")
    for mode in ("whole", "pieces"):
        with tempfile.TemporaryDirectory() as folder:
            start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.nproc}", __file__]
            more = ["--worker", mode, "--width", str(options.width), "--folder", folder]
            subprocess.run([sys.executable, *start, *more], check=True, stderr=subprocess.DEVNULL)
            rows = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        for row in rows:
            print(
                f"{mode:>6}, rank {row['rank']}: state {row['state']:6,.1f} MiB, memory {row['steps']:6,.0f} MiB in "
                f"steps, {row['save']:6,.0f} MiB in a save, {row['seconds'] * 1000:5.0f} ms a step"
            )


def work(in_pieces: bool, width: int, folder: Path) -> None:
    """One process: trains some steps, saves, and writes what it needed into `folder`."""
    with connect(exact=True) as processes:
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(4)))
        row = measure(model, processes, folder, in_pieces=in_pieces)
    (folder / f"{processes.rank}.json").write_text(json.dumps(row))


def measure(model: nn.Module, processes: ConnectedProcesses, folder: Path, *, in_pieces: bool) -> dict[str, Any]:
    """Train and save. Returns MiB and seconds."""
    before = memory("VmRSS")
    micro_batches = MicroBatches(1, processes.world_size)
    config, parameters = OptimConfig(name="adamw", lr=1e-3), list(model.parameters())
    groups, group = parameter_groups(model, config), processes.group
    assert group is not None
    common = (parameters, 1, micro_batches, processes.shard, group)
    tree = ShardedTree(*common) if in_pieces else GradientTree(*common)
    sharding = ShardedState(tree, groups, group) if isinstance(tree, ShardedTree) else None
    optimizer = optimizer_of_groups(sharding.own_groups() if sharding is not None else groups, config)
    average = ShardedAverage(model, 0.9, tree) if isinstance(tree, ShardedTree) else WeightAverage(model, 0.9)
    (number,) = micro_batches.of(processes.shard)
    seconds = []
    for _ in range(NUM_STEPS):
        begun = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        tree.begin(number, torch.ones(1), is_last=True)
        model(torch.randn(1, parameters[0].shape[1])).square().mean().backward()
        tree.end()
        tree.finish()
        optimizer.step()
        if isinstance(tree, ShardedTree):
            tree.share_weights()
        average.update()
        seconds.append(time.perf_counter() - begun)
    steps = memory("VmHWM") - before
    Path("/proc/self/clear_refs").write_text("5")  # the largest so far is forgotten
    at_save = memory("VmRSS")
    path, is_main = folder / "checkpoint.pt", processes.rank == 0
    if sharding is not None:
        shipment, spread = sharding.ship(optimizer, average, Copier())
        if is_main:
            save(path, {"model": Copier().copy(dict(model.state_dict())), **spread})
        else:
            shipment.send()
    elif is_main:
        whole = {"ema": average.state_dict(), "optimizer": optimizer.state_dict(), "model": dict(model.state_dict())}
        save(path, Copier().copy(whole))
    tensors: list[Tensor] = [value for state in optimizer.state.values() for value in state.values()]
    num_bytes = sum(tensor.nbytes for tensor in (*tensors, *average.weights().values()))
    return {
        "rank": processes.rank,
        "state": num_bytes / MEGA,
        "steps": steps,
        "save": memory("VmHWM") - at_save,
        "seconds": statistics.median(seconds),
    }


def memory(name: str) -> float:
    """VmRSS, this process's memory now, or VmHWM, its largest so far, in MiB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
