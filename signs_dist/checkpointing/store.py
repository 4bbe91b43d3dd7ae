"""The checkpoints of a run on disk: written aside, flushed, hashed and verified. The newest and the best stay.

epoch-0005-step-000120.pt         within epoch 5, after its step 120
epoch-0005.pt                     after epoch 5
epoch-0005.pt.sha256              its SHA-256, as `sha256sum -c` reads it
last.pt, best.pt                  second names of the newest checkpoint and of the best epoch's, each with its .sha256

Epochs count from 1, as in all messages. Earlier releases counted finished epochs: epoch0004-step000120.pt is the place
of epoch-0005-step-000120.pt. Both are read, and their order is by place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.content import require_whole
from signs_dist.checkpointing.tensors import Written, find_other_values, num_tensor_bytes, write_to
from signs_dist.errors import CheckpointError, SaveError, UserError, require_kind
from signs_dist.files import flush_to_disk, written_aside
from signs_dist.models.weights import read_plain
from signs_dist.run_folder.digest import digest_path, find_damage

BROKEN = ".broken"
"""The suffix of a file that was renamed because it is broken."""
_NAME = re.compile(r"epoch-(?P<epoch>[0-9]{4,9})(?:-step-(?P<step>[0-9]{6,12}))?\.pt")
_OLD_NAME = re.compile(r"epoch(?P<epoch>[0-9]{4,9})-step(?P<step>[0-9]{6,12})\.pt")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def ignore_stage(stage: str) -> None:
    """Do nothing at a stage of a save."""


on_stage: Callable[[str], None] = ignore_stage
"""Called with the name of each stage that a save reaches. Only `signs_dist.rehearsal.save_stages` changes it."""


@dataclasses.dataclass(frozen=True, order=True)
class Cursor:
    """A place in a run: the number of finished epochs, and of steps done in the next epoch."""

    epoch: int
    step: int

    @property
    def file_name(self) -> str:
        """The name of the checkpoint at this place: epoch-0005-step-000120.pt, or epoch-0005.pt for an epoch's end."""
        return f"epoch-{self.epoch + 1:04}-step-{self.step:06}.pt" if self.step else f"epoch-{self.epoch:04}.pt"

    @classmethod
    def of_file(cls, path: Path) -> Cursor | None:
        """The place in the name of a checkpoint, also of an earlier release's; None for other files."""
        if found := _NAME.fullmatch(path.name):
            if found["step"] is None:
                return cls(int(found["epoch"]), 0)
            is_place = int(found["epoch"]) > 0 and int(found["step"]) > 0
            return cls(int(found["epoch"]) - 1, int(found["step"])) if is_place else None
        found = _OLD_NAME.fullmatch(path.name)
        return cls(int(found["epoch"]), int(found["step"])) if found else None

    def __str__(self) -> str:
        """The place in words, with epochs from 1: `epoch 5, step 120`, `epoch 5` for its end, or `the beginning`."""
        if self.step:
            return f"epoch {self.epoch + 1}, step {self.step}"
        return f"epoch {self.epoch}" if self.epoch else "the beginning"


class CheckpointStore:
    """The folder with the checkpoints of a run.

    A checkpoint is written to a temporary file, flushed, renamed and verified. So the older checkpoints stay whole if
    the process is killed at any moment. A SHA-256 beside each checkpoint shows whether it is broken. Only one process
    may save: the process whose `processes.is_main` is true.

    Args:
        folder: need not exist; the first save makes it.
        keep: how many of the newest checkpoints to keep, in addition to the best.

    Example:
        >>> import tempfile, torch, signs_dist as sd
        >>> net = torch.nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = sd.CheckpointStore(folder)
        ...     print(store.load())
        ...     path = store.save({"net": net.state_dict(), "steps_done": 120}, step=120)
        ...     print(path.name)
        ...     saved = store.load()
        None
        epoch-0001-step-000120.pt
        >>> saved["steps_done"]
        120
        >>> net.load_state_dict(saved["net"])
        <All keys matched successfully>
    """

    def __init__(self, folder: Path | str, keep: int = 3) -> None:
        self.folder, self.keep = Path(folder), keep

    @property
    def best(self) -> Path:
        """The path of the best epoch's checkpoint, which may not exist."""
        return self.folder / "best.pt"

    def files(self) -> list[tuple[Cursor, Path]]:
        """The place and path of all checkpoints, the newest first. No file is read."""
        found = [(cursor, path) for path in self.folder.glob("epoch*.pt") if (cursor := Cursor.of_file(path))]
        # Of two files of one place, the file with this release's name was written later.
        return sorted(found, key=lambda pair: (pair[0], pair[1].name == pair[0].file_name), reverse=True)

    def newest(self) -> Path | None:
        """The path of the newest checkpoint, or None. The file is not read."""
        files = self.files()
        return files[0][1] if files else None

    def save(self, content: Mapping[str, Any], *, step: int, epoch: int = 0, is_best: bool = False) -> Path:
        """Write a checkpoint and wait until it is on the disk; returns its path.

        Args:
            content: whatever your loop needs to resume: tensors and plain values in dicts, lists and tuples.
            step: number of steps that are done, of the run or of an epoch.
            epoch: number of epochs that are done, if `step` counts the steps of the next epoch.
            is_best: also keep it as `best.pt`, until the next save with `is_best`.

        Raises:
            UserError: `content` holds other values than tensors and plain values.
            SaveError: the disk is full or cannot be written. All older checkpoints are as they were.
        """
        for name, number in (("step", step), ("epoch", epoch)):
            require_kind(name, number, int, "store.save(content, step=120)")
            if number < 0:
                raise UserError(f"{name}={number}: type 0 or more.")
        if wrong := find_other_values(content):
            raise UserError(
                f"a checkpoint holds tensors and plain values, but {wrong}. Save its state_dict() or plain values."
            )
        cursor = Cursor(epoch, step)
        self.write(cursor, content, cursor if is_best else None)
        return self.folder / cursor.file_name

    def load(self) -> dict[str, Any] | None:
        """The content of the newest whole checkpoint, on the CPU; None if there is none.

        A broken checkpoint is skipped with a warning. No code in the file is run.

        Raises:
            CheckpointError: there are checkpoints, and all are broken.
        """
        broken = []
        for _, path in self.files():
            try:
                content = read_content(path)
            except CheckpointError as error:
                broken.append(str(error))
                continue
            for message in broken:
                warnings.warn(f"{message} {path} is loaded instead.", stacklevel=2)
            return content
        if broken:
            raise CheckpointError(f"{' '.join(broken)} No checkpoint in {self.folder} is whole.")
        return None

    def write(self, cursor: Cursor, content: Mapping[str, Any], best: Cursor | None) -> int:
        """Write a checkpoint, verify it, and delete old checkpoints.

        Args:
            cursor: its place in the run.
            content: tensors on the CPU and plain values.
            best: the place of the best checkpoint, which is kept; it may be this checkpoint.

        Returns:
            Bytes written; 0 if a whole checkpoint of this place exists already.

        Raises:
            SaveError: the disk is full, cannot be written, or returns other bytes than were written. All older
                checkpoints are unchanged.
        """
        path = self.folder / cursor.file_name
        num_bytes = 0
        if not (path.is_file() and find_damage(path) == ""):
            num_bytes = self._write(path, content)
        self._name(path, self.folder / "last.pt")
        if best == cursor:
            self._name(path, self.best)
        self._delete_old(best)
        return num_bytes

    def set_aside(self, path: Path) -> Path:
        """Rename a broken checkpoint, so that it is not read again. Returns its new path."""
        moved = path.with_name(path.name + BROKEN)
        if moved.is_dir() and not moved.is_symlink():  # nothing can be renamed to it
            moved = path.with_name(f"{path.name}{BROKEN}-{time.time_ns()}")
        try:
            path.replace(moved)
        except OSError as error:
            raise UserError(f"{path} cannot be renamed: {error.strerror or error}. Remove it by hand.") from error
        with contextlib.suppress(FileNotFoundError):
            digest_path(path).replace(digest_path(moved))
        return moved

    def sweep(self) -> None:
        """Remove the remains of a killed save: temporary files, and digests without a checkpoint."""
        for path in self.folder.glob(".*.part"):
            with contextlib.suppress(OSError):  # such as a folder, which no save has made
                path.unlink()
        for path in self.folder.glob("*.sha256"):
            if not os.path.lexists(path.with_suffix("")):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _write(self, path: Path, content: Mapping[str, Any]) -> int:
        aside = path.with_name(f".{path.name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            written = self._write_aside(aside, content)
            # The digest first: a checkpoint without a digest counts as broken, a digest alone does no harm.
            with written_aside(digest_path(path)) as digest_aside:
                digest_aside.write_text(f"{written.sha256}  {path.name}\n", encoding="utf-8")
            on_stage("before rename")
            aside.replace(path)
            on_stage("after rename")
            flush_to_disk(self.folder)
        except UserError as error:
            raise SaveError(str(error)) from error
        except OSError as error:
            raise SaveError(
                self._describe(error, path, getattr(error, "num_bytes", num_tensor_bytes(content)))
            ) from error
        finally:
            with contextlib.suppress(OSError):  # report the first error
                aside.unlink(missing_ok=True)
        if damage := find_damage(path):
            raise SaveError(f"{path} was written, but differs when read back: {damage}. Check the disk.")
        return written.num_bytes

    def _write_aside(self, aside: Path, content: Mapping[str, Any]) -> Written:
        with aside.open("wb", buffering=0) as file:
            on_stage("open")
            written = write_to(file, content, lambda number: on_stage(f"quarter {number}"))
            os.fsync(file.fileno())
            on_stage("flushed")
        return written

    def _describe(self, error: OSError, path: Path, num_bytes: int) -> str:
        if error.errno in _NO_SPACE:
            free = shutil.disk_usage(self.folder).free
            return (
                f"no space left for {path}: {error.strerror}. A checkpoint needs {num_bytes:,} bytes and {free:,} are "
                f"free. Free some space and repeat the command: it resumes from the checkpoint before."
            )
        return f"cannot write {path}: {error.strerror or error}. Fix this and repeat the command."

    def _name(self, path: Path, name: Path) -> None:
        """Give a checkpoint a second name, for people and for `evaluate`. Resuming uses the first name only."""
        try:
            aside = name.with_name(f".{name.name}.part")
            aside.unlink(missing_ok=True)
            _link_or_copy(path, aside)
            digest = digest_path(path).read_text(encoding="utf-8")
            with written_aside(digest_path(name)) as digest_aside:
                digest_aside.write_text(digest.replace(path.name, name.name), encoding="utf-8")
            aside.replace(name)
            flush_to_disk(self.folder)
        except UserError as error:
            raise SaveError(str(error)) from error
        except OSError as error:
            raise SaveError(self._describe(error, name, path.stat().st_size)) from error

    def _delete_old(self, best: Cursor | None) -> None:
        on_stage("before rotation")
        for cursor, path in self.files()[self.keep :]:
            if cursor != best:
                path.unlink(missing_ok=True)
                on_stage("in rotation")
                digest_path(path).unlink(missing_ok=True)


def read_content(path: Path) -> dict[str, Any]:
    """The content of a checkpoint on the CPU, after its digest was verified. No code in the file is run.

    Raises:
        CheckpointError: it is broken.
    """
    if damage := find_damage(path):
        raise CheckpointError(f"{path} is broken: {damage}.")
    try:
        return read_plain(path)
    except UserError as error:
        raise CheckpointError(str(error)) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that `signs_dist.train` or `fit` wrote, as `read_content`.

    Raises:
        CheckpointError: it is broken, is no checkpoint of a run, or has the name of another place of the run.
        UserError: another release wrote it, which may be whole.
    """
    content = read_content(path)
    require_whole(content, path)
    named, cursor = Cursor.of_file(path), Cursor(**content["cursor"])
    if named not in (None, cursor):
        raise CheckpointError(f"{path} is broken: its name says {named}, and it holds {cursor}.")
    return content


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        flush_to_disk(target)
