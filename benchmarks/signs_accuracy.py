"""Measure the accuracy of a recipe on the real photos: one run for each of several seeds.

python benchmarks/signs_accuracy.py --data PHOTOS            # configs/signs.yaml, seeds 0 1 2
python benchmarks/signs_accuracy.py --data PHOTOS --config configs/cs230.yaml --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/signs.yaml")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with train_signs and val_signs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--setting", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    accuracies, seconds = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            run_dir = Path(scratch) / str(seed)
            command = [sys.executable, "-m", "signs_dist.train", "--config", options.config, "--run-dir", str(run_dir)]
            settings = [f"data.root={options.data}", f"data.cache={scratch}/cache", f"seed={seed}", *options.setting]
            subprocess.run([*command, "--quiet", *settings], check=True, stdout=subprocess.DEVNULL)
            result = json.loads((run_dir / "result.json").read_text())
            accuracies.append(result["val_accuracy"])
            seconds.append(result["train_seconds"])
            print(
                f"seed {seed}: val {100 * result['val_accuracy']:.2f} %, trained in {result['train_seconds']:.1f} s, "
                f"{result['images_per_second']:,.0f} images/s, {result['precision']}",
                flush=True,
            )
    print(f"mean {100 * statistics.mean(accuracies):.2f} %, slowest {max(seconds):.1f} s")


if __name__ == "__main__":
    main()
