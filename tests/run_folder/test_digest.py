"""The SHA-256 beside a checkpoint."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

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
