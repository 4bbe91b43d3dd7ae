"""The part of the manifest that describes how a run was started: command, versions, commit and machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signs_dist.run_folder.folder import timestamp


def describe_invocation(command: Sequence[str]) -> dict[str, Any]:
    """The command, versions, commit and machine of this process, for manifest.json."""
    packages = ("signs_dist", "torch", "torchvision", "numpy", "pillow", "pydantic")
    return {
        "command": list(command),
        "started": timestamp(),
        "working_folder": str(Path.cwd()),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in packages},
        "code": describe_code(Path(__file__).resolve().parent),
    }


def describe_code(folder: Path) -> dict[str, Any]:
    """The commit of the git checkout around `folder`, and whether it has uncommitted changes; None outside one."""
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit or None, "dirty": bool(status) if status is not None else None}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
