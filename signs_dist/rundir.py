"""The run folder: what a run leaves on disk.

config.yaml      every setting, can be fed back with --config
manifest.json    command, versions, commit, data, host, devices
metrics.jsonl    a line per epoch and per N steps
attempts.jsonl   a line at each start and each end
checkpoints/     last.pt and best.pt
model.pt         final weights
result.json      final numbers; it exists if, and only if, the run is finished
logs/            what the processes said
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError
from signs_dist.files import explained, write_json, write_text


class RunFolder:
    """An existing run folder and the names of what is in it.

    Args:
        path: the folder.
        is_writer: whether this process writes into it: one of a run does. For the others writing does nothing.
    """

    def __init__(self, path: Path, *, is_writer: bool = True) -> None:
        self.path = path
        self.is_writer = is_writer
        self.config = path / "config.yaml"
        self.manifest = path / "manifest.json"
        self.metrics = path / "metrics.jsonl"
        self.attempts = path / "attempts.jsonl"
        self.checkpoints = path / "checkpoints"
        self.model = path / "model.pt"
        self.result = path / "result.json"
        self.logs = path / "logs"

    def create(self) -> RunFolder:
        """Make the folder, and return itself. Only one process can make it: the creation is exclusive.

        Raises:
            UserError: it exists already, or cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.path.mkdir()
            except FileExistsError:
                raise UserError(describe_existing(self.path)) from None
            self.checkpoints.mkdir()
            self.logs.mkdir()
        except OSError as error:
            raise explained(error, self.path) from error
        return self

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run folder for reading.

        Raises:
            UserError: there is none at `path`.
        """
        folder = cls(path)
        if not folder.config.is_file():
            what = "is not a run folder: it has no config.yaml" if path.is_dir() else "does not exist"
            raise UserError(f"{path} {what}. A run folder is made by `python -m signs_dist.train`, under runs/.")
        return folder

    def append(self, file: Path, line: Mapping[str, Any]) -> None:
        """Add one JSON line to metrics.jsonl or attempts.jsonl."""
        if not self.is_writer:
            return
        try:
            with file.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise explained(error, file) from error

    def write_config(self, text: str) -> None:
        """Write config.yaml."""
        if self.is_writer:
            write_text(self.config, text)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write manifest.json."""
        self.write_json(self.manifest.name, manifest)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file of this folder."""
        if self.is_writer:
            write_json(self.path / name, value)

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json: from now on the run is finished."""
        self.write_json(self.result.name, result)


def describe_existing(path: Path) -> str:
    """Why a run cannot be made at `path`, which exists."""
    if not path.is_dir():
        return f"--run-dir {path} is a file. Choose another name, or leave --run-dir away to get a new folder in runs/."
    state = "a finished run" if RunFolder(path).result.is_file() else "something"
    return f"--run-dir {path} exists and holds {state}. Choose another name, or remove it first."


def default_run_path(config_name: str, now: datetime.datetime, root: Path = Path("runs")) -> Path:
    """`runs/<config>-<time>`, with a number behind it where that exists."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config_name).strip("-.") or "run"
    base = f"{name}-{now:%Y%m%d-%H%M%S}"
    path = root / base
    number = 2
    while path.exists():
        path = root / f"{base}-{number}"
        number += 1
    return path


def describe_machine(command: Sequence[str]) -> dict[str, Any]:
    """The part of the manifest that is known before anything is loaded: command, versions, commit, host."""
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
    """Commit of the checkout that `folder` lies in and whether it has uncommitted changes; nulls outside a checkout."""
    commit = _git(folder, "rev-parse", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit or None, "dirty": bool(status) if status is not None else None}


def timestamp() -> str:
    """Now, in UTC, to the second: `2026-01-31T12:00:00+00:00`."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
