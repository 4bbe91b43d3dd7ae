"""Fast runs whose optimizer is spread over the processes by torch: the weights of runs where it is not."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.environment.process_table import find_descendants
from signs_dist.models.weights import read_plain
from signs_dist.training.fit import fit
from tests.processes import finish, run, started, wait_for
from tests.sets import small_run, write_colour_set

pytestmark = pytest.mark.slow

TWO = (sys.executable, "-m", "launch.local", "--nproc", "2", "--")


def weights_of(folder: Path) -> str:
    return str(json.loads((folder / "result.json").read_text())["weights_sha256"])


def test_a_run_that_is_killed_goes_on_to_the_weights_of_a_whole_optimizer(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 16, "val": 4})
    saved = ("train.num_threads=1", "log.every_steps=1", "checkpoint.every_steps=3", "log.report=false")
    settings = [*small_run(root, *saved, epochs=3, global_batch=8), "optim.name=adamw", "optim.lr=0.01"]
    whole = run([*TWO, "--run-dir", "whole", *settings], tmp_path)
    assert whole.code == 0, whole.err
    pieces = [*TWO, "--run-dir", "pieces", *settings, "train.shard_optimizer=true"]
    with started(pieces, tmp_path) as process:
        wait_for(tmp_path / "pieces" / "metrics.jsonl", '"step": 8,')
        for pid in (process.pid, *find_descendants(process.pid)):
            os.kill(pid, signal.SIGKILL)
        finish(process)
    assert not (tmp_path / "pieces" / "result.json").exists()
    ended = run(pieces, tmp_path)
    assert ended.code == 0, ended.err
    assert "attempt 2 resumes after" in ended.out
    assert weights_of(tmp_path / "pieces") == weights_of(tmp_path / "whole")
    states = [
        read_plain(tmp_path / name / "checkpoints" / "last.pt")["optimizer"]["state"] for name in ("pieces", "whole")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(
        entry.equal(states[1][number][name]) for number, state in states[0].items() for name, entry in state.items()
    )


def test_a_backbone_thaws_in_an_exact_run_with_a_state_for_frozen_parameters(tmp_path: Path) -> None:
    root = write_colour_set(tmp_path / "colours", counts={"train": 8, "val": 4})
    layers = ("model.freeze=backbone", "model.thaw_after_epochs=1", "ema.decay=0.9", "log.report=false")
    exact = ("exact=true", "train.micro_batch=4", "optim.name=adagrad", "optim.lr=0.01", *layers)
    settings = small_run(root, *exact, epochs=2, global_batch=8)
    fit(load_config(None, settings), tmp_path / "whole", quiet=True)
    ended = run([*TWO, "--run-dir", "pieces", *settings, "train.shard_optimizer=true"], tmp_path)
    assert ended.code == 0, ended.err
    assert weights_of(tmp_path / "pieces") == weights_of(tmp_path / "whole")
    own = read_plain(tmp_path / "pieces" / "checkpoints" / "epoch-0001.pt")["optimizer"]["state"]
    assert len(own) == len(read_plain(tmp_path / "pieces" / "checkpoints" / "epoch-0002.pt")["optimizer"]["state"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("optim.name=own:Make",), "cuts tensors into pieces, which optim.name=own:Make may not step as it steps"),
        (
            ("exact=true", "train.micro_batch=8", "train.precision=float16"),
            "needs gradients that are not scaled. Set train.precision=bfloat16 or float32",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(settings: tuple[str, ...], message: str, tmp_path: Path) -> None:
    ended = run([sys.executable, "-m", "signs_dist.train", "train.shard_optimizer=true", *settings], tmp_path)
    assert ended.code == 2
    assert message in ended.err
