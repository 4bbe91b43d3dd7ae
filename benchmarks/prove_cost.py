"""Measure what it costs to prove 3 segments of a run of 20 epochs whose states are all kept.

    python benchmarks/prove_cost.py --data PHOTOS
    python benchmarks/prove_cost.py --data PHOTOS --nproc 2 --config configs/signs.yaml

The run trains in exact mode, and is proved on as many processes. The cost is the time of the segments that were trained
again, with their validation, over the training time of the run. The start of the command stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="photos")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--nproc", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--epochs", type=int, default=20, help="of the run (default: 20)")
    parser.add_argument("--repeats", type=int, default=3, help="proofs, each of other segments (default: 3)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        settings = [
            "exact=true",
            "train.micro_batch=8",
            f"train.epochs={options.epochs}",
            "checkpoint.keep_every_epochs=1",
            f"data.root={options.data.resolve()}",
            f"data.cache={folder}/cache",
            *options.overrides,
        ]
        config = ["--config", str(options.config)] if options.config else []
        train = ["signs_dist.train", "--quiet", "--run-dir", str(run), *config, *settings]
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.nproc}", "-m"]
        run_quietly([*(start if options.nproc > 1 else ["-m"]), *train])
        result = json.loads((run / "result.json").read_text())
        trained = result["train_seconds"]
        what = f"{result['epochs_trained']} epochs, {result['steps']} steps on {options.nproc} processes"
        print(f"{what}: trained in {trained:.1f} s")
        costs, starts = [], []
        for seed in range(options.repeats):
            begun = time.perf_counter()
            prove = ["signs_dist.prove", str(run), "--seed", str(seed), "--processes", str(options.nproc)]
            told = run_quietly(["-m", *prove])
            whole = time.perf_counter() - begun
            found = re.search(r"trained again in ([\d.]+) s", told)
            assert found is not None
            costs.append(float(found[1]))
            starts.append(whole - costs[-1])
            print(f"seed {seed}: {told.splitlines()[-1]}")
            print(f"  trained again in {costs[-1]:.1f} s, {100 * costs[-1] / trained:.1f} % of the training")
    print(
        f"prove takes {100 * statistics.median(costs) / trained:.1f} % of the training time, and "
        f"{statistics.median(starts):.1f} s to start (medians of {options.repeats})"
    )


def run_quietly(arguments: list[str]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


if __name__ == "__main__":
    main()
