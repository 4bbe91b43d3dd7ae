"""Measure the time of exact mode: the same config on several processes, in fast and exact mode by turns.

    python benchmarks/exact_overhead.py --config configs/cs230.yaml data.root=PHOTOS

Both modes use the same micro-batches and one thread a process. Images per second are those of training, from
result.json; seconds are those of the whole command.
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
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--nproc", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each mode (default: 5)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    config = ["--config", str(options.config)] if options.config else []
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.nproc}", "-m"]
    rates: dict[str, list[float]] = {"fast": [], "exact": []}
    seconds: dict[str, list[float]] = {"fast": [], "exact": []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            for mode in ("fast", "exact"):
                run = Path(folder) / f"{mode}{repeat}"
                settings = ["train.epochs=5", "train.micro_batch=8", "train.num_threads=1", *options.overrides]
                command = [sys.executable, *start, "signs_dist.train", "--quiet", "--run-dir", str(run), *config]
                begun = time.perf_counter()
                subprocess.run(
                    [*command, *settings, f"exact={str(mode == 'exact').lower()}"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                seconds[mode].append(time.perf_counter() - begun)
                rates[mode].append(json.loads((run / "result.json").read_text())["images_per_second"])
    for mode in ("fast", "exact"):
        print(
            f"{mode:>5}: {statistics.median(rates[mode]):7,.0f} images/s, whole command "
            f"{statistics.median(seconds[mode]):5.1f} s (medians of {options.repeats})"
        )
    ratios = [fast / exact - 1 for fast, exact in zip(rates["fast"], rates["exact"], strict=True)]
    print(f"exact mode takes {100 * statistics.median(ratios):+.1f} % time (median over pairs)")


if __name__ == "__main__":
    main()
