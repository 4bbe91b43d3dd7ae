"""Measure the accuracy over the seconds of training of several recipes, side by side.

    python benchmarks/recipe_curve.py --data PHOTOS --svg docs/recipe_curve.svg
    python benchmarks/recipe_curve.py --data PHOTOS --seeds 0 --recipe long configs/signs_thorough.yaml \
        --recipe short configs/signs.yaml train.epochs=8

Recipes take turns, seed by seed, so that all meet the same machine. Seconds are those of training steps, without
evaluations. Each epoch is evaluated.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEFAULT_RECIPES = (
    ("signs_thorough.yaml", "configs/signs_thorough.yaml"),
    ("signs.yaml", "configs/signs.yaml"),
    ("signs.yaml in 16 epochs", "configs/signs.yaml", "train.epochs=16", "optim.lr=0.1"),
)
"""Each a label, a config and settings. Times are told as shares of the first recipe's."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """One run.

    Attributes:
        seconds: of training until the end of each epoch.
        accuracies: on the validation images after each epoch, in percent.
    """

    seconds: tuple[float, ...]
    accuracies: tuple[float, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder with train_signs and val_signs")
    parser.add_argument("--recipe", nargs="+", action="append", metavar="LABEL CONFIG [section.key=value]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--svg", type=Path, help="file for the chart")
    options = parser.parse_args()
    recipes = options.recipe or [list(recipe) for recipe in DEFAULT_RECIPES]
    if any(len(recipe) < 2 for recipe in recipes):
        parser.error("--recipe takes a label and a config, then settings")
    curves: dict[str, list[Curve]] = {recipe[0]: [] for recipe in recipes}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            for label, *recipe in recipes:
                curve = train(recipe, options.data, seed, Path(scratch))
                curves[label].append(curve)
                print(f"seed {seed}: {label}: {curve.accuracies[-1]:.2f} %, {curve.seconds[-1]:.1f} s", flush=True)
    first = statistics.median(curve.seconds[-1] for curve in curves[recipes[0][0]])
    print(f"{'recipe':<28} {'mean':>8} {'lowest':>8} {'training':>9} {'share':>6}")
    for label, runs in curves.items():
        last, seconds = [run.accuracies[-1] for run in runs], statistics.median(run.seconds[-1] for run in runs)
        mean = statistics.mean(last)
        print(f"{label:<28} {mean:>6.2f} % {min(last):>6.2f} % {seconds:>7.1f} s {seconds / first:>6.2f}")
    if options.svg:
        options.svg.write_text(draw(curves), encoding="utf-8")


def train(recipe: Sequence[str], data: str, seed: int, scratch: Path) -> Curve:
    """One run of a config with settings, in a process of its own."""
    config, *settings = recipe
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        command = [
            sys.executable,
            "-m",
            "signs_dist.train",
            "--quiet",
            "--config",
            config,
            "--run-dir",
            f"{folder}/run",
        ]
        places = [f"data.root={data}", f"data.cache={scratch}/cache", "log.report=false"]
        every = [f"seed={seed}", "evaluate.every_epochs=1"]
        subprocess.run([*command, *places, *every, *settings], check=True, stdout=subprocess.DEVNULL)
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    return curve_of([json.loads(line) for line in lines])


def curve_of(lines: Sequence[dict[str, Any]]) -> Curve:
    """The curve of a run from the lines of its metrics.jsonl."""
    epochs = [line for line in lines if line["kind"] == "epoch"]
    seconds, total, before = [], 0.0, 0
    for line in epochs:
        total, before = total + (line["images"] - before) / line["images_per_second"], line["images"]
        seconds.append(total)
    return Curve(tuple(seconds), tuple(100 * line["val_accuracy"] for line in epochs))


def draw(curves: dict[str, list[Curve]]) -> str:
    """The mean over the seeds of each recipe, from 80 % on, as SVG."""
    import vl_convert

    rows = [
        {
            "recipe": label,
            "seconds": round(statistics.median(run.seconds[epoch] for run in runs), 2),
            "accuracy": round(statistics.mean(run.accuracies[epoch] for run in runs), 2),
        }
        for label, runs in curves.items()
        for epoch in range(len(runs[0].seconds))
    ]
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "width": 560,
        "height": 260,
        "background": "white",
        "data": {"values": rows},
        "mark": {"type": "line", "point": True, "clip": True},
        "encoding": {
            "x": {"field": "seconds", "type": "quantitative", "title": "seconds of training"},
            "y": {
                "field": "accuracy",
                "type": "quantitative",
                "title": "validation accuracy, %",
                "scale": {"domain": [80, 100]},
            },
            "color": {"field": "recipe", "type": "nominal", "title": None, "sort": None},
        },
    }
    svg: str = vl_convert.vegalite_to_svg(spec)
    return svg


if __name__ == "__main__":
    main()
