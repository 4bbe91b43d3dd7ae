"""The part of the manifest that describes how a run was started: command, versions, commit and machine."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.monitoring.plain_text import one_line
from signs_dist.run_folder.digest import file_sha256
from signs_dist.run_folder.folder import timestamp

_PROGRAM = "__main__"
_OTHER_NAME_OF_PROGRAM = "__mp_main__"  # which `import multiprocessing` adds to sys.modules


def describe_invocation(command: Sequence[str]) -> dict[str, Any]:
    """The command, versions, commit and machine of this process, for manifest.json."""
    return {
        "command": list(command),
        "started": timestamp(),
        "working_folder": str(Path.cwd()),
        "host": platform.node(),
        **describe_software(),
        "code": describe_code(Path(__file__).resolve().parent),
    }


def describe_software() -> dict[str, Any]:
    """The system and the versions of Python and the packages of this process, for manifest.json."""
    packages = ("signs_dist", "torch", "torchvision", "numpy", "pillow", "pydantic")
    return {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "versions": {name: _version(name) for name in packages},
    }


def changed_software(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What computes the numbers and differs from before: `torch 2.13.0 → 2.14.1`. Both are from `describe_software`.

    An entry that is missing on one side is not compared, nor is the version of the system's kernel.
    """
    earlier, later = (side["versions"] if isinstance(side.get("versions"), dict) else {} for side in (before, now))
    pairs = {
        name: (earlier.get(name), later.get(name)) for name in ("signs_dist", "torch", "torchvision", "numpy", "pillow")
    }
    pairs["Python"] = before.get("python"), now.get("python")
    told = [
        f"{name} {one_line(old[:40])} → {new}"
        for name, (old, new) in pairs.items()
        if isinstance(old, str) and isinstance(new, str) and old != new
    ]
    system, own = before.get("platform"), now.get("platform")
    if isinstance(system, str) and isinstance(own, str) and _kind_of_system(system) != _kind_of_system(own):
        told.append(f"platform {one_line(system[:80])} → {own}")
    return told


_MACHINES = ("x86_64", "AMD64", "aarch64", "arm64", "ppc64le", "s390x", "riscv64", "i686")


def _kind_of_system(text: str) -> tuple[str, str]:
    """The system and the processor in what `platform.platform` tells; "" for a processor that it does not tell."""
    parts = text.split("-")
    return parts[0], next((part for part in parts if part in _MACHINES), "")


def describe_code(folder: Path, modules: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The git checkout around `folder`, and the files that were imported and belong to no installed package.

    Args:
        folder: within the checkout.
        modules: name → module; None for `sys.modules`.

    Returns:
        `commit` (None outside a checkout), `dirty` (whether a tracked file has changed, or a file that was imported is
        not tracked; None without a commit), `why` (why git gave no commit, "" if there is nothing to tell) and `files`
        (see `imported_files`).
    """
    files = imported_files(sys.modules if modules is None else modules)
    commit, trouble = _git(folder, "rev-parse", "HEAD")
    status, _ = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else (None, "")
    is_dirty = bool(status) or _has_untracked(folder, [file["path"] for file in files.values()])
    return {
        "commit": commit or None,
        "dirty": is_dirty if status is not None else None,
        "why": explain_no_commit(trouble),
        "files": files,
    }


def imported_files(modules: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Module → `path` and `sha256` of its source, for modules that belong to no installed package.

    These are the user's own files, such as the one that `model.name=mynet:Net` names, and the networks of signs_dist.
    The rest of signs_dist, with its commands, is described by its commit and version.
    """
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}

    @functools.cache  # thousands of modules lie in hundreds of folders
    def is_installed(folder: str) -> bool:
        resolved = Path(folder).resolve()
        return not installed.isdisjoint((resolved, *resolved.parents))

    found: dict[str, dict[str, str]] = {}
    for name, module in sorted(modules.items()):
        source = getattr(module, "__file__", None)
        if not isinstance(source, str) or not source.endswith(".py"):
            continue
        if name == _OTHER_NAME_OF_PROGRAM or _is_of_toolkit(_name_in_package(name, module)):
            continue
        if is_installed(source.rpartition(os.sep)[0]) and not Path(source).is_symlink():
            continue
        path = Path(source).resolve()
        if not is_installed(str(path.parent)):
            with contextlib.suppress(OSError):  # removed since it was imported
                found[name] = {"path": str(path), "sha256": file_sha256(path)}
    return found


def changed_files(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The paths of imported files that differ from before. Both are from `describe_code`.

    A file that only one of the two has imported is not compared: training and evaluation import different files. Nor
    are two programs, such as a script that trains and another one that evaluates.
    """
    earlier, later = before.get("files", {}), now["files"]
    names = [name for name in later if name in earlier]
    if _PROGRAM in names and later[_PROGRAM]["path"] != earlier[_PROGRAM]["path"]:
        names.remove(_PROGRAM)
    return [later[name]["path"] for name in names if later[name]["sha256"] != earlier[name]["sha256"]]


def explain_no_commit(trouble: str) -> str:
    """What to type when git refuses to read a checkout, from what it printed; "" if there is no checkout."""
    if "dubious ownership" not in trouble:
        return ""
    advice = re.search(r"git config --global --add safe\.directory \S+", trouble)
    named = f" Type: {advice[0]}" if advice else ""
    return f"no commit is recorded: the checkout belongs to another user, and git does not read it.{named}"


def _name_in_package(name: str, module: Any) -> str:
    """The name of a module in its package, also for the program of `python -m PACKAGE.MODULE`."""
    spec = getattr(module, "__spec__", None)
    return spec.name if name == _PROGRAM and spec is not None else name


def _is_of_toolkit(module: str) -> bool:
    return module.split(".")[0] in ("signs_dist", "launch", "slurm") and not module.startswith("signs_dist.models.")


def _has_untracked(folder: Path, paths: Sequence[str]) -> bool:
    """Whether one of `paths` lies in the checkout around `folder` and is not tracked."""
    top, _ = _git(folder, "rev-parse", "--show-toplevel")
    inside = [path for path in paths if top and Path(top) in Path(path).parents]
    listed, _ = _git(folder, "ls-files", "--others", "--", *inside) if inside else ("", "")
    return bool(listed)


def _git(folder: Path, *arguments: str) -> tuple[str | None, str]:
    """(standard output, "") of git, or (None, its standard error)."""
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
        return None, ""
    return (done.stdout.strip(), "") if done.returncode == 0 else (None, done.stderr)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
