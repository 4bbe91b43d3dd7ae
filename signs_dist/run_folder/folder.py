"""The run folder: what a run leaves on disk.

config.yaml      every setting, can be fed back with --config
manifest.json    command, versions, commit, data, host, devices
metrics.jsonl    a line per epoch and per N steps
attempts.jsonl   a line at each start and each end
checkpoints/     the newest states of the run and the best, each with its SHA-256
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.errors import UserError
from signs_dist.files import cannot_make, explained, flush_to_disk, write_json, write_text
from signs_dist.run_folder.records import Line, parse_lines, to_fields


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
        """Make the folder, or what a run that was killed while making it has left out, and return itself.

        Raises:
            UserError: it holds something else, or cannot be made.
        """
        try:
            require_run_or_empty(self.path)
            self.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_make(error, self.path) from error
        return self

    @property
    def is_begun(self) -> bool:
        """Whether a run was begun here, finished or not."""
        return self.config.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return self.result.is_file()

    def read_lines(self, file: Path) -> list[dict[str, Any]]:
        """The JSON lines of metrics.jsonl or attempts.jsonl; a last one that was cut off by a kill is left out."""
        try:
            text = file.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        lines = []
        for line in text.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                lines.append(value)
        return lines

    def keep_lines(self, file: Path, is_kept: Callable[[dict[str, Any]], bool]) -> None:
        """Rewrite a file of JSON lines with those that are kept, whole or not at all."""
        lines = [line for line in self.read_lines(file) if is_kept(line)]
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        if self.is_writer and (file.exists() or text):
            write_text(file, text)

    def flush(self, file: Path) -> None:
        """Bring what was appended to the disk itself."""
        if self.is_writer and file.exists():
            flush_to_disk(file)

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

    def add(self, line: Line) -> None:
        """Add a line to the file that its kind belongs to."""
        file = self.metrics if line.KEY[0] == "kind" else self.attempts
        self.append(file, to_fields(line))

    def read_metrics(self) -> list[Line]:
        """The lines of metrics.jsonl, without those that are no records."""
        return parse_lines(self.read_lines(self.metrics))

    def read_attempts(self) -> list[Line]:
        """The lines of attempts.jsonl, without those that are no records."""
        return parse_lines(self.read_lines(self.attempts))

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


def require_run_or_empty(path: Path) -> None:
    """Refuse to make a run at `path` if something else is there.

    Raises:
        UserError: it is a file, or a folder with other things in it.
    """
    if (path.exists() or path.is_symlink()) and not path.is_dir():
        raise UserError(
            f"--run-dir {path} is not a folder. Choose another name, or leave --run-dir away to get a new one in runs/."
        )
    if not path.is_dir() or RunFolder(path).is_begun:
        return
    # A run that was killed while it made its folder leaves a lease, a manifest and empty folders; a job that has not
    # begun to train has what it was submitted with, its tasks' own logs, and a line for each requeue.
    of_job = ("submit", "logs", "attempts.jsonl") if (path / "submit").is_dir() else ()
    ours = (".", "lease.json", "make-way", "manifest.json", *of_job)
    foreign = [
        item.name
        for item in path.iterdir()
        if not item.name.startswith(ours) and not (item.is_dir() and not any(item.iterdir()))
    ]
    if foreign:
        raise UserError(
            f"--run-dir {path} exists and holds something that is no run: {', '.join(sorted(foreign)[:3])}. "
            f"Choose another name, or remove it first."
        )


def default_run_path(
    config_name: str, now: datetime.datetime, root: Path = Path("runs"), *, launch_id: str = ""
) -> Path:
    """`runs/<config>-<time>`, with a number behind it where that exists.

    With the `launch_id` of a launch that may start its processes anew, `runs/<config>-<time>-<launch_id>`, which is
    found again after that.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config_name).strip("-.") or "run"
    if launch_id:
        earlier = sorted(path for path in root.glob("*") if path.name.endswith(f"-{launch_id}"))
        return earlier[0] if earlier else root / f"{name}-{now:%Y%m%d-%H%M%S}-{launch_id}"
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


def timestamp(seconds: float | None = None) -> str:
    """Now, or so many seconds after 1970, in UTC, to the second: `2026-01-31T12:00:00+00:00`."""
    utc = datetime.timezone.utc
    moment = datetime.datetime.now(utc) if seconds is None else datetime.datetime.fromtimestamp(seconds, utc)
    return moment.isoformat(timespec="seconds")


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
