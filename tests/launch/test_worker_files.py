"""What workers write below the agent's folder, and what is read from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.worker_files import copying_standard_error, has_begun, has_standard_error, has_stopped


def worker_file(folder: Path, rank: int, name: str, text: str = "") -> Path:
    """As torch lays them out: RUN/attempt_N/RANK/NAME."""
    path = folder / "run_id" / "attempt_0" / str(rank) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_standard_error_is_copied_while_it_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not has_standard_error(tmp_path)
    assert not has_begun(tmp_path)
    with copying_standard_error(tmp_path):
        path = worker_file(tmp_path, 0, "stderr.log")
        assert not has_standard_error(tmp_path)
        assert has_begun(tmp_path)
        with path.open("a", encoding="utf-8") as stream:
            stream.write("first\n")
            stream.flush()
            stream.write("last, without an end")
        worker_file(tmp_path, 1, "stderr.log", "other é\n")
    assert capsys.readouterr().err == "first\nlast, without an endother é\n"
    assert has_standard_error(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"message": {"message": "stopped", "errorCode": 75}}), True),
        (json.dumps({"message": {"message": "broken", "errorCode": 1}}), False),
        (json.dumps({"message": "torch's own form"}), False),
        (json.dumps([75]), False),
        ("{", False),
    ],
)
def test_an_error_file_tells_that_a_worker_has_saved_and_stopped(tmp_path: Path, text: str, expected: bool) -> None:
    assert not has_stopped(tmp_path)
    worker_file(tmp_path, 0, "error.json", "{")
    worker_file(tmp_path, 1, "error.json", text)
    assert has_stopped(tmp_path) == expected
