"""Measure an epoch with model.cache_features and without: the head of a frozen resnet18, by turns, in one process.

    python benchmarks/cached_features.py data.root=PHOTOS

Seconds are those of training, validation and saving, divided by the number of epochs; the features are computed before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import signs_dist

SETTINGS = [
    *("model.name=torchvision:resnet18", "model.freeze=backbone", "augment.backend=none", "data.image_size=128"),
    *("log.report=false", "checkpoint.keep=1"),
]
CACHED_EPOCHS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of a run without the cache (default: 1)")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    first: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            for is_cached, num_epochs in ((False, options.epochs), (True, CACHED_EPOCHS)):
                settings = [
                    *SETTINGS,
                    f"data.cache={folder}/cache",
                    f"model.cache_features={str(is_cached).lower()}",
                    f"train.epochs={num_epochs}",
                    f"seed={repeat}",  # other weights: the features are computed again
                    *options.overrides,
                ]
                begun = time.perf_counter()
                result = signs_dist.fit(
                    signs_dist.load_config(None, settings), Path(folder) / f"{is_cached}{repeat}", quiet=True
                )
                seconds[is_cached].append(result["train_seconds"] / num_epochs)
                if is_cached:
                    first.append(time.perf_counter() - begun - result["train_seconds"])
    for is_cached, name in ((False, "without"), (True, "with")):
        print(f"{name:>7} the cache: {statistics.median(seconds[is_cached]):7.3f} s an epoch")
    ratios = [whole / part for whole, part in zip(seconds[False], seconds[True], strict=True)]
    print(f"an epoch is {statistics.median(ratios):.0f} times faster (median of {options.repeats} pairs)")
    print(f"before the first epoch: {statistics.median(first):.1f} s, with computing the features")


if __name__ == "__main__":
    main()
