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
import os
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.content import require_whole
from signs_dist.checkpointing.cursor import Cursor as Cursor
from signs_dist.checkpointing.rotation import choose_deleted
from signs_dist.checkpointing.tensors import Written, find_other_values, num_tensor_bytes, write_to
from signs_dist.errors import CheckpointError, SaveError, UserError, require_kind
from signs_dist.files import NO_SPACE, explain_no_space, flush_to_disk, written_aside
from signs_dist.models.archive_members import MAX_PICKLE_BYTES
from signs_dist.models.weights import read_plain
from signs_dist.run_folder.digest import digest_path, find_damage, read_digest
from signs_dist.run_folder.folder import allow

BROKEN = ".broken"
"""The suffix of a file that was renamed because it is broken."""
FOREIGN = ".foreign"
"""The suffix of a checkpoint that was renamed because this run did not write it."""
SUSPECT = ".suspect"
"""The suffix of a checkpoint that was renamed because it may hold wrong results: see `run_folder.suspects`."""


def ignore_stage(stage: str) -> None:
    """Do nothing at a stage of a save."""


on_stage: Callable[[str], None] = ignore_stage
"""Called with the name of each stage that a save reaches. Only `signs_dist.rehearsal.save_stages` changes it."""


class CheckpointStore:
    """The folder with the checkpoints of a run.

    A checkpoint is written to a temporary file, flushed, renamed and verified. So the older checkpoints stay whole if
    the process is killed at any moment. A SHA-256 beside each checkpoint shows whether it is broken. Only one process
    may save: the process whose `processes.is_main` is true.

    A save at an earlier place than that of a file in the folder begins another course of training. The later files are
    then renamed to `….foreign`: they would otherwise count as the newest.

    Args:
        folder: need not exist; the first save makes it.
        keep: how many of the newest checkpoints to keep, in addition to the best.
        keep_every_epochs: also keep the checkpoints at the end of each epoch that is a multiple of it; None: no others.
        require_held: called before a checkpoint is written and before it gets its name. It raises where this process
            may no longer write.

    Attributes:
        protected: places whose checkpoints stay too, as long as they are in it.

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

    def __init__(
        self,
        folder: Path | str,
        keep: int = 3,
        *,
        keep_every_epochs: int | None = None,
        require_held: Callable[[], None] = allow,
    ) -> None:
        self.folder, self.keep, self._keep_every_epochs = Path(folder), keep, keep_every_epochs
        self.protected: Collection[Cursor] = ()
        self._require_held = require_held
        self._own: dict[str, str] | None = None  # name → SHA-256 of this run's files; None before they are known
        self._notes: list[str] = []

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

    def newest_until(self, place: Cursor | None) -> Path | None:
        """The path of the newest checkpoint at a place or before it; None for none. No file is read."""
        return next((path for cursor, path in self.files() if place is not None and cursor <= place), None)

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
        for message in self.take_notes():
            warnings.warn(message, stacklevel=2)
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

    def begin(self, resumed_from: Path | None) -> None:
        """Take the checkpoint from which a run resumes, and those before it, for this run's own, and no others.

        Args:
            resumed_from: None for a run that begins at its first step: no file of the folder is its own.
        """
        self._own = {}
        place = Cursor.of_file(resumed_from) if resumed_from is not None else None
        if place is not None:
            self._take(lambda cursor: cursor <= place)
        self._set_foreign_aside()
        for path in (self.best, self.folder / "last.pt"):
            if place is None and path.exists():
                self._note_foreign(path)

    def take_notes(self) -> list[str]:
        """The messages since the last call, about files that were renamed."""
        notes, self._notes = self._notes, []
        return notes

    def write(self, cursor: Cursor, content: Mapping[str, Any], best: Cursor | None) -> int:
        """Write a checkpoint, verify it, and delete old checkpoints.

        Args:
            cursor: its place in the run.
            content: tensors on the CPU and plain values.
            best: the place of the best checkpoint, which is kept; it may be this checkpoint.

        Returns:
            Bytes written; 0 if this run has written a checkpoint of this place already, and it is whole.

        Raises:
            SaveError: the disk is full, cannot be written, or returns other bytes than were written. All older
                checkpoints are unchanged.
        """
        self._require_held()
        if self._own is None:
            self._take(lambda other: other < cursor)
        assert self._own is not None
        self._set_foreign_aside()
        path = self.folder / cursor.file_name
        num_bytes = 0
        if not (path.is_file() and find_damage(path) == ""):
            num_bytes = self._write(path, content)
            self._own[path.name] = _digest_beside(path)
        self._name(path, self.folder / "last.pt")
        if best is not None:
            named = dict(reversed(self.files()))  # an earlier release gave other names
            self._name_best(named.get(best, self.folder / best.file_name), is_new=best == cursor)
        self._delete_old(best)
        return num_bytes

    def set_aside(self, path: Path, suffix: str = BROKEN) -> Path:
        """Rename a broken or foreign checkpoint, so that it is not read again. Returns its new path."""
        moved = path.with_name(path.name + suffix)
        if moved.is_dir() and not moved.is_symlink():  # nothing can be renamed to it
            moved = path.with_name(f"{path.name}{suffix}-{time.time_ns()}")
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

    def _take(self, is_own: Callable[[Cursor], bool]) -> None:
        """Take the files at some places for this run's own."""
        self._own = {path.name: _digest_beside(path) for cursor, path in self.files() if is_own(cursor)}

    def _set_foreign_aside(self) -> None:
        """Rename each checkpoint that this run neither wrote nor resumed from."""
        assert self._own is not None
        for _, path in self.files():
            digest = _digest_beside(path)
            own = self._own.get(path.name)
            if own is None or (digest and own and digest != own):
                self._note_foreign(path)

    def _note_foreign(self, path: Path) -> None:
        # It may be gone, and a disk that cannot be written is told by the save.
        with contextlib.suppress(UserError, OSError):
            name = self.set_aside(path, FOREIGN).name
            self._notes.append(f"{path} is a checkpoint that this run did not write. It was renamed to {name}.")

    def _write(self, path: Path, content: Mapping[str, Any]) -> int:
        aside = path.with_name(f".{path.name}.part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            written = self._write_aside(aside, content)
            # The digest first: a checkpoint without a digest counts as broken, a digest alone does no harm.
            with written_aside(digest_path(path)) as digest_aside:
                digest_aside.write_text(f"{written.sha256}  {path.name}\n", encoding="utf-8")
            on_stage("before rename")
            self._require_held()
            aside.replace(path)
            on_stage("after rename")
            flush_to_disk(self.folder)
        except UserError as error:
            raise SaveError(str(error)) from error
        except OSError as error:
            self._require_held()  # raises if the folder was moved meanwhile
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
        if error.errno in NO_SPACE:
            return (
                f"{explain_no_space(error, path)} A checkpoint needs {num_bytes:,} bytes. Then repeat the command: it "
                f"resumes from the checkpoint before."
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
            self._require_held()
            raise SaveError(self._describe(error, name, path.stat().st_size)) from error

    def _name_best(self, path: Path, *, is_new: bool) -> None:
        """Give the best checkpoint its second name, unless it has it: a kill may have come between its two names."""
        digest = _digest_beside(path)
        if is_new or (digest and digest != _digest_beside(self.best)):
            self._name(path, self.best)

    def _delete_old(self, best: Cursor | None) -> None:
        on_stage("before rotation")
        deleted = choose_deleted(
            self.files(),
            keep=self.keep,
            best=best,
            keep_every_epochs=self._keep_every_epochs,
            protected=self.protected,
        )
        for path in deleted:
            path.unlink(missing_ok=True)
            on_stage("in rotation")
            digest_path(path).unlink(missing_ok=True)


def read_content(path: Path, max_pickle_bytes: int | None = None) -> dict[str, Any]:
    """The content of a checkpoint on the CPU, after its digest was verified. No code in the file is run.

    Args:
        path: the file.
        max_pickle_bytes: as for `read_plain`.

    Raises:
        CheckpointError: it is broken.
    """
    if damage := find_damage(path):
        raise CheckpointError(f"{path} is broken: {damage}.")
    try:
        return read_plain(path, max_pickle_bytes)
    except UserError as error:
        raise CheckpointError(str(error)) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint that `signs_dist.train` or `fit` wrote, as `read_content`.

    Raises:
        CheckpointError: it is broken, is no checkpoint of a run, or has the name of another place of the run.
        UserError: another release wrote it, which may be whole.
    """
    content = read_content(path, MAX_PICKLE_BYTES)
    require_whole(content, path)
    named, cursor = Cursor.of_file(path), Cursor(**content["cursor"])
    if named not in (None, cursor):
        raise CheckpointError(f"{path} is broken: its name says {named}, and it holds {cursor}.")
    return content


def _digest_beside(path: Path) -> str:
    """The SHA-256 beside a checkpoint; "" where it cannot be read."""
    try:
        return read_digest(path)
    except OSError:
        return ""


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
        flush_to_disk(target)
