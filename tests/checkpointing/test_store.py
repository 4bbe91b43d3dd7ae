"""Checkpoints on disk: after any damage or kill, the newest whole checkpoint is found."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from signs_dist.checkpointing.resume_rules import find_checkpoint, set_aside
from signs_dist.checkpointing.store import SUSPECT, CheckpointStore, Cursor, read_checkpoint
from signs_dist.errors import CheckpointError, SaveError, TrainingFailedError, UserError
from signs_dist.rehearsal.save_stages import STAGES, watching_saves
from signs_dist.run_folder.digest import digest_path, find_damage
from signs_dist.run_folder.suspects import Suspicion
from tests.checkpointing.stored import content, names, number_in, put, write
from tests.checkpointing.test_tensors import Evil

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def in_child(action: Callable[[], None]) -> int:
    """Run an action in a new process; returns its exit code as `os.waitstatus_to_exitcode`.

    Make tensors before: torch's threads do not exist after a fork, and a large tensor would wait for them.
    """
    pid = os.fork()
    if pid == 0:
        code = 1
        signal.alarm(60)
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_newest_and_the_best_are_kept_each_with_its_digest(tmp_path: Path) -> None:
    write(tmp_path, range(1, 6), keep=2, best=2)
    assert names(tmp_path) == {"epoch-0002.pt", "epoch-0004.pt", "epoch-0005.pt"} | {
        "best.pt",
        "last.pt",
    }
    assert (number_in(tmp_path / "best.pt"), number_in(tmp_path / "last.pt")) == (2, 5)
    assert len(list(tmp_path.iterdir())) == 10
    assert not list(tmp_path.glob(".*"))
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", *sorted(path.name for path in tmp_path.glob("*.sha256"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(": OK") == 5


def test_a_saved_place_is_not_written_again(tmp_path: Path) -> None:
    store = write(tmp_path, range(1, 3))
    assert store.write(Cursor(2, 0), content(9), Cursor(1, 0)) == 0
    assert number_in(tmp_path / "last.pt") == 2
    (tmp_path / "epoch-0002.pt").write_bytes(b"broken")
    assert store.write(Cursor(2, 0), content(9), Cursor(1, 0)) > 0
    assert number_in(tmp_path / "last.pt") == 9


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_stage_of_a_save(tmp_path: Path, stage: str) -> None:
    write(tmp_path, range(1, 5))  # 1 is the best, and 3 and 4 the newest

    made = content(5)

    def save_and_die() -> None:
        def die_at(reached: str) -> None:
            if reached == stage:
                os.kill(os.getpid(), signal.SIGKILL)

        with watching_saves(die_at):
            CheckpointStore(tmp_path, 2).write(Cursor(5, 0), made, Cursor(1, 0))

    assert in_child(save_and_die) == -signal.SIGKILL
    store = CheckpointStore(tmp_path, 2)
    found = find_checkpoint(store, has_saved=True)
    assert found.notes == ()  # no file was broken
    assert found.path is not None
    is_renamed = STAGES.index(stage) >= STAGES.index("after rename")
    assert number_in(found.path) == (5 if is_renamed else 4)
    assert number_in(tmp_path / "best.pt") == 1
    assert find_damage(tmp_path / "best.pt") == ""
    assert find_damage(tmp_path / "last.pt") == ""
    assert not list(tmp_path.glob(".*"))
    assert all(digest_path(path).exists() for path in tmp_path.glob("*.pt"))
    # And the run resumes from there.
    store.write(Cursor(6, 0), content(6), Cursor(1, 0))
    assert number_in(tmp_path / "last.pt") == 6
    assert "epoch-0001.pt" in names(tmp_path)


def test_a_kill_while_the_second_names_are_written(tmp_path: Path) -> None:
    """`last.pt` is for people: resuming uses the files with a place in their names."""
    write(tmp_path, range(1, 3))
    digest_path(tmp_path / "last.pt").write_text("0" * 64 + "  last.pt\n")
    found = find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=True)
    assert found.path == tmp_path / "epoch-0002.pt"


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, bytes]:
    """A folder with checkpoints 1 and 2, and the bytes of 2."""
    write(tmp_path, range(1, 3))
    return tmp_path, (tmp_path / "epoch-0002.pt").read_bytes()


def assert_falls_back(folder: Path, damaged: bytes) -> None:
    newest = folder / "epoch-0002.pt"
    good_digest = digest_path(newest).read_text()
    newest.unlink(missing_ok=True)  # last.pt is the same file by another name
    newest.write_bytes(damaged)
    store = CheckpointStore(folder, 2)
    found = find_checkpoint(store, has_saved=True)
    assert found.path == folder / "epoch-0001.pt"
    assert found.notes == (
        f"{newest} is broken: its SHA-256 differs from the SHA-256 beside it.",
        f"the checkpoint before it is whole: {found.path}",
    )
    assert newest.exists()  # nothing is renamed before the run resumes
    assert set_aside(store, [newest]) == ["epoch-0002.pt was renamed to epoch-0002.pt.broken"]
    assert not newest.exists()
    (folder / "epoch-0002.pt.broken").unlink()
    digest_path(folder / "epoch-0002.pt.broken").unlink()
    digest_path(newest).write_text(good_digest)


def test_every_byte_of_the_header_matters(two: tuple[Path, bytes]) -> None:
    folder, good = two
    # A zip file's first local header with its name and padding, up to the first record's bytes.
    header = good.index(b"\x80\x02}")  # the pickle of a dict begins
    assert 30 < header < 200
    for place in range(header):
        assert_falls_back(folder, good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :])


def test_random_bytes_of_the_body_matter(two: tuple[Path, bytes]) -> None:
    folder, good = two
    choose = random.Random(0)
    for _ in range(200):
        place, change = choose.randrange(100, len(good)), choose.randrange(1, 256)
        assert_falls_back(folder, good[:place] + bytes([good[place] ^ change]) + good[place + 1 :])


def test_missing_and_added_bytes_matter(two: tuple[Path, bytes]) -> None:
    folder, good = two
    for length in [0, 1, len(good) - 1, *random.Random(1).sample(range(2, len(good) - 1), 47)]:
        assert_falls_back(folder, good[:length])
    assert_falls_back(folder, good + b"\0")


@pytest.mark.parametrize("digest", [None, "", "nothing\n", "0" * 64 + "  epoch-0002.pt\n"])
def test_a_digest_that_is_missing_or_wrong(two: tuple[Path, bytes], digest: str | None) -> None:
    folder, _ = two
    path = digest_path(folder / "epoch-0002.pt")
    path.unlink()
    if digest is not None:
        path.write_text(digest)
    found = find_checkpoint(CheckpointStore(folder, 2), has_saved=True)
    assert found.path == folder / "epoch-0001.pt"
    assert "epoch-0002.pt is broken: " in found.notes[0]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    write(tmp_path, range(1, 2))
    mark = tmp_path / "ran"
    torch.save({**content(2), "model": Evil(mark)}, tmp_path / "evil.pt")
    path = put(tmp_path, (tmp_path / "evil.pt").read_bytes())
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        read_checkpoint(path)
    found = find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=True)
    assert found.path == tmp_path / "epoch-0001.pt"
    assert not mark.exists()


def test_other_files_are_named(tmp_path: Path) -> None:
    torch.save({"model": {}, "format": 2}, tmp_path / "other.pt")
    path = put(tmp_path, (tmp_path / "other.pt").read_bytes())
    with pytest.raises(CheckpointError, match="no checkpoint of a run: it has no optimizer, cursor, config"):
        read_checkpoint(path)


def test_no_whole_checkpoint_is_an_error(tmp_path: Path) -> None:
    assert find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=False).path is None
    with pytest.raises(UserError, match=rf"none is whole: {tmp_path} holds no checkpoint\. Restore one"):
        find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=True)
    put(tmp_path, b"rubbish")
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=False)


def limited(num_bytes: int, action: Callable[[], None]) -> Callable[[], None]:
    """The action, in a process that cannot write larger files."""

    def act() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
        action()

    return act


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))

    made = content(3, 100_000)

    def save() -> None:
        path = tmp_path / "epoch-0003.pt"
        with pytest.raises(SaveError) as caught:
            CheckpointStore(tmp_path, 2).write(Cursor(3, 0), made, Cursor(1, 0))
        assert str(caught.value).startswith(f"cannot write {path}: File too large. This session limits a file")
        assert re.search(r"A checkpoint needs 80\d,", str(caught.value))  # 400,000 of them are weights

    assert in_child(limited(50_000, save)) == 0
    assert not list(tmp_path.glob(".*"))
    found = find_checkpoint(CheckpointStore(tmp_path, 2), has_saved=True)
    assert found.path is not None
    assert (number_in(found.path), number_in(tmp_path / "last.pt")) == (2, 2)


def test_a_disk_that_returns_other_bytes_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))

    def spoil(stage: str) -> None:
        if stage == "after rename":
            path = tmp_path / "epoch-0003.pt"
            path.write_bytes(path.read_bytes()[:-1] + b"?")

    store = CheckpointStore(tmp_path, 2)
    with (
        watching_saves(spoil),
        pytest.raises(SaveError, match="differs when read back: its SHA-256 differs from the SHA-256 beside it"),
    ):
        store.write(Cursor(3, 0), content(3), Cursor(1, 0))
    assert names(tmp_path) >= {f"epoch-000{number}.pt" for number in (1, 2)}


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError

    monkeypatch.setattr("signs_dist.checkpointing.store.os.link", refuse)
    write(tmp_path, range(1, 4))
    assert (number_in(tmp_path / "best.pt"), number_in(tmp_path / "last.pt")) == (1, 3)
    assert find_damage(tmp_path / "last.pt") == ""


def test_any_plain_content_is_saved_and_loaded_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    store = CheckpointStore(str(tmp_path / "own"))
    assert store.load() is None
    network = torch.nn.BatchNorm1d(2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in range(1, 6):
        network(torch.ones(2, 2) * step).sum().backward()
        optimizer.step()
        saved = {"net": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "note": ("a", None)}
        path = store.save(saved, step=step, is_best=step == 2)
        assert path == tmp_path / "own" / f"epoch-0001-step-00000{step}.pt"
    content = CheckpointStore(tmp_path / "own").load()
    assert content is not None
    assert (content["step"], content["note"]) == (5, ("a", None))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in content["net"].items())
    optimizer.load_state_dict(content["optimizer"])
    assert [cursor.step for cursor, _ in store.files()] == [5, 4, 3]
    assert torch.load(store.best, weights_only=True)["step"] == 2  # kept, though its own name was rotated away


def test_a_broken_checkpoint_is_passed_over_with_a_warning(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for step in (1, 2):
        store.save({"value": torch.tensor(step)}, epoch=3, step=step)
    newest, before = (path for _, path in store.files())
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"step-000002.pt is broken: .*step-000001.pt is loaded instead"):
        content = store.load()
    assert content is not None
    assert content["value"].item() == 1
    before.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"):
        store.load()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"net": torch.nn.Linear(1, 1)}, r"content\['net'\] is a Linear"),
        ({"best": {"loss": np.float64(1)}}, r"content\['best'\]\['loss'\] is a float64"),
        ({"seen": [1, {2}]}, r"content\['seen'\]\[1\] is a set"),
    ],
)
def test_a_value_that_could_not_be_loaded_is_refused_when_it_is_saved(
    tmp_path: Path, content: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        CheckpointStore(tmp_path).save(content, step=1)
    assert list(tmp_path.iterdir()) == []


def test_the_best_gets_its_name_also_after_a_kill_between_its_two_names(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3), best=1)
    store = CheckpointStore(tmp_path, 2)
    store.begin(tmp_path / "epoch-0002.pt")
    assert number_in(tmp_path / "best.pt") == 1
    store.write(Cursor(3, 0), content(3), Cursor(2, 0))  # 2 was the best, and the kill came before it was named
    assert number_in(tmp_path / "best.pt") == 2


@pytest.mark.parametrize("stage", ["open", "flushed", "before rename"])
def test_a_checkpoint_gets_no_name_once_the_folder_is_lost(tmp_path: Path, stage: str) -> None:
    lost = []

    def require_held() -> None:
        if lost:
            raise TrainingFailedError("another run has taken over")

    store = CheckpointStore(tmp_path, 2, require_held=require_held)
    store.write(Cursor(1, 0), content(1), None)
    with (
        watching_saves(lambda reached: lost.append(reached) if reached == stage else None),
        pytest.raises(TrainingFailedError),
    ):
        store.write(Cursor(2, 0), content(2), None)
    with pytest.raises(TrainingFailedError):
        store.write(Cursor(3, 0), content(3), None)
    assert names(tmp_path) == {"epoch-0001.pt", "last.pt"}
    assert number_in(tmp_path / "last.pt") == 1


def test_another_format_is_refused_and_renames_nothing(tmp_path: Path) -> None:
    store = write(tmp_path, range(1, 2))
    torch.save(content(2) | {"format": 999}, tmp_path / "newer.pt")
    path = put(tmp_path, (tmp_path / "newer.pt").read_bytes())
    with pytest.raises(UserError, match=r"epoch-0002\.pt has format 999, .* reads format 2\. Resume with the release"):
        find_checkpoint(store, has_saved=True)
    assert path.exists()


@pytest.mark.parametrize(
    ("clean", "found_name", "suspects"),
    [
        ((5, 0), "epoch-0004.pt", []),
        ((3, 1), "epoch-0003.pt", ["epoch-0004.pt"]),
        ((2, 0), "epoch-0002.pt", ["epoch-0004.pt", "epoch-0003.pt"]),
        (None, None, ["epoch-0004.pt", "epoch-0003.pt", "epoch-0002.pt"]),
    ],
)
def test_states_that_may_hold_wrong_results_are_not_resumed_from(
    tmp_path: Path, clean: tuple[int, int] | None, found_name: str | None, suspects: list[str]
) -> None:
    for number in (2, 3, 4):
        CheckpointStore(tmp_path, 3).write(Cursor(number, 0), content(number), None)
    store = CheckpointStore(tmp_path, 3)
    found = find_checkpoint(store, has_saved=True, suspicion=Suspicion(99, "rank 1 is faulty.", clean))
    assert (found.path.name if found.path is not None else None) == found_name
    assert [path.name for path in found.suspects] == suspects
    assert [note.startswith("rank 1 is faulty. Saved after") for note in found.notes] == [True] * bool(suspects)
    set_aside(store, found.suspects, SUSPECT)
    assert sorted(path.name for path in tmp_path.glob("*.suspect")) == sorted(f"{name}.suspect" for name in suspects)


def test_the_newest_until_a_place(tmp_path: Path) -> None:
    write(tmp_path, range(1, 3))
    store = CheckpointStore(tmp_path, 2)
    for place, name in (
        (Cursor(2, 5), "epoch-0002.pt"),
        (Cursor(1, 9), "epoch-0001.pt"),
        (Cursor(0, 9), ""),
        (None, ""),
    ):
        path = store.newest_until(place)
        assert (path.name if path is not None else "") == name
