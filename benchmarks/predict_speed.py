"""Measure how fast `predict` is, compared with a script that loads one photo by Pillow and runs the network on it.

    python benchmarks/predict_speed.py --data data/64x64_SIGNS/val_signs
    python benchmarks/predict_speed.py --data data/64x64_SIGNS/val_signs --size 4000 3000 --num-photos 50

It trains the network of the config for one epoch on drawn hands, or takes the run of `--run`. Then it predicts the
photos in each way, in turn, each time in a process of its own: `predict` is the command itself, the others are plain
scripts, whose threads wait as torch lets them. Importing torch and reading the weights are not counted: the time is
that from the first path to the end. All write JSON lines. With `--size` the photos are first enlarged to that size, as
JPEG. On a busy machine single times vary: compare the medians, and the processor time, which counts all cores.

`one at its best` is what a careful script does: it lets the JPEG decoder shrink large photos, and gives the network one
thread, because a second one costs more than it brings for one photo.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

WAYS = ("one at a time", "one at its best", "predict")
MORE_THAN_NEEDED = 3
"""`one at its best` decodes a JPEG at this multiple of the network's size, or larger, before it resizes it."""


def one_at_a_time(run: Path, paths: Sequence[str], out: Path, *, at_its_best: bool) -> tuple[float, float]:
    """A plain script: load a photo, run the network, write a line. Returns when it began: clock, processor time."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    import signs_dist

    model = signs_dist.load_model(run)
    if at_its_best:
        torch.set_num_threads(1)
    size = (model.image_size, model.image_size)
    wanted = (MORE_THAN_NEEDED * model.image_size,) * 2
    begun = time.perf_counter(), time.process_time()
    with out.open("w") as stream:
        for path in paths:
            with Image.open(path) as image:
                if at_its_best:
                    image.draft("RGB", wanted)
                pixels = ImageOps.exif_transpose(image).convert("RGB").resize(size, Image.Resampling.BICUBIC)
            logits = model(torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None])
            shares = dict(zip(model.classes, logits.softmax(dim=1)[0].tolist(), strict=True))
            best = max(shares, key=shares.__getitem__)
            row = {"path": path, "class": best, "probability": shares[best], "probabilities": shares}
            stream.write(json.dumps(row) + "\n")
    return begun


class NotedPaths(io.BytesIO):
    """Standard input with a list of paths, which notes when the first of them is read."""

    begun: tuple[float, float] | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        """As of BytesIO."""
        self.begun = self.begun or (time.perf_counter(), time.process_time())
        return super().read(size)


def command(run: Path, paths: Sequence[str], out: Path) -> tuple[float, float]:
    """The command, started as by `python -m signs_dist.predict`. Returns when it asked for the first photo."""
    from signs_dist.console.command import run_command
    from signs_dist.predict import main as predict

    noted = NotedPaths("\n".join(paths).encode())
    sys.stdin = io.TextIOWrapper(noted)
    code = run_command(predict, [str(run), "-", "--jsonl", str(out), "--quiet"])
    if code or noted.begun is None:
        raise SystemExit(f"predict ended with {code}")
    return noted.begun


def measure(way: str, run: Path, listed: Path, out: Path) -> None:
    """Predict in one way, in this process, and print the seconds and the seconds of processor time."""
    paths = listed.read_text(encoding="utf-8").splitlines()
    if way == "predict":
        begun = command(run, paths, out)
    else:
        begun = one_at_a_time(run, paths, out, at_its_best=way == "one at its best")
    print(json.dumps([time.perf_counter() - begun[0], time.process_time() - begun[1]]))


def measured(way: str, run: Path, listed: Path, out: Path) -> tuple[float, float]:
    """`measure` in a process of its own."""
    arguments = [sys.executable, __file__, "--measure", way, str(run), str(listed), str(out)]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    seconds, of_processor = json.loads(ended.stdout.splitlines()[-1])
    return seconds, of_processor


def enlarged(paths: Sequence[Path], size: tuple[int, int], folder: Path) -> list[Path]:
    """Copies of the photos at another width and height, as a camera's JPEG."""
    from PIL import Image

    copies = []
    for number, path in enumerate(paths):
        copies.append(folder / f"{number:05d}.jpg")
        with Image.open(path) as image:
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(copies[-1], quality=90)
    return copies


def make_run(config: Path, folder: Path) -> Path:
    """Train one epoch on drawn hands: the weights do not matter to the speed."""
    from signs_dist.config.reading import load_config
    from signs_dist.config.settings import SyntheticConfig
    from signs_dist.data.sets import prepare_synthetic
    from signs_dist.training.fit import fit

    drawing = load_config(config).data.model_copy(update={"synthetic": SyntheticConfig(train=64, val=6, test=6)})
    hands = prepare_synthetic(drawing, num_processes=1, report=lambda *_: None, below=folder)
    few = [f"data.root={hands}", f"data.cache={folder / 'cache'}", "train.epochs=1"]
    fit(load_config(config, few), folder / "run", quiet=True)
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder of photos")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="the run to predict with (default: a new one)")
    parser.add_argument("--config", type=Path, default=Path("configs/signs.yaml"), help="of the new run")
    parser.add_argument("--num-photos", type=int, default=2000, help="photos to predict; they repeat (default: 2000)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="enlarge the photos to this")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each way (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = options.run or make_run(options.config, folder)
        from signs_dist.data.listing import list_images

        found = [options.data / path for path in list_images(options.data).images]
        if options.size is not None:
            found = enlarged(found[: options.num_photos], tuple(options.size), folder)
        paths = [str(found[number % len(found)].resolve()) for number in range(options.num_photos)]
        listed = folder / "paths.txt"
        listed.write_text("\n".join(paths), encoding="utf-8")
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(options.repeats):
            for way in WAYS:
                seconds[way].append(measured(way, run, listed, folder / "out.jsonl"))
    print(f"{len(paths):,} photos, medians of {options.repeats}")
    rates = {}
    for way, times in seconds.items():
        elapsed, of_processor = (statistics.median(each) for each in zip(*times, strict=True))
        rates[way] = len(paths) / elapsed
        each = ", ".join(f"{passed:.2f} s" for passed, _ in times)
        cost = 1000 * of_processor / len(paths)
        print(f"{way:<16} {rates[way]:8,.1f} photos/s  {cost:.2f} ms of processor time each  ({each})")
    for way in WAYS[:-1]:
        print(f"predict is {rates['predict'] / rates[way]:.1f} times as fast as {way}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], *map(Path, sys.argv[3:6]))
    else:
        main()
