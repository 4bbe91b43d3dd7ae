"""What a wheel holds, by pyproject.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.processes import REPOSITORY
from tests.test_layers import BELOW_SIGNS_DIST

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")


def settings() -> dict[str, Any]:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)["tool"]["setuptools"]
    return found


def packages_of(folder: Path) -> list[str]:
    """The packages that a folder's wheel should hold: those of signs_dist, and launch and slurm below it."""
    files = [file for name in ("signs_dist", *BELOW_SIGNS_DIST) for file in (folder / name).rglob("*.py")]
    names = {".".join(file.parent.relative_to(folder).parts) for file in files}
    return sorted(name if name.startswith("signs_dist") else f"signs_dist.{name}" for name in names)


def test_every_package_is_listed() -> None:
    assert settings()["packages"] == packages_of(REPOSITORY)
    assert settings()["package-dir"] == {f"signs_dist.{name}": name for name in BELOW_SIGNS_DIST}


def test_a_package_that_is_not_listed_is_seen(tmp_path: Path) -> None:
    for name in ("signs_dist/cupboard", "launch/schedulers"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "shelf.py").touch()
    assert packages_of(tmp_path) == ["signs_dist.cupboard", "signs_dist.launch.schedulers"]


def test_other_files_are_listed() -> None:
    """Each pattern fits a file, and every batch template has a pattern."""
    for package, patterns in settings()["package-data"].items():
        folder = REPOSITORY / settings()["package-dir"].get(package, package)
        assert all(list(folder.glob(pattern)) for pattern in patterns)
    assert "*.sbatch" in settings()["package-data"]["signs_dist.slurm"]
