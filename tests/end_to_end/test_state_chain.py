"""The chain of a real run: one on any number of processes and after a kill, and broken by whatever is changed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.state_digest import state_sha256
from signs_dist.checkpointing.store import CheckpointStore, read_checkpoint
from signs_dist.config.reading import load_saved_config
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.files import write_text
from signs_dist.run_folder.chain import check_chain
from signs_dist.run_folder.digest import digest_path, file_sha256
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import StateLine, of_kind
from signs_dist.training.prepare import prepare
from signs_dist.training.subject_of_run import find_subject
from tests.processes import run, train_command
from tests.sets import small_run, write_colour_set
from tests.shared import shared_folder
from tests.training.parts import make_process

pytestmark = pytest.mark.slow

NUM_STEPS = 3
"""Of an epoch; the run has two epochs, and saves by steps at 2, 4 and 6."""


def settings(root: Path) -> list[str]:
    kept = ("checkpoint.every_steps=2", "checkpoint.keep=1", "checkpoint.keep_every_epochs=1", "log.every_steps=1")
    more = ("exact=true", "optim.name=adamw", "optim.lr=0.003", "data.storage=files", "log.report=false", *kept)
    return small_run(root, *more, epochs=2, global_batch=8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, and `run`, which one process trained without an interruption; for all workers."""
    with shared_folder(tmp_path_factory, "a run with a chain") as folder:
        if not (folder / "run" / "result.json").exists():
            root = write_colour_set(folder / "set", counts={"train": 8, "val": 2})
            ended = run(train_command("--run-dir", "run", *settings(root)), folder)
            assert ended.code == 0, ended.err
    return folder


def state_lines(folder: Path) -> list[StateLine]:
    return of_kind(RunFolder(folder).read_metrics(), StateLine)


def test_the_chain_of_one_process_is_that_of_more_and_of_a_run_that_was_killed(place: Path, tmp_path: Path) -> None:
    expected = state_lines(place / "run")
    assert [line.step for line in expected] == [2, 3, 4, 6]
    arguments = settings(place / "set")
    launch = [sys.executable, "-m", "launch.local", "--nproc"]
    ended = run([*launch, "3", "--", "--run-dir", "three", *arguments], tmp_path)
    assert ended.code == 0, ended.err
    assert state_lines(tmp_path / "three") == expected
    # The third file is whole when the process is killed, and its state has no line yet.
    killed = [sys.executable, "-m", "signs_dist.rehearsal.kill_in_save", "after rename", "3", "killed_file"]
    assert run([*killed, "signs_dist.train", "--run-dir", "two", *arguments], tmp_path).code == -9
    assert [line.step for line in state_lines(tmp_path / "two")] == [2, 3]
    ended = run([*launch, "2", "--", "--run-dir", "two", *arguments, "train.shard_optimizer=true"], tmp_path)
    assert ended.code == 0, ended.err
    assert state_lines(tmp_path / "two") == expected
    assert check_chain(RunFolder(tmp_path / "two").read_metrics()) == []


def find_problems(folder: Path) -> list[str]:
    """All that the chain of a run shows, with the states of its checkpoints and what its config names now."""
    files = CheckpointStore(folder / "checkpoints").files()
    states = {
        cursor.epoch * NUM_STEPS + cursor.step: state_sha256(torch.load(path, weights_only=True))
        for cursor, path in files
    }
    process = make_process()
    with arithmetic_kept():
        subject = find_subject(prepare(load_saved_config(folder / "config.yaml"), process), process)
    return check_chain(RunFolder(folder).read_metrics(), states=states, subject=subject.sha256)


def change_checkpoint(change: Callable[[dict[str, Any]], torch.Tensor]) -> Callable[[Path], None]:
    """Flip the lowest bit of a tensor in the checkpoint of epoch 1, and make its SHA-256 fit."""

    def tamper(folder: Path) -> None:
        path = folder / "run" / "checkpoints" / "epoch-0001.pt"
        content = read_checkpoint(path)
        change(content).view(-1)[0:1].view(torch.uint8)[0] ^= 1
        torch.save(content, path)
        digest_path(path).write_text(f"{file_sha256(path)}  {path.name}\n")

    return tamper


def change_line(kind: str, step: int, **values: object) -> Callable[[Path], None]:
    """Change a line of metrics.jsonl, or delete it."""

    def tamper(folder: Path) -> None:
        file = folder / "run" / "metrics.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        number = next(n for n, line in enumerate(lines) if (line["kind"], line["step"]) == (kind, step))
        lines[number : number + 1] = [lines[number] | values] if values else []
        write_text(file, "".join(json.dumps(line) + "\n" for line in lines))

    return tamper


def change_config(folder: Path) -> None:
    file = folder / "run" / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.003", "lr: 0.004"))


def change_photo(folder: Path) -> None:
    photo = sorted((folder / "set" / "train_signs").iterdir())[5]
    content = bytearray(photo.read_bytes())
    content[-1] ^= 1
    photo.write_bytes(content)


@pytest.mark.parametrize(
    ("tamper", "told"),
    [
        (lambda folder: None, ""),
        (change_checkpoint(lambda content: content["model"]["head.weight"]), "step 3: the checkpoint's state is "),
        (change_checkpoint(lambda content: content["ema"]["weights"]["head.bias"]), "step 3: the checkpoint's state"),
        (
            change_checkpoint(lambda content: content["optimizer"]["state"][0]["exp_avg"]),
            "step 3: the checkpoint's state is ",
        ),
        (change_line("step", 2, train_loss=1.0), "step 2: the chain breaks, the numbers or the state up to step 2"),
        (change_line("epoch", 3, val_accuracy=1.0), "step 3: the chain breaks, the numbers or the state after step 2"),
        (change_line("state", 4, state="0" * 64), "step 4: the chain breaks"),
        (change_line("state", 4, chain="0" * 64), "step 4: the chain breaks"),
        (change_line("state", 4), "step 6: the chain breaks, the numbers or the state after step 3, up to step 6"),
        (change_line("state", 6), "step 6: an epoch ended, and no line tells of its state"),
        (change_config, "step 6: config, data and code now are "),
        (change_photo, "step 6: config, data and code now are "),
    ],
)
def test_whatever_is_changed_is_named(place: Path, tmp_path: Path, tamper: Callable[[Path], None], told: str) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    shutil.copytree(place / "set", tmp_path / "set", ignore=shutil.ignore_patterns("cache"))
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(place / "set"), str(tmp_path / "set")))
    names = {path.name for _, path in CheckpointStore(tmp_path / "run" / "checkpoints").files()}
    assert names == {"epoch-0001.pt", "epoch-0002.pt"}  # the milestones
    tamper(tmp_path)
    problems = find_problems(tmp_path / "run")
    if told:
        assert problems[0].startswith(told), problems
    else:
        assert problems == []
