"""The manifest: command, versions, commit and machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from signs_dist.run_folder.manifest import describe_code, describe_invocation


def test_the_command_versions_and_machine_are_described(tmp_path: Path) -> None:
    about = describe_invocation(["python", "-m", "signs_dist.train"])
    assert about["command"] == ["python", "-m", "signs_dist.train"]
    assert about["started"].endswith("+00:00")
    assert set(about["versions"]) >= {"signs_dist", "torch", "torchvision", "numpy"}
    json.dumps(about)
    assert describe_code(tmp_path) == {"commit": None, "dirty": None}


def test_the_commit_and_whether_it_is_dirty(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "one")
    clean = describe_code(tmp_path)
    (tmp_path / "a").write_text("2")
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    assert describe_code(tmp_path) == {"commit": clean["commit"], "dirty": True}
