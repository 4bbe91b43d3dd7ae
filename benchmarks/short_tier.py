"""Run the benchmarks that end within three minutes each on 2 cores, one after the other.

    make bench
    make bench ARGS="--data PHOTOS --only allocator --only start_up"

PHOTOS has folders train_signs and val_signs; without `--data` they are drawn hands. Leave the machine idle. The long
tier compares whole commands and recipes: `make bench-peers ARGS="--data PHOTOS"`, `python benchmarks/recipe_curve.py
--data PHOTOS`, `python benchmarks/million_files.py --files 10 1000000`, `python benchmarks/growth.py data.root=PHOTOS`,
`python benchmarks/shares.py data.root=PHOTOS`, `python benchmarks/choices.py`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT_SECONDS = 180


def commands(photos: Path) -> dict[str, list[str]]:
    """The arguments of each benchmark, by its name."""
    root, val = f"data.root={photos}", str(photos / "val_signs")
    cs230, signs = (["--config", str(REPOSITORY / "configs" / name)] for name in ("cs230.yaml", "signs.yaml"))
    few = ["--processes", "1", "2", "4"]
    return {
        "allocator": ["--repeats", "3"],
        "loop_overhead": [*signs, "--epochs", "5", root],
        "augmentation_speed": ["--side", "64"],
        "save_stall": [],
        "start_up": ["--rounds", "3"],
        "exact_overhead": [*cs230, "--repeats", "3", root, "train.epochs=2", "train.precision=float32"],
        "predict_speed": ["--data", val, "--num-photos", "600", "--repeats", "3"],
        "cached_features": [root],
        "jpeg_folder": [],
        "plan_scale": [],
        "waiting_threads": ["--rounds", "2"],
        "growth": [*few, "--networks", "loopback", "100mbit", "--rounds", "2", "--steps", "4", root],
        "shares": [*few, "--rounds", "1", "--epochs", "3", root],
        "choices": ["--short"],
        "report_opening": [],
    }


def draw_hands() -> Path:
    """The folder of drawn hands; drawn if it is missing."""
    from signs_dist.config.settings import DataConfig
    from signs_dist.data.sets import prepare_synthetic

    return prepare_synthetic(DataConfig(), num_processes=os.cpu_count() or 1, report=lambda *_: None).resolve()


def main() -> int:
    names = list(commands(Path()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder with train_signs, val_signs (default: draw)")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"one of {', '.join(names)}")
    options = parser.parse_args()
    photos = draw_hands() if options.data is None else options.data.resolve()
    failed, late = [], []
    for name, arguments in commands(photos).items():
        if options.only and name not in options.only:
            continue
        print(f"\n== python benchmarks/{name}.py {' '.join(arguments)}", flush=True)
        begun = time.perf_counter()
        ended = subprocess.run([sys.executable, str(REPOSITORY / "benchmarks" / f"{name}.py"), *arguments], check=False)
        seconds = time.perf_counter() - begun
        print(f"{seconds:.0f} s", flush=True)
        failed += [name] * bool(ended.returncode)
        late += [name] * (seconds > LIMIT_SECONDS)
    for names, what in ((failed, "failed"), (late, f"took more than {LIMIT_SECONDS} s")):
        if names:
            print(f"{what}: {', '.join(names)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
