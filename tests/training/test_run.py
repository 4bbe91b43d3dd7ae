"""Whole runs on small data: what they leave, what they print, and that the same config gives the same result."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.console.command import run_command
from signs_dist.evaluate import main as evaluate
from signs_dist.learning.metrics import wilson_interval
from signs_dist.predict import main as predict
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.suspects import Suspicion, write_suspicion
from signs_dist.train import main as train
from signs_dist.training.run import how_to_resume
from tests.sets import write_colour_set

RESULT_FIELDS = {
    "finished",
    "data",
    "split_sizes",
    "val_accuracy",
    "val_loss",
    "best_epoch",
    "train_seconds",
    "total_seconds",
    "images_per_second",
    "world_size",
    "strategy",
    "precision",
    "num_parameters",
    "weights_sha256",
}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 11, "val": 4, "test": 3})


def settings(root: Path, *more: str) -> list[str]:
    return [
        f"data.root={root}",
        f"data.cache={root}/cache",
        "data.image_size=16",
        "model.name=signs_net",
        "model.args={channels: 4, dropout: 0.2}",
        "train.epochs=3",
        "train.global_batch=8",
        "optim.lr=0.05",
        "log.every_steps=2",
        *more,
    ]


def run(root: Path, run_dir: Path, *more: str, config: Path | None = None) -> dict[str, Any]:
    """A run in this process; returns result.json."""
    arguments = ["--run-dir", str(run_dir), *(["--config", str(config)] if config else settings(root)), *more]
    assert run_command(train, arguments) == 0
    return read_json(run_dir / "result.json")


def read_json(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_everything_in_its_folder(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a run"
    result = run(colours, folder)
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "attempts.jsonl",
        "checkpoints",
        "model.pt",
        "result.json",
        "predictions-val.jsonl",
        "predictions-test.jsonl",
        "training-images.png",
        "training-images.jsonl",
        "logs",
    }
    names = [f"epoch-{epoch:04}.pt" for epoch in (1, 2, 3)] + ["best.pt", "last.pt"]
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {*names, *(f"{name}.sha256" for name in names)}
    assert result.keys() >= RESULT_FIELDS
    assert result["finished"] is True
    assert result["data"] == str(colours)
    assert result["split_sizes"] == {"train": 33, "val": 12, "test": 9}
    assert result["val_accuracy"] == result["val_correct"] / 12
    assert result["val_accuracy_interval"] == list(wilson_interval(result["val_correct"], 12))
    assert sum(map(sum, result["test_confusion"])) == 9
    assert (result["world_size"], result["strategy"]) == (1, "single")

    manifest = read_json(folder / "manifest.json")
    assert manifest["command"][:3] == ["python", "-m", "signs_dist.train"]
    assert manifest["versions"]["torch"] == torch.__version__.split("+")[0] or manifest["versions"]["torch"]
    assert manifest["data"]["root"] == str(colours.resolve())
    assert set(manifest["data"]["fingerprints"]) == {"train", "val", "test"}
    assert len(manifest["code"]["commit"]) == 40

    output = capsys.readouterr().out
    assert (
        "8 = 1 micro-batch of 8 on 1 process; 4 steps an epoch, each with 32 of 33 images, others the next time"
        in output
    )
    assert f"everything is in {folder}" in output
    assert f"val accuracy {100 * result['val_accuracy']:.1f} % ({result['val_correct']}/12" in output
    assert "\x1b" not in output
    assert "\r" not in output


def test_a_run_begins_again_where_all_its_states_are_suspects(colours: Path, tmp_path: Path) -> None:
    first = run(colours, tmp_path / "run", "train.epochs=1")
    folder = RunFolder(tmp_path / "run")
    folder.result.unlink()
    write_suspicion(folder, Suspicion(2, "rank 0 on n0 is faulty.", None))
    again = run(colours, tmp_path / "run", "train.epochs=1")
    assert again["weights_sha256"] == first["weights_sha256"]
    assert [line["first_step"] for line in read_lines(folder.attempts) if line["event"] == "start"] == [0, 0]
    assert (folder.checkpoints / "epoch-0001.pt.suspect").is_file()
    assert (folder.checkpoints / "epoch-0001.pt").is_file()
    assert not (folder.logs / "suspect.json").exists()


def test_metrics_have_a_line_per_epoch_and_per_n_steps(colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path / "run")
    all_lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    saves = [line for line in all_lines if line["kind"] == "save"]
    assert [(line["epoch"], line["step"]) for line in saves] == [(1, 4), (2, 8), (3, 12)]
    assert all(0 < line["stall_seconds"] < 5 for line in saves)
    lines = [line for line in all_lines if line["kind"] != "save"]
    # 4 steps an epoch, every_steps=2: one line in mid-epoch, one at its end.
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("step", 2),
        ("epoch", 4),
        ("step", 6),
        ("epoch", 8),
        ("step", 10),
        ("epoch", 12),
    ]
    assert [line["images"] for line in lines] == [16, 32, 48, 64, 80, 96]
    for line in lines:
        assert line.keys() >= {"train_loss", "train_accuracy", "lr", "images_per_second", "data_wait_share"}
        assert 0 <= line["data_wait_share"] <= 1
    assert all("val_accuracy" in line for line in lines if line["kind"] == "epoch")
    attempts = read_lines(tmp_path / "run" / "attempts.jsonl")
    assert [(line["event"], line.get("reason")) for line in attempts] == [("start", None), ("end", "finished")]
    assert attempts[1]["last_step"] == 12


def test_the_same_config_gives_the_same_weights(colours: Path, tmp_path: Path) -> None:
    first = run(colours, tmp_path / "1")
    again = run(colours, tmp_path / "2", config=tmp_path / "1" / "config.yaml")
    other = run(colours, tmp_path / "3", "seed=1")
    assert again["weights_sha256"] == first["weights_sha256"]
    assert again["val_loss"] == first["val_loss"]
    assert other["weights_sha256"] != first["weights_sha256"]


@pytest.mark.slow
def test_storage_and_workers_change_nothing(colours: Path, tmp_path: Path) -> None:
    packed = run(colours, tmp_path / "packed")
    for number, more in enumerate((["data.storage=files", "data.num_workers=0"], ["data.num_workers=2"])):
        assert run(colours, tmp_path / str(number), *more)["weights_sha256"] == packed["weights_sha256"]


def test_model_pt_is_plain_tensors_under_plain_names(colours: Path, tmp_path: Path) -> None:
    result = run(colours, tmp_path / "run")
    code = (
        "import hashlib, sys, torch\n"
        "weights = torch.load(sys.argv[1], weights_only=True)\n"
        "hasher = hashlib.sha256()\n"
        "for name in sorted(weights):\n"
        "    tensor = weights[name]\n"
        "    assert tensor.is_contiguous() and tensor.device.type == 'cpu' and not tensor.requires_grad\n"
        "    hasher.update(f'{name}\\0{tensor.dtype}\\0{list(tensor.shape)}\\0'.encode())\n"
        "    hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())\n"
        "assert not any(name.startswith(('module.', '_orig_mod.')) for name in weights)\n"
        "assert 'signs_dist' not in sys.modules\n"
        "print(hasher.hexdigest())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run" / "model.pt")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == result["weights_sha256"]


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["ema.decay=0.9", "evaluate.ten_crop=true"],
        ["evaluate.flip_average=true", "model.args={dropout: 0.5}"],
    ],
)
def test_evaluate_reproduces_the_numbers_of_the_run(colours: Path, tmp_path: Path, more: list[str]) -> None:
    result = run(colours, tmp_path / "run", *more)
    for split in ("val", "test"):
        out = tmp_path / f"{split}.json"
        assert run_command(evaluate, [str(tmp_path / "run"), "--split", split, "--json", str(out), "--quiet"]) == 0
        numbers = read_json(out)
        for field in ("accuracy", "loss", "confusion", "accuracy_interval"):
            assert numbers[f"{split}_{field}"] == result[f"{split}_{field}"]


def test_the_best_checkpoint_reproduces_the_best_accuracy(colours: Path, tmp_path: Path) -> None:
    result = run(colours, tmp_path / "run", "train.epochs=5", "optim.lr=0.2")
    epochs = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "epoch"]
    best = max(epochs, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    assert result["best_epoch"] == best["epoch"]
    out = tmp_path / "best.json"
    assert run_command(evaluate, [str(tmp_path / "run"), "--weights", "best", "--json", str(out)]) == 0
    assert read_json(out)["val_loss"] == best["val_loss"]


def test_predict_names_every_photo_with_its_class(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = run(colours, tmp_path / "run", "train.epochs=6")
    folder, photo = colours / "val_signs", colours / "test_signs" / "1_IMG_0000.jpg"
    out, table = tmp_path / "out.json", tmp_path / "out.csv"
    arguments = [str(tmp_path / "run"), str(photo), str(folder), "--json", str(out), "--csv", str(table)]
    assert run_command(predict, arguments) == 0
    predictions = read_json(out)["predictions"]
    assert [entry["path"] for entry in predictions] == [str(photo), *(str(path) for path in sorted(folder.iterdir()))]
    for entry in predictions:
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert entry["probability"] == max(entry["probabilities"].values()) == entry["probabilities"][entry["class"]]
    hits = sum(Path(entry["path"]).name[0] == entry["class"] for entry in predictions[1:])
    assert hits == result["val_correct"]
    assert len(table.read_text().splitlines()) == 1 + len(predictions)
    assert f"{photo}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        *((loss, "sgd") for loss in ("cross_entropy", "bce", "mse", "l1")),
        *(("cross_entropy", optimizer) for optimizer in ("adam", "adamw", "adagrad", "rmsprop")),
    ],
)
def test_every_loss_and_every_optimizer_learns(colours: Path, tmp_path: Path, loss: str, optimizer: str) -> None:
    rate = {"sgd": 0.2, "adagrad": 0.05}.get(optimizer, 0.01)
    more = [f"loss.name={loss}", f"optim.name={optimizer}", f"optim.lr={rate}", "train.epochs=8", "optim.clip_norm=5"]
    result = run(colours, tmp_path / "run", *more)
    assert result["val_accuracy"] >= 0.75


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "one_cycle"])
def test_the_learning_rate_follows_its_schedule(colours: Path, tmp_path: Path, schedule: str) -> None:
    more = [f"schedule.name={schedule}", "log.every_steps=1"]
    if schedule == "step":
        more += ["schedule.step_epochs=1", "schedule.step_factor=0.5"]
    if schedule == "cosine":
        more += ["schedule.warmup_epochs=1"]
    run(colours, tmp_path / "run", *more)
    rates = [round(line["lr"] / 0.05, 4) for line in read_lines(tmp_path / "run" / "metrics.jsonl") if "lr" in line]
    expected = {
        "constant": [1.0] * 12,
        "step": [1.0] * 4 + [0.5] * 4 + [0.25] * 4,
        "cosine": [0.0, 0.25, 0.5, 0.75, 1.0, 0.9619, 0.8536, 0.6913, 0.5, 0.3087, 0.1464, 0.0381],
        "one_cycle": [0.04, 0.2188, 0.6234, 0.9636, 0.9876, 0.8909, 0.7169, 0.5, 0.2831, 0.1091, 0.0124, 0.0],
    }[schedule]
    if schedule == "one_cycle":
        assert rates[0] == 0.04
        assert max(rates) == pytest.approx(1, abs=0.05)
        assert rates[-1] < 0.06
    else:
        assert rates == expected


def test_torchvision_transforms_can_take_the_place_of_the_batch_ones(colours: Path, tmp_path: Path) -> None:
    more = [
        "augment.backend=torchvision",
        "augment.transforms=[{RandomHorizontalFlip: {p: 0.5}}, {ColorJitter: {hue: 0.1}}]",
    ]
    first = run(colours, tmp_path / "1", *more, "data.num_workers=0")
    again = run(colours, tmp_path / "2", *more, "data.num_workers=0")
    assert first["weights_sha256"] == again["weights_sha256"]
    assert first["weights_sha256"] != run(colours, tmp_path / "3", "data.num_workers=0")["weights_sha256"]


def test_a_frozen_backbone_stays_as_it_was(colours: Path, tmp_path: Path) -> None:
    more = ["model.name=torchvision:resnet18", "model.args={}", "data.image_size=32", "train.epochs=1"]
    run(colours, tmp_path / "whole", *more)
    start = tmp_path / "whole" / "model.pt"
    run(colours, tmp_path / "frozen", *more, "model.freeze=backbone", f"model.weights={start}")
    before, after = (
        torch.load(path / "model.pt", weights_only=True) for path in (tmp_path / "whole", tmp_path / "frozen")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_a_loss_that_is_no_number_ends_the_run(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--run-dir", str(tmp_path / "run"), *settings(colours, "optim.lr=1e30", "train.precision=float32")]
    assert run_command(train, arguments) == 1
    message = capsys.readouterr().err
    assert "the training loss is not a finite number at epoch 1, step 2, in micro-batch 0." in message
    (row,) = read_json(tmp_path / "run" / "non_finite_loss.json")["micro_batches"]
    assert (row["rank"], row["epoch"], row["step"], len(row["samples"])) == (0, 1, 2, 8)
    assert all((colours / "train_signs" / Path(name).name).is_file() for name in row["files"])
    assert "A lower optim.lr (it is 1e+30)" in message
    assert not (tmp_path / "run" / "result.json").exists()
    assert read_lines(tmp_path / "run" / "attempts.jsonl")[-1]["reason"].startswith("TrainingFailedError")


class FlagsOfTheStepBefore:
    """As on a GPU, where a step's flags are read when the next one has been queued."""

    def __init__(self) -> None:
        self.under_way = [0.0, 0.0, 0.0]

    def publish(self, flags: torch.Tensor) -> list[float]:
        before, self.under_way = self.under_way, flags.tolist()
        return before

    def flush(self) -> list[float]:
        before, self.under_way = self.under_way, [0.0, 0.0, 0.0]
        return before


@pytest.mark.parametrize("at_once", ["log.every_steps=1", "checkpoint.every_steps=1", "train.epoch_steps=2"])
def test_a_loss_that_is_no_number_is_never_written(
    colours: Path, tmp_path: Path, at_once: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signs_dist.distributed.step_flags.PromptFlags", FlagsOfTheStepBefore)
    run = tmp_path / "run"
    unlogged = [setting for setting in settings(colours) if not setting.startswith("log.")]
    arguments = ["--run-dir", str(run), *unlogged, "optim.lr=1e30", "train.precision=float32", at_once]
    assert run_command(train, arguments) == 1
    assert "the training loss is not a finite number at epoch 1, step 2, in micro-batch 0." in capsys.readouterr().err
    assert [row["step"] for row in read_json(run / "non_finite_loss.json")["micro_batches"]] == [2]
    written = read_lines(run / "metrics.jsonl") if (run / "metrics.jsonl").exists() else []
    assert all(line["step"] < 2 for line in written)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "reason"), [(signal.SIGINT, 130, "stopped by Ctrl-C after epoch "), (signal.SIGKILL, -9, None)]
)
def test_a_stopped_run_is_not_called_finished(
    colours: Path, tmp_path: Path, sent: signal.Signals, code: int, reason: str | None
) -> None:
    folder = tmp_path / "run"
    arguments = ["--run-dir", str(folder), *settings(colours, "train.epochs=100000")]
    process = subprocess.Popen(
        [sys.executable, "-m", "signs_dist.train", *arguments], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (folder / "checkpoints" / "last.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == code
    if sent == signal.SIGINT:
        command = shlex.join(["python", "-m", "signs_dist.train", *arguments])
        assert output.endswith(f"to resume, on any number of processes: {command}\n")
    assert not (folder / "result.json").exists()
    assert not (folder / "model.pt").exists()
    assert torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["cursor"]["epoch"] >= 1
    ends = [line["reason"] for line in read_lines(folder / "attempts.jsonl") if line["event"] == "end"]
    assert len(ends) == (1 if reason else 0)
    assert reason is None or ends[0].startswith(reason)
    assert run_command(evaluate, [str(folder), "--weights", "last", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("command", "launcher", "text"),
    [
        (
            ["python", "-m", "signs_dist.train", "seed=1", "loss.name=l1 "],
            "python",
            "to resume, on any number of processes: "
            "python -m signs_dist.train seed=1 'loss.name=l1 ' --run-dir 'runs/a b'",
        ),
        (
            ["python", "-m", "signs_dist.train", "--run-dir", "runs/a b"],
            "python",
            "to resume, on any number of processes: python -m signs_dist.train --run-dir 'runs/a b'",
        ),
        (
            ["python", "-m", "signs_dist.train", "--run-dir=x"],
            "python",
            "to resume, on any number of processes: python -m signs_dist.train --run-dir=x",
        ),
        (
            ["python", "-m", "signs_dist.train"],
            "torchrun",
            "to resume, on any number of processes, repeat the same command with --run-dir 'runs/a b'",
        ),
        (["signs_dist.fit"], "python", "to resume, repeat the call with run_dir='runs/a b'"),
    ],
)
def test_what_to_type_to_resume(command: list[str], launcher: str, text: str) -> None:
    assert how_to_resume(command, Path("runs/a b"), launcher) == text
