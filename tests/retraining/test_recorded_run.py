"""What a run folder tells about a run that is to be trained again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import signs_dist as sd
from signs_dist.checkpointing.store import Cursor
from signs_dist.errors import UserError
from signs_dist.retraining.recorded_run import BEGINNING, read_recorded_run
from tests.sets import small_run, write_colour_set


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    colours = write_colour_set(folder / "colours", counts={"train": 12, "val": 4, "test": 4})
    settings = small_run(
        colours, "exact=true", "checkpoint.every_steps=2", "train.precision=float32", epochs=2, global_batch=8
    )
    sd.fit(sd.load_config(None, settings), run_dir=folder / "run", quiet=True)
    return folder / "run"


def copy_of(run: Path, target: Path) -> Path:
    for path in [run, *run.rglob("*")]:
        other = target / path.relative_to(run)
        if path.is_dir():
            other.mkdir()
        else:
            other.write_bytes(path.read_bytes())
    return target


def test_it_tells_plan_states_and_processes(trained: Path) -> None:
    run = read_recorded_run(trained)
    assert (run.micro_batch, run.precision, run.world_size, run.num_steps) == (2, "float32", 1, 4)
    assert [cursor for cursor, _ in run.states] == [Cursor(1, 0), Cursor(1, 2), Cursor(2, 0)]
    assert set(run.fingerprints) == {"train", "val", "test"}
    assert run.arithmetic is not None
    assert run.arithmetic.digest
    assert run.result is not None
    assert run.result["steps"] == 8
    assert run.notes == ()


def test_a_manifest_of_an_earlier_release_tells_less_and_the_result_the_rest(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["plan"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    told = read_recorded_run(run)
    assert (told.micro_batch, told.precision, told.num_steps) == (2, "float32", 4)

    (run / "result.json").unlink()
    told = read_recorded_run(run)
    assert (told.micro_batch, told.precision, told.num_steps) == (2, "float32", 4)


@pytest.mark.parametrize(
    ("steps_done", "place"),
    [(8, Cursor(2, 0)), (7, Cursor(1, 2)), (6, Cursor(1, 2)), (5, Cursor(1, 0)), (3, Cursor(0, 0)), (0, Cursor(0, 0))],
)
def test_the_newest_state_before_a_step(trained: Path, steps_done: int, place: Cursor) -> None:
    state, notes = read_recorded_run(trained).newest_before(steps_done)
    assert (state.cursor, notes) == (place, [])
    assert state.steps_done == place.epoch * 4 + place.step


def test_a_broken_state_is_told_and_the_one_before_it_taken(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    with (run / "checkpoints" / "epoch-0002-step-000002.pt").open("r+b") as file:
        file.seek(200)
        file.write(b"\x00\x01\x02")
    state, notes = read_recorded_run(run).newest_before(7)
    assert state.cursor == Cursor(1, 0)
    assert [note for note in notes if "epoch-0002-step-000002.pt is broken" in note] == notes != []


def test_without_any_state_a_run_begins_at_its_beginning(trained: Path, tmp_path: Path) -> None:
    run = copy_of(trained, tmp_path / "run")
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert read_recorded_run(run).newest_before(7) == (BEGINNING, [])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        read_recorded_run(tmp_path)
