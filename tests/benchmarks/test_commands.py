"""Each benchmark runs, on a data set of seconds, and prints its figures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment
from tests.sets import write_colour_set
from tests.test_layers import REPOSITORY

ONE_EPOCH = ("--seeds", "3", "--setting", "train.epochs=1")
SMALL = ("data.image_size=16", "model.name=mlp", "train.global_batch=16")


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    return write_colour_set(tmp_path / "data/64x64_SIGNS", counts={"train": 110, "val": 6})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "arguments", "figures"),
    [
        (
            "benchmarks/loop_overhead.py",
            ["--epochs", "1", *SMALL],
            [r"network alone on random tensors +[\d,]+ images/s", r"time by signs_dist / time alone +\d\.\d{3} "],
        ),
        (
            "benchmarks/augmentation_speed.py",
            ["--side", "16", "--batch", "4", "--repeats", "2"],
            [
                r"the defaults +[\d,]+ images/s",
                r"mixup: 0\.2 +[\d,]+ images/s",
                r"torchvision's RandAugment +[\d,]+ im",
            ],
        ),
        (
            "benchmarks/allocator.py",
            ["--network", "mlp", "--image-size", "8", "--repeats", "1", "--steps", "2"],
            [r"train.allocator=system +[\d,.]+ images/s", r"auto is \d+\.\d\d times as fast"],
        ),
        (
            "benchmarks/choices.py",
            ["--network", "mlp", "--kind", "native", "--repeats", "1", "--seconds", "0.01"],
            [r"mlp on this CPU", r", train.allocator=system +[\d.]+ ms", r"auto (is the fastest|reaches [\d.]+ of)"],
        ),
        (
            "benchmarks/cached_features.py",
            ["--repeats", "1", "model.name=signs_net", "model.args={channels: 4}", *SMALL[::2]],
            [r"without the cache: +[\d.]+ s an epoch", r"an epoch is \d+ times faster", "with computing the features"],
        ),
        (
            "benchmarks/exact_overhead.py",
            ["--repeats", "1", *SMALL, "train.micro_batch=8", "train.epochs=1"],
            [r" fast: +[\d,]+ images/s", r"exact: +[\d,]+ images/s", r"exact mode takes [+-][\d.]+ % time"],
        ),
        (
            "benchmarks/shard_optimizer.py",
            ["--width", "512"],
            [
                r"whole, rank 1: state +12\.0 MiB",
                r"pieces, rank 0: state +6\.0 MiB",
                r"pieces, rank 1: state +6\.0 MiB",
            ],
        ),
        (
            "benchmarks/jpeg_folder.py",
            ["--sizes", "80x60", "--num-photos", "4", "--batch", "2", "--repeats", "1"],
            [
                r"4 photos of 80x60, \d+ kB each",
                r"signs_dist +[\d,]+ images/s a core +1\.00 times",
                r"torchvision, as ",
            ],
        ),
        (
            "benchmarks/save_stall.py",
            ["--megabytes", "1", "--repeats", "1"],
            [r"training stands still +[\d.]+ ms", r"torch.save and a flush +[\d.]+ ms"],
        ),
        (
            "benchmarks/state_chain.py",
            ["--megabytes", "1", "--saves", "3", "--steps", "2", "--repeats", "1"],
            [
                r"digest of a state +[\d.]+ ms of a processor",
                r"a save stops training +without +[\d.]+ ms, with the chain",
            ],
        ),
        (
            "benchmarks/predict_speed.py",
            [
                *("--data", "data/64x64_SIGNS/val_signs", "--num-photos", "20", "--repeats", "1"),
                *("--size", "120", "90", "--config", str(REPOSITORY / "configs/signs.yaml")),
            ],
            [
                r"one at a time +[\d,.]+ photos/s",
                r"one at its best +[\d,.]+ photos/s",
                r"predict is [\d.]+ times as fast as one at a time",
            ],
        ),
        pytest.param(
            "benchmarks/report_opening.py",
            ["--epochs", "2", "--repeats", "1"],
            [r"later reports +[\d.]+ s", r"size +[\d,]+ bytes", r"opens in +[\d,]+ ms"],
            marks=pytest.mark.skipif(shutil.which("chromium") is None, reason="type: apt-get install chromium"),
        ),
        (
            "benchmarks/start_up.py",
            ["--processes", "2", "--rounds", "1"],
            [
                r"import torch +[\d.]+ s +[\d.]+ s +[\d.]+ s\n",
                r"2 processes, new interpreters +[\d.]+ s +[\d.]+ s +[\d.]+ s +[\d,]+ MiB\n",
                r"2 processes, forked +[\d.]+ s +[\d.]+ s +[\d.]+ s +[\d,]+ MiB\n",
            ],
        ),
        (
            "benchmarks/command_account.py",
            [
                *("--rounds", "1", "--", "--config", str(REPOSITORY / "configs/tutorial.yaml")),
                *("data.root=data/64x64_SIGNS", "train.epochs=1", *SMALL),
            ],
            [
                rf"(?m)^{stage} +[\d.]+ s +[\d.]+ s +[\d]+%$"
                for stage in ("import torch", "list the images", "first step", "evaluation", "Python's exit")
            ],
        ),
        (
            "benchmarks/million_files.py",
            ["--files", "20", "--processes", "2", "--kinds", "unsplit"],
            [r"20 files, 2 processes +first +[\d.]+ s", r"second, unchanged +[\d.]+ s .* \+0 MB"],
        ),
        (
            "benchmarks/plan_scale.py",
            ["--samples", "1000", "--ranks", "4"],
            [r"plan +1,000 samples +4 ranks +first batch +[\d.]+ ms", r"DistributedSampler +1,000 .* ms .* MB"],
        ),
        (
            "benchmarks/waiting_threads.py",
            [
                "--rounds",
                "1",
                "--seconds",
                "0.1",
                "--way",
                "OMP_WAIT_POLICY=PASSIVE",
            ],  # others spin, beside other tests
            [r"beside one busy program", r"OMP_WAIT_POLICY=PASSIVE +[\d,]+ images/s"],
        ),
        (
            "benchmarks/recipe_curve.py",
            [
                *("--data", "data/64x64_SIGNS", "--seeds", "3", "--svg", "curve.svg"),
                *("--recipe", "short", str(REPOSITORY / "configs/tutorial.yaml"), "train.epochs=1", *SMALL),
            ],
            [r"seed 3: short: [\d.]+ %, [\d.]+ s", r"short +[\d.]+ % +[\d.]+ % +[\d.]+ s +1.00"],
        ),
        (
            "benchmarks/signs_accuracy.py",
            ["--data", "data/64x64_SIGNS", "--config", str(REPOSITORY / "configs/tutorial.yaml"), *ONE_EPOCH],
            [r"seed 3: val [\d.]+ %, trained in", r"mean [\d.]+ %, slowest"],
        ),
    ],
)
def test_it_prints_its_figures(
    path: str, arguments: list[str], figures: list[str], colours: Path, tmp_path: Path
) -> None:
    command = [sys.executable, str(REPOSITORY / path), *arguments]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for figure in figures:
        assert re.search(figure, ended.stdout), ended.stdout
