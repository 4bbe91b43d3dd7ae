"""A copy of the code at the moment of a submission, so that later edits do not change the job."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import signs_dist
from signs_dist.errors import UserError

from .secret_files import describe_secrets, looks_secret

PACKAGES = tuple(dict.fromkeys(("signs_dist", __name__.partition(".")[0])))
"""The packages of this toolkit that a job imports: in a wheel, signs_dist holds launch."""
MOST_BYTES = 200 * 2**20
SUFFIXES = (".py", ".yaml", ".yml", ".toml")
"""Files that are copied from a working folder outside of git."""
SKIPPED = ("runs", "data", "__pycache__", "node_modules", "site-packages")
"""Folders that are not copied from there: large, or without code. A package of this toolkit may have such a name."""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Where a job imports from.

    Attributes:
        import_folders: folders for Python's path; the job's Python starts in the first.
        about: commit, whether there were changes, number of files and bytes; for people.
        diff: the changes that were not committed, from git diff.
        lines: what was done with files that look like secrets, for people.
    """

    import_folders: tuple[Path, ...]
    about: dict[str, Any]
    diff: bytes = b""
    lines: tuple[str, ...] = ()


def toolkit_folder() -> Path:
    """The folder that holds this toolkit's packages."""
    return Path(signs_dist.__file__).resolve().parent.parent


def without_snapshot(working_folder: Path) -> Snapshot:
    """No copy: the job imports the code from where it is now."""
    return Snapshot((toolkit_folder(), working_folder), {"snapshot": False} | _describe(working_folder)[0])


def take_snapshot(working_folder: Path, target: Path) -> Snapshot:
    """Copy the working tree of `working_folder`, and this toolkit if it is elsewhere.

    Files that git ignores, submodules, and files that git does not track and that look like secrets are not copied: the
    job reads them from the working folder. Outside of git only Python, YAML and TOML files are copied.

    Args:
        working_folder: where the job was submitted, from which the user's modules are imported.
        target: the folder to make.

    Raises:
        UserError: the files are larger than MOST_BYTES in all.
    """
    root = _git_root(working_folder) or working_folder
    tracked, untracked = _list_files(root)
    left_out = [path for path in untracked if looks_secret(path)]
    paths = dict.fromkeys([*tracked, *untracked])
    files = {target / "tree" / path: root / path for path in paths if path not in set(left_out)}
    toolkit = toolkit_folder()
    if toolkit / "signs_dist" / "__init__.py" in files.values():
        imported = target / "tree" / toolkit.relative_to(root)
    else:
        imported = target / "toolkit"
        for package in PACKAGES:
            files |= {
                imported / package / path: toolkit / package / path
                for path in _list_plain(toolkit / package, (".py",), skipped=())
            }
    num_bytes = sum(source.lstat().st_size for source in files.values())
    if num_bytes > MOST_BYTES:
        largest = max(files.values(), key=lambda source: source.lstat().st_size)
        raise UserError(
            f"the working tree {root} has {num_bytes / 2**20:,.0f} MiB that git does not ignore, too much to copy for "
            f"each job (at most {MOST_BYTES / 2**20:.0f} MiB). The largest file is {largest}. Let git ignore files "
            f"that are not code, or add --no-snapshot."
        )
    for copy, source in files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy, follow_symlinks=False)
    about, diff = _describe(working_folder)
    here = target / "tree" / working_folder.relative_to(root)
    here.mkdir(parents=True, exist_ok=True)
    counts = {"snapshot": True, "files": len(files), "bytes": num_bytes, "left_out": sorted(map(str, left_out))}
    secrets = describe_secrets(sorted(map(str, left_out)), sorted(str(path) for path in tracked if looks_secret(path)))
    return Snapshot(tuple(dict.fromkeys((imported, here))), counts | about, diff, tuple(secrets))


def _list_files(root: Path) -> tuple[list[Path], list[Path]]:
    """The files of a working tree, relative to it: those that git tracks, and those that it would after `git add`."""
    tracked = _git(root, "ls-files", "--cached", "-z")
    others = _git(root, "ls-files", "--others", "--exclude-standard", "-z")
    if tracked is None or others is None:
        return [], list(_list_plain(root, SUFFIXES, SKIPPED))
    return _existing(root, tracked), _existing(root, others)


def _existing(root: Path, listed: bytes) -> list[Path]:
    """The paths of a list of git's, without deleted files and submodules."""
    paths = [Path(os.fsdecode(name)) for name in listed.split(b"\0") if name]
    return [path for path in paths if (root / path).is_symlink() or (root / path).is_file()]


def _list_plain(root: Path, suffixes: tuple[str, ...], skipped: tuple[str, ...]) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [
            name
            for name in sorted(subfolders)
            if not name.startswith(".") and name not in skipped and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        for name in sorted(names):
            if name.endswith(suffixes):
                yield (Path(folder) / name).relative_to(root)


def _git_root(folder: Path) -> Path | None:
    told = _git(folder, "rev-parse", "--show-toplevel")
    return Path(os.fsdecode(told.removesuffix(b"\n"))) if told else None


def _describe(folder: Path) -> tuple[dict[str, Any], bytes]:
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {"commit": None, "dirty": None}, b""
    diff = _git(folder, "diff", "HEAD", "--binary") or b""
    return {"commit": commit.decode().strip(), "dirty": bool(diff)}, diff


def _git(folder: Path, *arguments: str) -> bytes | None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        ended = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
        if ended.returncode == 0:
            return ended.stdout
    return None
