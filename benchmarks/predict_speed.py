"""Measure how fast `predict` is, compared with a loop that loads one photo by Pillow and runs the network on it.

    python benchmarks/predict_speed.py --data data/64x64_SIGNS/val_signs
    python benchmarks/predict_speed.py --data data/64x64_SIGNS/val_signs --size 4000 3000 --num-photos 50

It trains the network of the config for one epoch on drawn hands, or takes the run of `--run`. Then it predicts the
photos in both ways, in turn, in this process: reading the weights and importing torch are not counted. Both write JSON
lines. With `--size` the photos are first enlarged to that size, as JPEG. On a busy machine single times vary: compare
the medians, and the processor time, which both spend on all cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from signs_dist.config.reading import load_config
from signs_dist.data.listing import list_images
from signs_dist.environment.context import read_context
from signs_dist.inference.predicting import predict
from signs_dist.inference.prediction_files import json_lines
from signs_dist.inference.trained_model import TrainedModel, read_trained_model, use_threads
from signs_dist.training.fit import fit

Work = Callable[[TrainedModel, Sequence[Path], Path], None]


def one_at_a_time(model: TrainedModel, paths: Sequence[Path], out: Path) -> None:
    """A plain loop: load a photo, run the network, write a line."""
    size = (model.image_size, model.image_size)
    with out.open("w") as stream:
        for path in paths:
            with Image.open(path) as image:
                pixels = ImageOps.exif_transpose(image).convert("RGB").resize(size, Image.Resampling.BICUBIC)
            logits = model(torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None])
            shares = dict(zip(model.classes, logits.softmax(dim=1)[0].tolist(), strict=True))
            best = max(shares, key=shares.__getitem__)
            row = {"path": str(path), "class": best, "probability": shares[best], "probabilities": shares}
            stream.write(json.dumps(row) + "\n")


def ours(model: TrainedModel, paths: Sequence[Path], out: Path) -> None:
    """As the command does."""
    with json_lines(out) as write:
        for rows in predict(model, paths, skip_bad=True, num_threads=read_context().usable_cores):
            for row in rows:
                write(row)


def timed(work: Work, model: TrainedModel, paths: Sequence[Path], out: Path) -> tuple[float, float]:
    """Seconds, and seconds of processor time."""
    begun = time.perf_counter(), time.process_time()
    work(model, paths, out)
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def enlarged(paths: Sequence[Path], size: tuple[int, int], folder: Path) -> list[Path]:
    """Copies of the photos at another width and height, as a camera's JPEG."""
    copies = []
    for number, path in enumerate(paths):
        copies.append(folder / f"{number:05d}.jpg")
        with Image.open(path) as image:
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(copies[-1], quality=90)
    return copies


def make_run(config: Path, folder: Path) -> Path:
    """Train one epoch on drawn hands: the weights do not matter to the speed."""
    few = ["data.synthetic.train=64", "data.synthetic.val=6", "data.synthetic.test=6", "train.epochs=1"]
    places = [f"data.cache={folder / 'cache'}"]
    fit(load_config(config, [*few, *places]), folder / "run", quiet=True)
    return folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder of photos")
    parser.add_argument("--run", type=Path, metavar="RUN_DIR", help="the run to predict with (default: a new one)")
    parser.add_argument("--config", type=Path, default=Path("configs/signs.yaml"), help="of the new run")
    parser.add_argument("--num-photos", type=int, default=1000, help="photos to predict; they repeat (default: 1000)")
    parser.add_argument("--size", type=int, nargs=2, metavar=("WIDTH", "HEIGHT"), help="enlarge the photos to this")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = read_trained_model(options.run or make_run(options.config, folder), weights="final", device="auto")
        use_threads(model, read_context())
        found = [options.data / path for path in list_images(options.data).images]
        if options.size is not None:
            found = enlarged(found[: options.num_photos], tuple(options.size), folder)
        paths = [found[number % len(found)] for number in range(options.num_photos)]
        ways = {"one at a time": one_at_a_time, "predict": ours}
        seconds: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for way in ways.values():
            way(model, paths[:64], folder / "warm.jsonl")
        for _ in range(options.repeats):
            for way, work in ways.items():
                seconds[way].append(timed(work, model, paths, folder / "out.jsonl"))
    print(f"{len(paths):,} photos, medians of {options.repeats}")
    rates = {}
    for way, measured in seconds.items():
        elapsed, of_processor = (statistics.median(each) for each in zip(*measured, strict=True))
        rates[way] = len(paths) / elapsed
        each = ", ".join(f"{passed:.2f} s" for passed, _ in measured)
        cost = 1000 * of_processor / len(paths)
        print(f"{way:<14} {rates[way]:8,.1f} photos/s  {cost:.2f} ms of processor time each  ({each})")
    print(f"predict is {rates['predict'] / rates['one at a time']:.1f} times as fast")


if __name__ == "__main__":
    main()
