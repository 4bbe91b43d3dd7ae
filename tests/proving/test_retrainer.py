"""Training again what runs of many kinds did: early ends, best weights, saves within epochs, thaws, photos as files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import save
from signs_dist.config.reading import load_saved_config
from signs_dist.files import write_text
from signs_dist.proving.claim import open_run
from signs_dist.proving.proof import Wishes, prove
from signs_dist.proving.retrainer import look_at
from signs_dist.retraining.recorded_run import State
from signs_dist.run_folder.digest import digest_path, file_sha256
from signs_dist.run_folder.records import StateLine, of_kind
from tests.proving.tampering import NUM_STEPS, train_a_run

KINDS = {
    "an early end, the best weights, saves within epochs": (
        "train.patience=1",
        "train.final_weights=best",
        "evaluate.best_by=loss",
        "optim.lr=0.5",
        "checkpoint.every_steps=2",
        "checkpoint.keep=99",
    ),
    "a thaw, a sharded optimizer, no average": (
        "ema.decay=null",
        "model.freeze=backbone",
        "model.thaw_after_epochs=2",
        "train.shard_optimizer=true",
    ),
    "photos as files, two milestones, a validation now and then": (
        "data.storage=files",
        "checkpoint.keep_every_epochs=2",
        "evaluate.every_epochs=3",
        "log.every_steps=2",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_many_kinds_pass(tmp_path: Path, kind: str) -> None:
    run = train_a_run(tmp_path, *KINDS[kind])
    told: list[str] = []
    verdict = prove(open_run(run), Wishes(is_all=True), told.append)
    assert verdict.word == "PASS", told
    assert verdict.text.endswith("and its result: scores and weights.")
    assert prove(open_run(run), Wishes(number=1, seed=2), told.append).word == "PASS", (
        told
    )  # from a state that was read


def test_a_run_that_went_on_with_another_validation_is_compared_from_there_on(tmp_path: Path) -> None:
    """The numbers of validations before depend on settings that the run folder no longer has."""
    run = train_a_run(tmp_path, "evaluate.batch=1")
    for path in [*(run / "checkpoints").glob("epoch-000[34]*"), run / "result.json"]:
        path.unlink()
    shutil.rmtree(tmp_path / "colours")
    train_a_run(tmp_path, "evaluate.batch=4")
    told: list[str] = []
    verdict = prove(open_run(run), Wishes(is_all=True), told.append)
    assert verdict.text.startswith("PASS: 2 of 4 segments, 6 of 12 steps")
    assert any(line.startswith("cannot be compared: steps 1 to 6, epochs 1 to 2: the run went on") for line in told)


def test_a_checkpoint_is_looked_at_as_the_chain_tells_of_it(tmp_path: Path) -> None:
    run = train_a_run(tmp_path, "train.epochs=1")
    (line,) = of_kind(open_run(run).lines, StateLine)
    path = run / "checkpoints" / "epoch-0001.pt"
    state, config = State(Cursor(1, 0), NUM_STEPS, path), load_saved_config(run / "config.yaml")
    kept = look_at(state, config)
    assert (kept.state, kept.damage, kept.name) == (line.state, "", "epoch-0001.pt")
    assert kept.resumes_optimizer
    content = read_checkpoint(path)
    content["config"]["optim"]["name"] = "lion"  # the momentum would be left out
    save(path, content)
    write_text(digest_path(path), f"{file_sha256(path)}  {path.name}\n")
    forged = look_at(state, config)
    assert (forged.state, forged.resumes_optimizer) == (line.state, False)
    digest_path(path).unlink()
    kept = look_at(state, config)
    assert (kept.state, kept.parts) == ("", None)
    assert "epoch-0001.pt.sha256 does not exist" in kept.damage
