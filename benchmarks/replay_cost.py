"""Measure what a replay costs beside the training of the steps since the newest kept state.

    python benchmarks/replay_cost.py
    python benchmarks/replay_cost.py --root photos --steps 20

It trains an exact run, and replays its last step twice: from the state just before it, and from a state `--steps` steps
before it. The first is the start of a replay: importing PyTorch, opening the images, loading the state, looking into
one step. What the second takes beyond the time in which the run itself trained those steps is compared with the bar: a
replay costs at most the steps since the newest kept state and 10 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST_SECONDS = 10.0
"""The bar for what a replay takes beside the steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, help="a folder of photos (default: drawn hands)")
    parser.add_argument("--steps", type=int, default=20, help="steps between the two states (default: 20)")
    parser.add_argument("--processes", type=int, default=1, help="of the replay; the run takes one (default: 1)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings of the run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = folder / "run"
        steps = options.steps + 1
        settings = [
            *([f"data.root={options.root}"] if options.root else []),
            f"data.cache={folder}/cache",
            *("exact=true", "train.epochs=2", f"train.epoch_steps={steps}", "train.global_batch=32"),
            *(f"checkpoint.every_steps={2 * steps - 1}", "train.micro_batch=8", *options.overrides),
        ]
        command = [sys.executable, "-m", "signs_dist.train", "--quiet", "--run-dir", str(run), *settings]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        done = json.loads((run / "result.json").read_text())["steps"]
        if done != 2 * steps:
            raise SystemExit(
                f"an epoch of these photos has {done // 2} steps of 32: give at most --steps {done // 2 - 1}"
            )
        near = replay(run, folder, 2 * steps, options.processes)
        for path in (run / "checkpoints").glob("epoch-0002*"):
            path.unlink()  # what is left is the state after the first epoch
        far = replay(run, folder, 2 * steps, options.processes)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rate = [line["images_per_second"] for line in lines if line["kind"] == "epoch"][-1]
    of_run = options.steps * 32 / rate
    print(f"a replay from the state before the step       {near:6.1f} s")
    print(f"a replay from {options.steps:>4} steps before it             {far:6.1f} s")
    print(f"the run itself took for these steps           {of_run:6.1f} s")
    beside = far - of_run
    verdict = "within" if beside <= MOST_SECONDS else "above"
    print(f"beside the steps                              {beside:6.1f} s: {verdict} the bar of {MOST_SECONDS:g} s")


def replay(run: Path, folder: Path, step: int, num_processes: int) -> float:
    """The seconds of a replay, from the command line to its end."""
    flags = ["--step", str(step), "--processes", str(num_processes), "--images", str(folder / "picture.png")]
    begun = time.perf_counter()
    command = [sys.executable, "-m", "signs_dist.replay", str(run), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
