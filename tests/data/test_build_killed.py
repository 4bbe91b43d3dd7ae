"""A build that is killed or interrupted leaves nothing behind, and goes on where it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from signs_dist.data.build import build
from signs_dist.data.photos.build_plan import BuildRequest
from signs_dist.data.photos.part_folder import part_folder_of
from tests.data.photo_files import content_of, jpeg, write_zip
from tests.data.test_build import names_in, run


@pytest.fixture(scope="module")
def large_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough work to be stopped in the middle of it."""
    some = [jpeg(i, 900) for i in range(6)]
    files = {f"SIGNS/train_signs/{i % 3}_IMG_{i}.jpg": some[i % 6] for i in range(240)}
    return write_zip(tmp_path_factory.mktemp("large") / "SIGNS.zip", files)


@pytest.fixture(scope="module")
def built_from_large(large_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(BuildRequest(large_zip, tmp_path_factory.mktemp("whole") / "set", processes=2))


def start_and_wait_for_some_images(source: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "signs_dist.data.build", "--processes", "2", "--source", source, "--out", out]
    process = subprocess.Popen(command, start_new_session=True, stdout=-1, stderr=-1, text=True)
    deadline = time.monotonic() + 30
    while len(list(part_folder_of(out).glob("*/*.jpg"))) < 40:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def wait_until_session_is_empty(session: int) -> None:
    deadline = time.monotonic() + 10
    while members := [pid for pid in names_in(Path("/proc")) if pid.isdigit() and session_of(pid) == session]:
        assert time.monotonic() < deadline, f"still running: {members}"
        time.sleep(0.05)


def session_of(pid: str) -> int | None:
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state == "Z" else int(session)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_killed_build_leaves_nothing_at_the_output_and_goes_on(
    stop: signal.Signals, large_zip: Path, built_from_large: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    process = start_and_wait_for_some_images(large_zip, out)
    process.send_signal(stop)
    assert process.wait(timeout=10) == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 75}[stop]
    process.communicate()
    wait_until_session_is_empty(process.pid)
    assert not out.exists()
    assert run("--source", large_zip, "--out", out) == 0
    assert "continuing: " in capsys.readouterr().out
    assert content_of(out) == content_of(built_from_large)
    assert names_in(tmp_path) == [".set.lock", "set"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_ctrl_c_ends_all_processes_with_one_line(large_zip: Path, tmp_path: Path) -> None:
    process = start_and_wait_for_some_images(large_zip, tmp_path / "set")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the job
    out, err = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "To continue, repeat the command" in out
    assert err.strip() == "interrupted"
    wait_until_session_is_empty(process.pid)
    assert not (tmp_path / "set").exists()
