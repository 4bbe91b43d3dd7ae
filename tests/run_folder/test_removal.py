from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder import removal
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lease import Lease
from signs_dist.run_folder.removal import (
    find_runs_within,
    freed_bytes,
    has_checkpoints,
    is_partly_removed,
    remove_checkpoints,
    remove_run,
    removing_path,
)
from tests.results.runs import hold, hold_dead, make_finished, make_run

HOST = os.uname().nodename


def remove(path: Path, takeover_seconds: float = 30.0) -> None:
    remove_run(path, host=HOST, takeover_seconds=takeover_seconds)


def test_a_run_is_removed_and_nothing_else(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.jpg").touch()
    run = make_finished(tmp_path / "runs" / "a")
    (run / "photos").symlink_to(photos)
    make_finished(tmp_path / "runs" / "b")
    remove(run)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["b"]
    assert (photos / "1.jpg").exists()


def test_a_link_is_removed_and_its_run_stays(tmp_path: Path) -> None:
    run = make_finished(tmp_path / "a")
    (tmp_path / "latest").symlink_to(run)
    remove(tmp_path / "latest")
    assert list(tmp_path.iterdir()) == [run]
    assert (run / "config.yaml").exists()


def test_a_run_that_works_is_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    hold(run)
    with pytest.raises(UserError, match=r"is in use by process"):
        remove(run)
    with pytest.raises(UserError, match=r"is in use by process"):
        remove_checkpoints(run, host=HOST, takeover_seconds=30.0)
    assert (run / "checkpoints").is_dir()
    hold_dead(run)
    remove(run)
    assert not run.exists()


def test_a_run_elsewhere_that_gives_a_sign_of_life_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "a")
    lease = hold(run, elsewhere=True)
    os.utime(lease, (1, 1))  # old, so it is watched for a while: and is touched meanwhile
    monkeypatch.setattr("signs_dist.run_folder.lease.time.sleep", lambda seconds: os.utime(lease))
    with pytest.raises(UserError, match=r"is in use by process .* on node7"):
        remove(run, takeover_seconds=0.5)
    assert (run / "config.yaml").exists()


def test_a_run_elsewhere_that_is_gone_is_removed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    lease = hold(run, elsewhere=True)
    os.utime(lease, (1, 1))
    remove(run, takeover_seconds=0.1)
    assert not run.exists()


def test_no_run_can_begin_while_a_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "a")
    tried = []
    real = Path.rename

    def begin_and_rename(path: Path, target: Path) -> Path:
        if path == run:
            with pytest.raises(UserError, match="is in use"):
                Lease.acquire(run, host=HOST, pid=os.getpid(), takeover_seconds=30.0)
            tried.append(path)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", begin_and_rename)
    remove(run)
    assert tried == [run]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_removal_is_recognised_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "a")

    def interrupt(path: Path) -> None:
        (path / "config.yaml").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            remove(run)
    (left,) = tmp_path.iterdir()
    assert left.name == "a.removing"
    assert is_partly_removed(left)
    make_run(run)  # a run of the same name may begin
    assert removing_path(run).name == "a.removing-2"
    remove(left)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_checkpoints_alone(tmp_path: Path) -> None:
    run = make_finished(tmp_path / "a")
    (run / "checkpoints" / "last.pt").write_bytes(b"x" * 9000)
    (run / "checkpoints.removing").mkdir()  # left by an interruption
    assert has_checkpoints(run)
    remove_checkpoints(run, host=HOST, takeover_seconds=30.0)
    assert not has_checkpoints(run)
    assert list((run / "checkpoints").iterdir()) == []
    assert not (run / "checkpoints.removing").exists()
    assert RunFolder(run).is_finished
    assert not (run / "lease.json").exists()


def test_on_a_full_disk_a_run_can_be_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise UserError("no space left") from OSError(errno.ENOSPC, "No space left on device")

    run = make_run(tmp_path / "a")
    monkeypatch.setattr(removal.Lease, "acquire", refuse)
    hold(run)
    with pytest.raises(UserError, match="has a lease, and the disk is too full to take it"):
        remove(run)
    (run / "lease.json").unlink()
    remove(run)
    assert not run.exists()


def test_what_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{path}/model.pt")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    run = make_run(tmp_path / "a")
    with pytest.raises(UserError, match=r"cannot remove .*a\.removing/model\.pt: Permission denied"):
        remove(run)


def test_the_space_that_is_freed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    before = freed_bytes([run])
    (run / "checkpoints" / "epoch-0001.pt").write_bytes(b"x" * 40_960)
    os.link(run / "checkpoints" / "epoch-0001.pt", run / "checkpoints" / "best.pt")  # counts once
    outside = tmp_path / "outside.pt"
    outside.write_bytes(b"x" * 40_960)
    os.link(outside, run / "checkpoints" / "other.pt")  # stays on the disk
    (run / "photos").symlink_to(outside)
    assert 40_960 <= freed_bytes([run]) - before < 50_000
    assert freed_bytes([run, tmp_path / "outside.pt"]) - before >= 81_920
    assert freed_bytes([tmp_path / "nothing"]) == 0
    (tmp_path / "link").symlink_to(run)  # the run stays
    assert freed_bytes([tmp_path / "link"]) < 40_960


def test_runs_within_a_run_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    assert find_runs_within(run) == []
    inner = make_run(run / "more" / "b")
    (inner / "attempts.jsonl").touch()
    assert find_runs_within(run) == [inner]
