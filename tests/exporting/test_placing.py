"""The folder of an export appears whole, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.exporting import placing
from signs_dist.exporting.placing import default_out, placed, require_free
from tests.data.photo_files import write_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_files(
        tmp_path,
        {
            "runs/a/config.yaml": b"",
            "export/model.onnx": b"",
            "export/README.md": b"",
            "mine/notes.txt": b"",
            "mine2/model.onnx": b"",  # no model card: of somebody else
            "file": b"",
        },
    )


@pytest.mark.parametrize(
    ("out", "force", "told"),
    [
        ("new", False, ""),
        ("new/deep", False, ""),
        ("empty", False, ""),
        ("export", True, ""),
        ("export", False, "--out export holds an export. To replace it, add --force; or choose another name."),
        ("mine", True, "--out mine exists and holds other files."),
        ("mine2", True, "--out mine2 exists and holds other files."),
        ("file", True, "--out file is not a folder."),
        ("file/x", False, "cannot write file/x: Not a directory"),
        ("runs/a", True, "--out runs/a is inside the run folder"),
        ("runs/a/x", False, "--out runs/a/x is inside the run folder"),
        ("runs/../runs/a/x", False, "is inside the run folder"),
        ("/proc/x", False, "cannot make /proc/x"),
    ],
)
def test_where_an_export_may_be_written(folder: Path, out: str, force: bool, told: str) -> None:
    (folder / "empty").mkdir()
    if not told:
        require_free(Path(out), Path("runs/a"), force=force)
        return
    with pytest.raises(UserError) as caught:
        require_free(Path(out), Path("runs/a"), force=force)
    assert told in str(caught.value)


def test_the_name_without_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_out(Path("runs/a"), "onnx") == Path("exports/a-onnx")
    monkeypatch.chdir(folder / "runs/a")
    assert default_out(Path(), "torch") == Path("exports/a-torch")


@pytest.mark.parametrize("out", ["new/deep", "empty", "export"])
def test_a_folder_takes_its_place(folder: Path, out: str) -> None:
    (folder / "empty").mkdir()
    before = {path.name for path in folder.iterdir()}
    with placed(Path(out)) as aside:
        (aside / "model.pt2").write_bytes(b"new")
        assert not Path(out, "model.pt2").exists()
    assert [path.name for path in Path(out).iterdir()] == ["model.pt2"]
    assert {path.name for path in folder.iterdir()} == before | {out.partition("/")[0]}
    mask = os.umask(0)
    os.umask(mask)
    assert Path(out).stat().st_mode & 0o777 == 0o777 & ~mask


@pytest.mark.parametrize("out", ["new/deep", "export"])
@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (KeyError("x"), KeyError, "x"),
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "no space left while writing"),
    ],
)
def test_after_an_error_nothing_has_changed(
    folder: Path, out: str, error: Exception, kind: type[Exception], told: str
) -> None:
    before = sorted(folder.rglob("*"))

    def write_a_part() -> None:
        with placed(Path(out)) as aside:
            (aside / "model.pt2").write_bytes(b"half")
            raise error

    with pytest.raises(kind, match=told):
        write_a_part()
    assert sorted(folder.rglob("*")) == before


def test_what_a_killed_export_left_is_removed_by_the_next(folder: Path) -> None:
    left = [folder / ".new.abcdefgh.part", folder / ".new.abcdefgh.old"]
    others = [folder / ".new.other.abcdefgh.part", folder / ".new.part", folder / ".new.running0.part"]
    for each in (*left, *others):
        each.mkdir()
        (each / "model.pt2").write_bytes(b"half")
    (folder / ".new.filefile.part").write_bytes(b"of another command")
    with placing._locked(others[-1]) as is_held:  # by an export that runs
        assert is_held
        with placed(Path("new")) as aside:
            (aside / "model.pt2").write_bytes(b"new")
            assert all(each.is_dir() for each in left)
    assert not any(each.exists() for each in left)
    assert all(each.is_dir() for each in others)
    assert (folder / ".new.filefile.part").is_file()
    with placed(Path("new")):
        pass
    assert not others[-1].exists()


def test_a_file_system_without_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    (folder / ".new.abcdefgh.part").mkdir()
    with placed(Path("new")):
        pass
    assert (folder / "new").is_dir()
    assert (folder / ".new.abcdefgh.part").is_dir()
