"""Checkpoints that a run finds in its folder and did not write."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.checkpointing.store import CheckpointStore, Cursor
from signs_dist.run_folder.digest import digest_path
from tests.checkpointing.stored import content, content_of, names, number_in, put, write


def foreign(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.foreign")}


def test_a_run_that_begins_keeps_none_of_what_was_there(tmp_path: Path) -> None:
    write(tmp_path, range(3, 6), keep=9, best=4)
    store = CheckpointStore(tmp_path, 2)
    store.begin(None)
    assert names(tmp_path) == set()
    assert len(store.take_notes()) == 5  # three places, last.pt and best.pt
    assert store.take_notes() == []
    assert store.write(Cursor(4, 0), content_of(4, 9), None) > 0
    assert names(tmp_path) == {"epoch-0004.pt", "last.pt"}
    assert number_in(tmp_path / "epoch-0004.pt") == 9


def test_a_run_that_resumes_keeps_what_came_before(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6), keep=9)
    store = CheckpointStore(tmp_path, 9)
    store.begin(tmp_path / "epoch-0003.pt")
    assert foreign(tmp_path) == {"epoch-0004.pt.foreign", "epoch-0005.pt.foreign"}
    assert store.newest() == tmp_path / "epoch-0003.pt"
    assert number_in(tmp_path / "best.pt") == 1
    store.write(Cursor(4, 0), content_of(4, 8), Cursor(1, 0))
    assert [number_in(path) for _, path in store.files()] == [8, 3, 2, 1]


@pytest.mark.parametrize("number", [2, 5, 9])
def test_a_checkpoint_of_another_process_is_set_aside(tmp_path: Path, number: int) -> None:
    """Before, at, and after the place of the next save: it would count as this run's newest, or instead of the save."""
    store = CheckpointStore(tmp_path, 3)
    store.begin(None)
    for own in (1, 4):
        store.write(Cursor(own, 0), content(own), None)
    other = write(tmp_path / "other", range(number, number + 1), best=number)
    put(tmp_path, other.best.read_bytes(), number)
    store.write(Cursor(5, 0), content(5), None)
    assert [number_in(path) for _, path in store.files()] == [5, 4, 1]
    assert number_in(tmp_path / "last.pt") == 5
    path = tmp_path / f"epoch-{number:04}.pt"
    assert store.take_notes() == [
        f"{path} is a checkpoint that this run did not write. It was renamed to {path.name}.foreign."
    ]


def test_a_checkpoint_that_replaced_an_own_one_is_set_aside(tmp_path: Path) -> None:
    store = write(tmp_path, range(1, 3))
    put(tmp_path, (tmp_path / "epoch-0001.pt").read_bytes() + b"x", 2)
    store.write(Cursor(3, 0), content(3), None)
    assert foreign(tmp_path) == {"epoch-0002.pt.foreign"}


def test_a_digest_that_cannot_be_read_sets_nothing_aside(tmp_path: Path) -> None:
    store = write(tmp_path, range(1, 3))
    digest_path(tmp_path / "epoch-0002.pt").unlink()
    store.write(Cursor(3, 0), content(3), Cursor(1, 0))
    assert foreign(tmp_path) == set()


def test_a_loop_that_begins_again_is_not_overruled_by_its_earlier_files(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, 2)
    for step in (100, 200, 300):
        store.save({"step": step}, step=step)
    again = CheckpointStore(tmp_path, 2)
    with pytest.warns(UserWarning, match="is a checkpoint that this run did not write"):
        again.save({"step": 10}, step=10)
    again.save({"step": 20}, step=20)
    loaded = CheckpointStore(tmp_path, 2).load()
    assert loaded == {"step": 20}
    later = CheckpointStore(tmp_path, 2)
    later.save({"step": 30}, step=30)  # resumed: what came before stays
    assert [cursor.step for cursor, _ in later.files()] == [30, 20]
