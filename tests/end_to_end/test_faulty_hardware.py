"""Real processes of an exact run, one of which gives a wrong result: who is named, and from where the run resumes."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import StateLine, of_kind
from tests.processes import REPOSITORY, Ended, run_ranks
from tests.sets import write_colour_set

SETTINGS = (
    *("exact=true", "train.micro_batch=2", "train.global_batch=8", "train.epochs=3", "data.image_size=16"),
    *("model.name=signs_net", "model.args={channels: 4}", "optim.name=sgd", "data.num_workers=0", "log.report=false"),
    *("check.recompute_every=3", "checkpoint.every_steps=1", "checkpoint.keep=1"),
)
"""12 steps, 4 an epoch."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "colours"
    write_colour_set(root, counts={"train": 12, "val": 4, "test": 4})
    return root


def train(photos: Path, run: Path, world_size: int, *settings: str, lie: str = "") -> list[Ended]:
    program = str(REPOSITORY / "tests" / "training" / "lying_program.py")
    data = (f"data.root={photos}", f"data.cache={photos.parent / 'cache'}")
    command = [sys.executable, program, "--run-dir", str(run), "--device", "cpu", *data, *SETTINGS, *settings]
    return run_ranks(world_size, command, photos.parent, {"LIE": lie} if lie else {})


def sha256_of(run: Path) -> str:
    result = RunFolder(run).read_result()
    assert result is not None
    return str(result["weights_sha256"])


def card_of(ended: list[Ended]) -> str:
    """The card, whose lines are put together; only rank 0 shows one."""
    assert [each.code for each in ended] == [1] * len(ended), "\n".join("\n".join(each.last_lines) for each in ended)
    assert "────" not in "".join(each.err for each in ended[1:])
    return " ".join(ended[0].err.split())


def test_a_wrong_weight_is_found_and_the_run_resumes_from_before_the_last_clean_check(
    photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    card = card_of(train(photos, run, 3, lie="1,7,weight"))
    trusted = run / "checkpoints" / "epoch-0002-step-000001.pt"
    assert "signs_dist: rank 1 of 3 failed" in card
    assert f"rank 1 on {socket.gethostname()} (cpu" in card
    assert (
        "got another result than the other processes from the same input: the weights and the optimizer's state, at"
        in card
    )
    assert f"A check without a difference came after the states up to step 5; the newest of them is {trusted}" in card
    assert json.loads((run / "logs" / "suspect.json").read_text())["clean"] == [1, 1]
    assert trusted.is_file(), "the rotation keeps it, although checkpoint.keep=1"
    newest = run / "checkpoints" / "epoch-0002.pt"
    assert newest.is_file()
    assert not list((run / "checkpoints").glob("epoch-0003*.pt")), "nothing is saved at the step of the check"

    resumed = train(photos, run, 2)
    assert [each.code for each in resumed] == [0, 0], resumed[0].last_lines
    told = " ".join(resumed[0].out.split())
    assert "resumes after epoch 2, step 1" in told
    assert f"So the run resumes from {trusted}." in told
    assert "epoch-0002.pt was renamed to epoch-0002.pt.suspect" in told
    assert not (run / "logs" / "suspect.json").exists()

    plain = train(photos, tmp_path / "plain", 1, "check.recompute_every=null")
    assert plain[0].code == 0, plain[0].last_lines
    assert sha256_of(run) == sha256_of(tmp_path / "plain")
    states, expected = (of_kind(RunFolder(path).read_metrics(), StateLine) for path in (run, tmp_path / "plain"))
    assert len(expected) == 12
    assert states == expected, "the chain of states is that of a run without checks and without a fault"


def test_a_wrong_gradient_is_found_before_any_check_was_clean(photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    card = card_of(train(photos, run, 3, lie="2,3,gradient"))
    assert "signs_dist: rank 2 of 3 failed" in card
    assert "got another result than the other processes from the same input: the gradient of micro-batch 3" in card
    assert "No check before it was without a difference: the same command begins again." in card
    ends = [json.loads(line) for line in (run / "attempts.jsonl").read_text().splitlines()]
    assert "rank 2" in ends[-1]["reason"]
