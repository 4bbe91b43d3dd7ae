"""Training a run again from each of its states: the same weights, and not a byte of its folder changes."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest

import signs_dist as sd
from signs_dist.checkpointing.store import read_checkpoint
from signs_dist.checkpointing.tensors import weights_sha256
from signs_dist.errors import UserError
from signs_dist.learning.metrics import Score, to_host
from signs_dist.models.weights import named_weights
from signs_dist.retraining.again import Again, _changes_of_data, begin_again, config_again
from signs_dist.retraining.programs import run_here
from signs_dist.retraining.recorded_run import RecordedRun, read_recorded_run
from signs_dist.training.process import Process
from tests.retraining.test_recorded_run import copy_of
from tests.sets import small_run, write_colour_set


def train(folder: Path, *settings: str) -> Path:
    colours = write_colour_set(folder / "colours", counts={"train": 12, "val": 4, "test": 4})
    own = small_run(
        colours,
        "checkpoint.every_steps=3",
        "checkpoint.keep=9",
        "train.precision=float32",
        *settings,
        epochs=2,
        global_batch=8,
    )
    sd.fit(sd.load_config(None, own), run_dir=folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("exact"), "exact=true")


def digests(run: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in run.rglob("*")
        if path.is_file()
    }


def train_again(run: RecordedRun, first: int, last: int, **of_config: Any) -> tuple[str, Again]:
    """The digest of the weights after `last` steps, from the newest state with at most `first` steps."""
    config = config_again(run, **of_config)
    kept: list[Again] = []

    def work(process: Process) -> dict[str, Any]:
        again = begin_again(config, process, run, run.newest_before(first)[0])
        assert list(again.train_until(last)) == list(range(run.newest_before(first)[0].steps_done + 1, last + 1))
        kept.append(again)
        again.close()
        return {"weights": weights_sha256(named_weights(again.stepper.state.model))}

    return run_here(config, work)["weights"], kept[0]


@pytest.mark.parametrize(("first", "last"), [(0, 3), (0, 8), (3, 4), (5, 6), (7, 8)])
def test_from_any_state_to_any_later_one_the_weights_are_those_of_the_run(exact: Path, first: int, last: int) -> None:
    before = digests(exact)
    run = read_recorded_run(exact)
    found, again = train_again(run, first, last)
    expected, _ = run.newest_before(last)
    assert expected.steps_done == last
    assert expected.path is not None
    assert found == weights_sha256(read_checkpoint(expected.path)["model"])
    assert (again.same_images, again.same_bits, again.differences) == (True, True, [])
    assert digests(exact) == before


def test_the_content_of_a_place_is_that_of_its_checkpoint(exact: Path) -> None:
    run = read_recorded_run(exact)
    _, again = train_again(run, 5, 6)
    state, _ = run.newest_before(6)
    assert state.path is not None
    saved, content = read_checkpoint(state.path), again.content()
    assert content["cursor"] == saved["cursor"] == {"epoch": 1, "step": 2}
    assert content["images"] == saved["images"]
    moments = [
        (entry["momentum_buffer"], content["optimizer"]["state"][number]["momentum_buffer"])
        for number, entry in saved["optimizer"]["state"].items()
        if "momentum_buffer" in entry
    ]
    assert all(one.equal(other) for one, other in moments)
    assert content["ema"]["num_updates"] == saved["ema"]["num_updates"] == 6


def test_the_sums_of_an_epoch_are_those_of_its_line(exact: Path) -> None:
    run = read_recorded_run(exact)
    _, again = train_again(run, 7, 8)  # its state has the sums of two steps
    line = [line for line in run.folder.read_metrics() if line.KEY[1] == "epoch"][-1]
    score = Score.from_sums(to_host(again.sums.tensors()))
    assert (score.loss, score.accuracy) == (line.train_loss, line.train_accuracy)  # type: ignore[union-attr]


def test_another_seed_gives_other_weights(exact: Path) -> None:
    run = read_recorded_run(exact)
    same, _ = train_again(run, 0, 2)
    other, _ = train_again(run, 0, 2, overrides=["seed=5"])
    assert same != other


def test_images_that_are_gone_are_refused_with_the_flag_that_names_their_place(exact: Path) -> None:
    run = read_recorded_run(exact)
    gone = dataclasses.replace(
        run,
        data={**run.data, "sources": ["/nowhere/signs"]},
        config=run.config.model_copy(update={"data": run.config.data.model_copy(update={"root": "nowhere"})}),
    )
    with pytest.raises(UserError, match=r"no longer in /nowhere/signs. Type --data PATH, where they lie now."):
        _changes_of_data(gone.config, gone, None)
    assert _changes_of_data(gone.config, gone, "elsewhere")["root"] == "elsewhere"
    assert "root" not in _changes_of_data(run.config, gone, None)  # where the config says, they still are


def test_own_code_that_is_not_here_is_told_with_the_folder_of_the_run(
    exact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run = dataclasses.replace(read_recorded_run(exact), working_folder=exact.parent)
    with pytest.raises(UserError, match=r"there is no module no_such_module.* The run was started in .*. Type cd /"):
        train_again(run, 0, 1, overrides=["model.name=no_such_module:make", "model.args={}"])


def test_photos_that_lie_elsewhere_or_differ_are_told(exact: Path, tmp_path: Path) -> None:
    moved = copy_of(exact.parent / "colours", tmp_path / "moved")
    run = read_recorded_run(exact)
    _, again = train_again(run, 0, 1, data=str(moved))
    assert again.same_images is True
    first = next((moved / "train_signs").glob("*.jpg"))
    first.write_bytes(next((moved / "val_signs").glob("*.jpg")).read_bytes())
    _, again = train_again(run, 0, 1, data=str(moved))
    assert again.same_images is False


def test_what_does_not_change_the_weights_is_left_out(exact: Path) -> None:
    config = config_again(read_recorded_run(exact), overrides=["log.samples=true"])
    assert (config.log.report, config.log.to, config.log.samples, config.train.shard_optimizer) == (
        False,
        (),
        False,
        False,
    )
    assert (config.train.micro_batch, config.train.precision) == (2, "float32")


def test_a_fast_run_trains_again_and_promises_nothing(tmp_path: Path) -> None:
    run = read_recorded_run(train(tmp_path))
    _, again = train_again(run, 3, 5)
    assert (again.same_images, again.same_bits) == (True, None)


def test_a_run_that_thaws_thaws_again(tmp_path: Path) -> None:
    settings = ["exact=true", "model.freeze=backbone", "model.thaw_after_epochs=1"]
    run = read_recorded_run(train(tmp_path, *settings))
    for first, last in ((0, 6), (5, 6), (7, 8)):
        found, _ = train_again(run, first, last)
        state, _ = run.newest_before(last)
        assert state.path is not None
        assert found == weights_sha256(read_checkpoint(state.path)["model"]), (first, last)
