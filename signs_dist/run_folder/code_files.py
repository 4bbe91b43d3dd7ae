"""The source files that decide what a run computes, each as a SHA-256 under the name of its module.

Folders do not count: a copy of the same files elsewhere is the same code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from signs_dist.run_folder.digest import file_sha256
from signs_dist.run_folder.manifest import imported_files

_BESIDE = ("launch", "slurm")
"""Packages of a checkout that a wheel holds below signs_dist: they start a run, and compute nothing of it."""


def toolkit_files(package: Path) -> dict[str, str]:
    """Module → SHA-256 (hex) of the source files of the toolkit.

    Args:
        package: the folder `signs_dist`.
    """
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] not in _BESIDE:
            found[".".join((package.name, *parts))] = file_sha256(path)
    return found


def files_behind(names: Iterable[str], modules: Mapping[str, Any]) -> dict[str, str]:
    """Module → SHA-256 (hex) of the files of some modules, and of those that they import, without installed packages.

    What else was imported does not count: it depends on who started the run, and on what ran before.

    Args:
        names: of modules that were imported.
        modules: name → module, such as `sys.modules`.
    """
    waiting = [name for name in names if name in modules]
    if not waiting:
        return {}
    files = {name: file["sha256"] for name, file in imported_files(modules).items() if not _is_of_toolkit(name)}
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in files and name not in found:
            found[name] = files[name]
            waiting += _imports_of(modules[name])
    return found


def _is_of_toolkit(name: str) -> bool:
    return name.split(".")[0] == "signs_dist"


def _imports_of(module: Any) -> Iterator[str]:
    """The names of the modules that a module uses: of its package, and of what it has taken from others."""
    package = module.__name__.rpartition(".")[0]
    if package:
        yield package
    for value in list(vars(module).values()):
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(name, str):
            yield name
