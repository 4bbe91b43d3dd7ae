"""Writing files whole or not at all: kills, full disks, permissions, several writers."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.files import explained, require_writable, write_json, write_text, written_aside
from tests.users import NOBODY, acting_as, folder_for_all, needs_root


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail_half_way() -> None:
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom signs_dist.files import written_aside\n"
        "with written_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")  # the killed writer's temporary file does no harm
    assert path.read_text() == "new"


def test_a_limit_on_files_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    code = (  # a limit fails in mid-write, as a full disk does, and needs no root
        "import resource, signal, sys\nfrom pathlib import Path\nfrom signs_dist.console.command import run_command\n"
        "from signs_dist.files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "sys.exit(run_command(lambda arguments: write_text(Path(arguments[0]), 'x' * 100_000), sys.argv[1:]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 2
    limit = "This session limits a file to 4,096 bytes (ulimit -f): raise it with ulimit."
    assert done.stderr == f"error: cannot write {path}: File too large. {limit}\n"
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_device_is_written_to_and_not_replaced() -> None:
    with pytest.raises(UserError, match="no space left while writing /dev/full"):
        write_text(Path("/dev/full"), "x")
    write_text(Path(os.devnull), "x")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_permissions_that_open_gives(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "a.txt", "x")
        now = os.umask(umask)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert now == umask


def test_a_reader_never_sees_half_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [letter * 50_000 for letter in "abcd"]
    write_text(path, texts[0])
    seen: list[str] = []

    def write(text: str) -> None:
        for _ in range(10):
            write_text(path, text)

    writers = [threading.Thread(target=write, args=(text,)) for text in texts]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(path.read_text())
    for writer in writers:
        writer.join()
    assert set(seen) <= set(texts)
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["a b.json", 'it\'s "quoted".json', "a\nb.json", "ü.json", "x" * 250, "ü" * 127])
def test_awkward_names_are_names(tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "new folder" / name, {"a": 1})
    assert json.loads((tmp_path / "new folder" / name).read_text()) == {"a": 1}


def test_json_is_utf8_and_takes_names_that_are_not(tmp_path: Path) -> None:
    value = {"name": "é …", "odd": os.fsdecode(b"\xff.jpg")}
    write_json(tmp_path / "a.json", value)
    assert "é …" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in ("file/a.txt", "file/deep/a.txt", "folder", "x" * 300):
        with pytest.raises(UserError, match=r"cannot write .* Choose a path that you may write to\."):
            write_text(tmp_path / path, "x")
    assert names_in(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EACCES, "cannot write"),
        (errno.EROFS, "cannot write"),
        (errno.EIO, None),
    ],
)
def test_errors_that_a_user_can_fix_are_explained(number: int, told: str | None) -> None:
    error = OSError(number, os.strerror(number))
    answer = explained(error, Path("x"))
    if told is None:
        assert answer is error
    else:
        assert isinstance(answer, UserError)
        assert told in str(answer)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "bytes are free there: free some space. Or choose another folder."),
        (errno.EDQUOT, "Your quota on this file system is used up: remove files of yours, or ask for more."),
        (errno.EFBIG, "File too large. The file system takes no larger file. Or choose another folder."),
        (errno.EROFS, "cannot write"),
    ],
)
def test_what_is_used_up_is_told(tmp_path: Path, number: int, told: str) -> None:
    error = OSError(number, os.strerror(number))
    assert told in str(explained(error, tmp_path / "new" / "a.txt"))


def test_a_file_system_without_inodes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = os.statvfs(tmp_path)
    full = os.statvfs_result([*system[:6], 0, 0, *system[8:]])
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert "has no inode left for another file" in str(explained(OSError(errno.ENOSPC, "No space"), tmp_path / "a"))


@needs_root
def test_whose_folder_it_is() -> None:
    with folder_for_all() as folder:
        told = f"Permission denied, and {folder} belongs to root. Choose a path that you may"
        with acting_as(NOBODY), pytest.raises(UserError, match=told):
            write_text(folder / "new" / "a.txt", "x")
        assert names_in(folder) == []


@pytest.mark.parametrize("place", ["new.csv", "new/deep/x.csv", "old.csv", "/dev/null"])
def test_an_output_that_can_be_written_leaves_nothing_behind(tmp_path: Path, place: str) -> None:
    (tmp_path / "old.csv").write_text("old")
    require_writable(tmp_path / place)
    assert names_in(tmp_path) == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("", "it is a folder"),
        ("old.csv/x", "Not a directory"),
        ("/proc/x", "No such file or directory"),
        ("photo.jpg", "it is one of the inputs"),
        ("link.jpg", "it is one of the inputs"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_output_that_cannot_be_written_is_told(tmp_path: Path, place: str, why: str) -> None:
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "photo.jpg").write_text("photo")
    (tmp_path / "link.jpg").symlink_to("photo.jpg")
    with pytest.raises(UserError, match=rf"cannot write .*: {why}"):
        require_writable(tmp_path / place, keep=[tmp_path / "photo.jpg"])


def test_no_output_is_no_error() -> None:
    require_writable(None)
