"""The process that a lease names: whatever stands in the file, and whatever became of the process."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from signs_dist.run_folder import holder
from signs_dist.run_folder.holder import Holder, process_id_scope

HERE = {"token": "a", "machine": "m", "host": "h", "pid": 7, "born": "1", "job": ""}


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    own = Holder.here("h", os.getpid(), "7.1")
    (tmp_path / "lease.json").write_text(json.dumps(dataclasses.asdict(own)))
    assert Holder.read(tmp_path / "lease.json") == own
    assert own.is_here("h")
    assert not own.is_gone("h")
    assert not own.is_here("other")


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": "7"},
        {"pid": True},
        {"pid": -1},
        {"pid": 0},
        {"pid": None},
        {"host": None},
        {"born": 1},
        {"machine": []},
        {"job": 5},
        {"token": {}},
        {"colour": "red"},
    ],
)
def test_values_of_another_kind_name_no_holder(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "lease.json").write_text(json.dumps({**HERE, **changes}))
    assert Holder.read(tmp_path / "lease.json") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"null", b"\xff\xfe", b"\0" * 9, b"[" * 100_000])
def test_rubbish_names_no_holder(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lease.json").write_bytes(content)
    assert Holder.read(tmp_path / "lease.json") is None


def test_what_is_no_file_names_no_holder_and_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert [Holder.read(tmp_path / name) for name in ("folder", "pipe", "nothing")] == [None, None, None]


def test_a_process_that_has_ended_is_gone_on_its_own_machine_only() -> None:
    ended = subprocess.Popen(["true"])
    own = dataclasses.replace(Holder.here("h", ended.pid), born="1")
    ended.wait()
    assert own.is_gone("h")
    assert not own.is_gone("other")


def test_after_a_reboot_the_same_id_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Holder.here("h", os.getpid())
    assert before.machine == process_id_scope("h")
    monkeypatch.setattr(holder, "process_id_scope", lambda host: "h after-a-reboot ns")
    assert not before.is_here("h")
    assert not before.is_gone("h")  # nobody can say: host names are not unique, and boots are


def test_a_process_whose_birth_is_hidden_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mount option hidepid, /proc shows no processes of other users."""
    own = Holder.here("h", os.getpid())
    monkeypatch.setattr("signs_dist.environment.process_table.read_birth", lambda pid: "")
    assert not own.is_gone("h")
