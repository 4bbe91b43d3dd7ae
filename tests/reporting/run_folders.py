"""Run folders for tests of reports, written without training."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from signs_dist.config.reading import dump_config, load_config
from signs_dist.learning.metrics import wilson_interval
from signs_dist.reporting.scores import confusion_of
from signs_dist.results.predictions import Prediction, PredictionsHeader, predictions_path, to_text
from signs_dist.run_folder.records import EndLine, EpochLine, Line, SaveLine, StartLine, StepLine, to_fields

NAMES = ("cat", "dog", "owl", "fox", "bee", "elk")
STEPS = 20
"""Steps of an epoch."""


def write_run(
    path: Path,
    *overrides: str,
    epochs: int = 6,
    accuracy: float = 0.8,
    classes: Sequence[str] = NAMES,
    num_images: int = 120,
    photos: Path | None = None,
    is_finished: bool = True,
    end: str = "finished",
    attempts: Sequence[Line] = (),
    speed: float = 900.0,
    data: str = "photos/animals",
) -> Path:
    """A run folder with everything that a training leaves, but weights.

    Args:
        path: the folder to make.
        overrides: settings, as in `optim.lr=0.1`.
        epochs: how many lines of epochs it has.
        accuracy: about that of the last epoch.
        classes: names.
        num_images: of val.
        photos: a folder for pictures of val; None for drawn images, which are in no folder.
        is_finished: whether it has a result.
        end: the reason in the last line of attempts.jsonl.
        attempts: the lines of attempts.jsonl; none for one attempt.
        speed: images/s.
        data: the name of the data set.
    """
    path.mkdir(parents=True)
    (path / "logs").mkdir()
    (path / "checkpoints").mkdir()
    config = load_config(None, [f"train.epochs={epochs}", *overrides])
    (path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    draw = random.Random(repr((config.seed, accuracy, len(classes))))
    write_lines(path / "metrics.jsonl", metrics(epochs, accuracy, speed, draw, config.optim.lr))
    last = epochs * STEPS
    lines = attempts or (
        StartLine(attempt=1, time="2026-01-31T12:00:00+00:00", first_step=0, world_size=2, host="node7"),
        EndLine(attempt=1, time="2026-01-31T12:40:00+00:00", reason=end, last_step=last, seconds_lost=0.0),
    )
    write_lines(path / "attempts.jsonl", lines)
    images = predictions(num_images, len(classes), accuracy, draw)
    header = PredictionsHeader(
        split="val",
        classes=tuple(classes),
        epoch=epochs,
        step=last,
        weights="best",
        root=str(photos) if photos is not None else "",
    )
    predictions_path(path, "val").write_text(to_text(header, images), encoding="utf-8")
    if photos is not None:
        write_photos(photos, [file for file, _, _ in images])
    write_training_images(path, len(classes))
    manifest = {"command": ["python", "-m", "signs_dist.train"], "data": {"name": data}, "host": "node7"}
    (path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if is_finished:
        result = make_result(images, classes, epochs, config.seed, data, speed)
        (path / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return path


def metrics(epochs: int, accuracy: float, speed: float, draw: random.Random, rate: float) -> list[Line]:
    lines: list[Line] = []
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        reached = accuracy * (1 - math.exp(-4 * done)) + draw.uniform(-0.01, 0.01)
        common: dict[str, Any] = {
            "train_loss": 2.0 - 1.8 * reached + draw.uniform(0, 0.05),
            "train_accuracy": min(1.0, reached + 0.03),
            "lr": rate * (1 + math.cos(math.pi * done)) / 2,
            "images_per_second": speed * draw.uniform(0.95, 1.05),
            "data_wait_share": draw.uniform(0.0, 0.02),
        }
        step = epoch * STEPS
        lines.append(StepLine(epoch=epoch, step=step - STEPS // 2, images=32 * (step - STEPS // 2), **common))
        score = {"val_loss": 1.9 - 1.6 * reached, "val_accuracy": min(1.0, max(0.0, reached))}
        lines.append(EpochLine(epoch=epoch, step=step, images=32 * step, **common, **score))
        lines.append(SaveLine(epoch=epoch, step=step, stall_seconds=0.01))
    return lines


def predictions(
    num_images: int, num_classes: int, accuracy: float, draw: random.Random
) -> list[tuple[str, int, list[float]]]:
    rows = []
    for number in range(num_images):
        label = number % num_classes
        is_right = draw.random() < accuracy
        predicted = label if is_right else (label + draw.choice((1, 1, 2))) % num_classes
        confidence = draw.uniform(0.5, 1.0) if is_right else draw.uniform(0.4, 0.95)
        rest = (1 - confidence) / (num_classes - 1)
        probabilities = [rest] * num_classes
        probabilities[predicted] = confidence
        rows.append((f"{label}/image-{number:04d}.png", label, probabilities))
    return rows


def make_result(
    images: Sequence[tuple[str, int, list[float]]],
    classes: Sequence[str],
    epochs: int,
    seed: int,
    data: str,
    speed: float,
) -> dict[str, Any]:
    found = [Prediction(file, label, dict(enumerate(probabilities))) for file, label, probabilities in images]
    num_right = sum(each.is_right for each in found)
    return {
        "finished": True,
        "data": data,
        "classes": list(classes),
        "split_sizes": {"train": 20 * 32, "val": len(found)},
        "val_loss": 0.6543,
        "val_accuracy": num_right / len(found),
        "val_correct": num_right,
        "val_images": len(found),
        "val_accuracy_interval": list(wilson_interval(num_right, len(found))),
        "val_confusion": confusion_of(found, len(classes)),
        "best_epoch": epochs,
        "best_val_accuracy": num_right / len(found),
        "weights": {"kind": "best", "epoch": epochs},
        "epochs": epochs,
        "steps": epochs * STEPS,
        "seed": seed,
        "train_seconds": 2400.0,
        "total_seconds": 2410.0,
        "images_per_second": speed,
        "world_size": 2,
        "strategy": "ddp",
        "device": "cuda:0, cuda:1",
        "exact": False,
        "micro_batch": 16,
        "precision": "bfloat16",
        "model": "signs_fast",
        "num_parameters": 288902,
        "weights_sha256": "f8cc83ca9b18f55ec3e315b2bd5d47dbda85f91e337b3a11fc7cd31093fbd772",
    }


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    path.write_text("".join(f"{json.dumps(to_fields(line))}\n" for line in lines), encoding="utf-8")


def write_photos(folder: Path, files: Sequence[str]) -> None:
    for number, file in enumerate(files):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((48, 48)).rotate(37 * number).convert("RGB").save(path)


def write_training_images(path: Path, num_classes: int) -> None:
    sheet = Image.new("RGB", (8 * 48, 2 * 48))
    for place in range(16):
        tile = Image.linear_gradient("L").resize((48, 48)).rotate(24 * place).convert("RGB")
        sheet.paste(tile, (place % 8 * 48, place // 8 * 48))
    sheet.save(path / "training-images.png")
    lines: list[Mapping[str, Any]] = [
        {"file": f"train/{place}.png", "label": place % num_classes} for place in range(16)
    ]
    (path / "training-images.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
