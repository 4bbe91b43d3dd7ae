"""The SHA-256 beside a checkpoint."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from signs_dist.run_folder import digest
from signs_dist.run_folder.digest import BLOCK_BYTES, digest_path, file_sha256, find_damage


@pytest.mark.parametrize("num_bytes", [0, 5, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_the_digest_is_of_all_bytes(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"x" * num_bytes)
    assert file_sha256(path) == hashlib.sha256(b"x" * num_bytes).hexdigest()


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    assert digest_path(path) == tmp_path / "a.pt.sha256"
    assert find_damage(path) == "a.pt.sha256 does not exist"
    digest_path(path).write_text(f"{hashlib.sha256(b'weights').hexdigest()}  a.pt\n")
    assert find_damage(path) == "it cannot be read: No such file or directory"
    path.write_bytes(b"weights")
    assert find_damage(path) == ""
    assert subprocess.run(["sha256sum", "-c", "a.pt.sha256"], cwd=tmp_path, capture_output=True).returncode == 0
    path.write_bytes(b"weightz")
    assert find_damage(path) == "its SHA-256 differs from the SHA-256 beside it"
    digest_path(path).write_text("")
    assert find_damage(path) == "its SHA-256 differs from the SHA-256 beside it"


def put(path: Path, content: bytes) -> None:
    """Replace a checkpoint as a run does: its digest first."""
    for target, data in (
        (digest_path(path), f"{hashlib.sha256(content).hexdigest()}  {path.name}\n".encode()),
        (path, content),
    ):
        aside = path.with_name("aside")
        aside.write_bytes(data)
        aside.replace(target)


@pytest.mark.parametrize("num_replaced", [1, 3])
def test_a_file_that_is_replaced_meanwhile_is_compared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_replaced: int
) -> None:
    """`evaluate` reads best.pt while the run writes a better one."""
    path = tmp_path / "best.pt"
    put(path, b"0")
    read, reads = digest.read_digest, []

    def slowly(path: Path) -> str:
        stated = read(path)
        reads.append(stated)
        if len(reads) <= num_replaced:
            put(path, str(len(reads)).encode())
        return stated

    monkeypatch.setattr(digest, "read_digest", slowly)
    assert find_damage(path) == ""
    assert len(reads) == num_replaced + 1
    path.write_bytes(b"broken")
    assert find_damage(path) == "its SHA-256 differs from the SHA-256 beside it"


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    digest_path(path).write_text("0" * 64)
    os.mkfifo(path)
    assert find_damage(path) == "it is a pipe (FIFO), not a file"
    path.unlink()
    path.mkdir()
    assert find_damage(path) == "it is a folder, not a file"
