"""The folder of an export: it appears whole, or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import cannot_make, explained, flush_to_disk, umask
from signs_dist.inference.export_files import CARD_FILE, Format, find_export
from signs_dist.run_folder.folder import missing_folders, remove_empty


def default_out(run_dir: Path, form: Format) -> Path:
    """`exports/<run>-<format>` in the current folder."""
    return Path("exports", f"{run_dir.resolve().name}-{form}")


def require_free(out: Path, run_dir: Path, *, force: bool) -> None:
    """Refuse a folder that an export cannot be written to, before the work.

    Args:
        out: the folder to be made.
        run_dir: the run.
        force: an earlier export at `out` may be replaced. Nothing else may.

    Raises:
        UserError: the message says what is there.
    """
    if out.resolve().is_relative_to(run_dir.resolve()):
        raise UserError(
            f"--out {out} is inside the run folder, whose files are the run's own. Choose a folder elsewhere, or omit "
            f"--out for one in exports/."
        )
    try:
        if out.is_dir():
            if any(out.iterdir()):
                _require_replaceable(out, force=force)
        elif out.exists() or out.is_symlink():
            raise UserError(f"--out {out} is not a folder. Choose another name.")
        above = next(folder for folder in out.absolute().parents if folder.exists())
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise cannot_make(error, out) from error


def _require_replaceable(out: Path, *, force: bool) -> None:
    is_export = find_export(out) is not None and (out / CARD_FILE).is_file()
    if not is_export:
        raise UserError(f"--out {out} exists and holds other files. Choose another name, or remove the folder first.")
    if not force:
        raise UserError(f"--out {out} holds an export. To replace it, add --force; or choose another name.")


@contextlib.contextmanager
def placed(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`. After the block it is flushed to disk and takes the place of `out`.

    After an error in the block it is removed, and what was at `out` stays. After a kill (SIGKILL) it is left beside
    `out`, as a hidden folder, and the next export to `out` removes it.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    made = missing_folders(out.parent)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:40]}.", suffix=".part"))
        try:
            with _locked(aside):
                yield aside
                for file in aside.iterdir():
                    flush_to_disk(file)
                aside.chmod(0o777 & ~umask())
                _take_place(aside, out)
                flush_to_disk(out.parent)
            _remove_leftovers(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise explained(error, out) from error
    finally:
        remove_empty(made)


def _take_place(aside: Path, out: Path) -> None:
    """Rename `aside` to `out`, and remove the folder that was there."""
    if not out.is_dir():
        aside.rename(out)
        return
    earlier = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:40]}.", suffix=".old"))
    out.rename(earlier)  # an empty folder may be replaced
    try:
        aside.rename(out)
    except OSError:
        earlier.rename(out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder until the end of the block, or of this process. Yields whether it could be had.

    Some network file systems have no lock of a folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _remove_leftovers(out: Path) -> None:
    """Remove the folders of exports to `out` that were killed: no process holds their locks."""
    name = re.compile(rf"\.{re.escape(out.name[:40])}\.[a-z0-9_]{{8}}\.(part|old)")  # as mkdtemp makes it
    for leftover in out.parent.iterdir():
        if name.fullmatch(leftover.name) and leftover.is_dir():
            with contextlib.suppress(OSError), _locked(leftover) as is_free:
                if is_free:
                    shutil.rmtree(leftover, ignore_errors=True)
