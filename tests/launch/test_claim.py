"""Of two submissions for one run, one continues."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from launch.claim import claim_folder, end_claim
from signs_dist.environment.process_table import read_birth
from signs_dist.errors import UserError
from tests.processes import environment


def test_of_two_submissions_at_once_one_goes_on(tmp_path: Path) -> None:
    first = claim_folder(tmp_path / "submit")
    assert first.name == "001"
    with pytest.raises(UserError, match=r"another submission for .* is under way \(it is .*/submit/001\)"):
        claim_folder(tmp_path / "submit")
    assert [path.name for path in first.parent.iterdir()] == ["001"]
    (first / "submission.json").touch()
    end_claim(first)
    second = claim_folder(tmp_path / "submit")
    assert second.name == "002"
    # It was killed: its claim counts no more.
    process = subprocess.Popen(["true"])
    process.wait()
    (second / "claim.json").write_text(json.dumps({"host": socket.gethostname(), "pid": process.pid, "birth": "1"}))
    third = claim_folder(tmp_path / "submit")
    # On another machine nobody can look: it counts for ten minutes.
    (third / "claim.json").write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(UserError, match="under way"):
        claim_folder(tmp_path / "submit")
    long_ago = time.time() - 601
    os.utime(third, (long_ago, long_ago))
    assert claim_folder(tmp_path / "submit").name == "004"


def test_a_folder_that_is_just_being_made_counts_as_claimed(tmp_path: Path) -> None:
    other = tmp_path / "submit" / "001"
    other.mkdir(parents=True)
    claim = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "birth": read_birth(os.getpid())})
    writer = threading.Timer(0.5, lambda: (other / "claim.json").write_text(claim))
    writer.start()
    with pytest.raises(UserError, match="under way"):
        claim_folder(tmp_path / "submit")
    writer.join()


def test_one_that_was_killed_before_it_claimed_its_folder_counts_no_more(tmp_path: Path) -> None:
    other = tmp_path / "submit" / "001"
    other.mkdir(parents=True)
    long_ago = time.time() - 6
    os.utime(other, (long_ago, long_ago))
    assert claim_folder(tmp_path / "submit").name == "002"


def test_many_claims_at_once_leave_one(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from launch.claim import claim_folder"
    code += "; claim_folder(Path(sys.argv[1])); print('claimed', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "submit")]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [subprocess.Popen(command, text=True, env=environment(), **pipes) for _ in range(6)]
    # All are asked to end only when each has claimed or given up.
    firsts = [process.stdout.readline() for process in processes]  # type: ignore[union-attr]
    for process in processes:
        process.communicate()
    assert firsts.count("claimed\n") == 1
    assert len(list((tmp_path / "submit").iterdir())) == 1
