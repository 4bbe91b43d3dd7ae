"""Measure what check.recompute_every costs: whole runs of one config without checks, with some, and with nothing else.

    python benchmarks/recompute_cost.py --config configs/signs.yaml train.micro_batch=8 data.root=PHOTOS    # on 2 cores
    python benchmarks/recompute_cost.py --nproc 3 --config configs/signs.yaml train.micro_batch=8 data.root=PHOTOS

The runs take turns, so that a drift of the machine's speed affects all. Where each step is checked, a check costs what
a step takes longer; a thousandth of that is the cost at check.recompute_every=1000, which is to be below 0.2 %. Checks
at every tenth step are measured side by side, to see that the rest costs nothing: a tenth of the first figure is
expected.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MODES = {"no check": "null", "every tenth step": "10", "every step": "1"}
"""What is measured → check.recompute_every."""
SUGGESTED = 1000
BAR = 0.002


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--nproc", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each kind (default: 5)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            for mode, every in MODES.items():
                run = Path(folder) / f"{repeat}-{every}"
                settings = ["exact=true", "train.epochs=3", "log.report=false", *options.overrides]
                train(run, options.nproc, options.config, [*settings, f"check.recompute_every={every}"])
                rates[mode].append(json.loads((run / "result.json").read_text())["images_per_second"])
    for line in report(rates):
        print(line)


def train(run: Path, num_processes: int, config: Path | None, settings: Sequence[str]) -> None:
    """Train once; the output is shown if it fails."""
    start = [sys.executable]
    if num_processes > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"]
    command = [*start, "-m", "signs_dist.train", "--quiet", "--run-dir", str(run)]
    command += ["--config", str(config)] if config else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([*command, *settings], check=False, capture_output=True, text=True, env=environment)
    if ended.returncode:
        raise SystemExit(f"{' '.join(settings)} ended with {ended.returncode}:\n{ended.stdout}{ended.stderr}")


def report(rates: Mapping[str, Sequence[float]]) -> list[str]:
    """The figures, from the images per second of the runs of each mode, in the order of the runs."""
    lines = [f"{mode:>16}: {statistics.median(rates[mode]):9,.1f} images/s" for mode in MODES]
    plain, each, tenth = (rates[mode] for mode in ("no check", "every step", "every tenth step"))
    longer = statistics.median(one / other - 1 for one, other in zip(plain, each, strict=True))
    beside = statistics.median(one / other - 1 for one, other in zip(plain, tenth, strict=True))
    share = longer / SUGGESTED
    lines.append(f"a step with a check takes {longer:+.0%} time; at every {SUGGESTED:,} steps that is {share:+.3%}")
    lines.append(f"at every tenth step: {beside:+.1%} time, where {longer / 10:+.1%} is expected")
    return [*lines, f"{'PASS' if share < BAR else 'FAIL'}: below {BAR:.1%} at every {SUGGESTED:,} steps"]


if __name__ == "__main__":
    main()
