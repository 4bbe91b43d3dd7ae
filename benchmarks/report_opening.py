"""Measure a report: how long it takes to write, how large it is, and how long Chromium takes to open it.

    python benchmarks/report_opening.py                      # of 3 runs of 100 epochs, trained for it on drawn hands
    python benchmarks/report_opening.py RUN_DIR RUN_DIR
    python benchmarks/report_opening.py --images 1000000     # of 1 run with the predictions of a million images

The seconds of writing are those of the processor, the start of Python included; the first report of a user also packs
Vega into the cache folder. Opening ends with the page's load event: text, tables and pictures of all charts are there.
It needs Debian's chromium and the extra [dev]. On a busy machine single times vary: compare the medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = (
    *("data.synthetic.train=48", "data.synthetic.val=24", "data.synthetic.test=24", "train.global_batch=24"),
    *("data.image_size=16", "model.name=mlp", "log.report=false"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN_DIR", help="run folders (default: train three)")
    parser.add_argument("--epochs", type=int, default=100, help="epochs of each run that is trained (default: 100)")
    parser.add_argument("--repeats", type=int, default=5, help="how often to write and to open it (default: 5)")
    parser.add_argument("--images", type=int, help="of the val split of the only run (default: 3 runs of 24 images)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        num_runs = 1 if options.images else 3
        runs = [run.resolve() for run in options.runs] or [
            train(folder, seed, options.epochs) for seed in range(num_runs)
        ]
        if options.images and not options.runs:
            repeat_predictions(runs[0] / "predictions-val.jsonl", options.images)
        page = folder / "report.html"
        command = [sys.executable, "-m", "signs_dist.report", *map(str, runs), "--out", str(page), "--quiet"]
        empty = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
        first, *others = [processor_seconds(command, empty) for _ in range(1 + options.repeats)]
        print(f"first report   {first:.2f} s")
        print(f"later reports  {statistics.median(others):.2f} s")
        if options.images:
            print(f"memory         {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20:.2f} GiB at most")
        print(f"size           {page.stat().st_size:,} bytes")
        print(f"opens in       {statistics.median(opening_times(page, options.repeats)):,.0f} ms")


def train(folder: Path, seed: int, epochs: int) -> Path:
    run = folder / f"seed{seed}"
    command = [sys.executable, "-m", "signs_dist.train", "--quiet", "--run-dir", str(run), *SETTINGS]
    subprocess.run([*command, f"train.epochs={epochs}", f"seed={seed}"], cwd=folder, check=True)
    return run


def repeat_predictions(path: Path, num_images: int) -> None:
    """Repeat the lines of a file of predictions until it has this many images."""
    header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    repeated = lines * -(-num_images // len(lines))
    path.write_text("".join([header, *repeated[:num_images]]), encoding="utf-8")


def processor_seconds(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of the processor, of user and system, that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def opening_times(page: Path, repeats: int) -> list[float]:
    """Milliseconds from the start of navigation to the end of the load event, in a window of its own each time."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    assert program is not None, "type: apt-get install chromium"
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(repeats):
            window = browser.new_page(viewport={"width": 1400, "height": 900})
            window.goto(page.as_uri())
            times.append(window.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
            window.close()
        browser.close()
    return times


if __name__ == "__main__":
    main()
