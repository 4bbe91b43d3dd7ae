"""Stores of small checkpoints, each of which holds a number."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from signs_dist.checkpointing.store import CheckpointStore, Cursor, read_checkpoint
from signs_dist.run_folder.digest import digest_path
from tests.checkpointing.contents import make_content


def content(number: int, num_values: int = 500) -> dict[str, Any]:
    return make_content(number, num_values=num_values)


def content_of(epoch: int, number: int) -> dict[str, Any]:
    """The content of epoch `epoch`, in which `number_in` finds another number."""
    return make_content(epoch, model={"w": torch.full((500,), float(number))})


def number_in(path: Path) -> int:
    return int(read_checkpoint(path)["model"]["w"][0])


def write(folder: Path, numbers: range, *, keep: int = 2, best: int = 1) -> CheckpointStore:
    store = CheckpointStore(folder, keep)
    for number in numbers:
        store.write(Cursor(number, 0), content(number), Cursor(best, 0))
    return store


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix == ".pt"}


def put(folder: Path, data: bytes, number: int = 2) -> Path:
    """A file in a checkpoint's place, with the right digest."""
    path = folder / f"epoch-{number:04}.pt"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    digest_path(path).write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return path
