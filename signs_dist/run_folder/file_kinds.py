"""Whether the files of a run folder are files and its folders are folders. Reading a pipe would wait for ever."""

from __future__ import annotations

import os
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import find_other_kind

FILES = (
    *("config.yaml", "manifest.json", "metrics.jsonl", "attempts.jsonl", "model.pt", "result.json"),
    *("lease.json", "make-way", "non_finite_loss.json", "predictions-val.jsonl", "predictions-test.jsonl"),
    *("training-images.png", "training-images.jsonl", "division.csv", "receipt.json"),
)
FOLDERS = ("checkpoints", "logs")
_LOGS = (".log", ".json", ".jsonl")


def require_run_files(path: Path) -> None:
    """Refuse a run folder in which a folder, a pipe or a device has the name of one of its files.

    Checkpoints are not looked at: one that is no file counts as broken.

    Args:
        path: the run folder; it may not exist.

    Raises:
        UserError: the message names the first one, and what to do.
    """
    for name in FILES:
        _require_file(path / name)
    for name in FOLDERS:
        if os.path.lexists(path / name) and not (path / name).is_dir():
            raise UserError(f"{path / name} must be a folder of the run, and is {_kind(path / name)}. {_ADVICE}")
    try:
        logs = [Path(entry.path) for entry in os.scandir(path / "logs") if not entry.is_file(follow_symlinks=False)]
    except OSError:
        return
    for log in logs:
        if log.suffix in _LOGS:
            _require_file(log)


_ADVICE = "Rename or remove it, and repeat the command."


def _require_file(path: Path) -> None:
    if kind := find_other_kind(path):
        raise UserError(f"{path} must be a file of the run, and is {kind}. {_ADVICE}")


def _kind(path: Path) -> str:
    return find_other_kind(path) or "a file"
