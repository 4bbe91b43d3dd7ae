"""What only a GPU can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.processes import run, torchrun_command, train_command
from tests.sets import write_colour_set

NUM_GPUS = torch.cuda.device_count()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(NUM_GPUS == 0, reason="needs a CUDA device"),
]
several_gpus = pytest.mark.skipif(NUM_GPUS < 2, reason="needs two CUDA devices")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 40, "val": 5})


def settings(root: Path, *more: str) -> list[str]:
    return [
        f"data.root={root}",
        f"data.cache={root}/cache",
        "data.image_size=32",
        "model.name=signs_net",
        "model.args={channels: 8, dropout: 0.3}",
        "train.epochs=2",
        "train.global_batch=16",
        "train.micro_batch=4",
        "--quiet",
        *more,
    ]


def result_of(command: list[str], folder: Path, name: str) -> dict[str, Any]:
    ended = run(command, folder, timeout=200)
    assert ended.code == 0, ended.err
    value = json.loads((folder / name / "result.json").read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("precision", ["float32", "auto", "float16"])
def test_one_gpu_in_exact_mode_repeats_bit_for_bit(colours: Path, tmp_path: Path, precision: str) -> None:
    arguments = settings(colours, "exact=true", f"train.precision={precision}")
    first, again = (result_of(train_command("--run-dir", name, *arguments), tmp_path, name) for name in ("a", "b"))
    assert first["weights_sha256"] == again["weights_sha256"]
    assert first["device"].startswith("cuda:0")


def test_a_loss_that_is_no_number_is_seen_a_step_late(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "optim.lr=1e30", "train.precision=float32")
    ended = run(train_command("--run-dir", "run", *arguments), tmp_path)
    assert ended.code == 1
    rows = json.loads((tmp_path / "run" / "non_finite_loss.json").read_text())["micro_batches"]
    assert rows[0]["epoch"] == 1


@several_gpus
def test_any_number_of_gpus_gives_one_result(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "exact=true")
    one = result_of(train_command("--run-dir", "one", *arguments), tmp_path, "one")
    two = result_of(torchrun_command(2, "--run-dir", "two", *arguments), tmp_path, "two")
    assert one["weights_sha256"] == two["weights_sha256"]


@several_gpus
def test_data_parallel_trains_on_two(colours: Path, tmp_path: Path) -> None:
    arguments = settings(colours, "train.precision=float32")
    alone = result_of(train_command("--run-dir", "alone", *arguments), tmp_path, "alone")
    both = result_of(train_command("--dp", "--run-dir", "both", *arguments), tmp_path, "both")
    assert both["strategy"] == "data_parallel"
    assert both["val_loss"] == pytest.approx(alone["val_loss"], rel=0.2)
    weights = torch.load(tmp_path / "both" / "model.pt", weights_only=True)
    assert not any(name.startswith("module.") for name in weights)


@several_gpus
def test_the_local_launcher_gives_each_process_its_gpu(colours: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.local", "--gpus", "1,0", "--", "--run-dir", "run", *settings(colours)]
    result_of(command, tmp_path, "run")
    processes = json.loads((tmp_path / "run" / "manifest.json").read_text())["processes"]
    assert "physical 1" in processes[0]["device"]
    assert "physical 0" in processes[1]["device"]
