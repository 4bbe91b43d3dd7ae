"""Where the launchers are, and how they are named and typed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.environment.installation import (
    PACKAGE,
    TYPED_IN_A_CHECKOUT,
    add_checkout_to_path,
    full_name,
    has_launchers,
    spell,
)
from tests.processes import REPOSITORY


def as_in_a_wheel(folder: Path) -> Path:
    """A folder of signs_dist as a wheel installs it, beside a `launch` of another project."""
    for package in ("signs_dist/launch", "launch"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").touch()
    return folder / "signs_dist"


def test_in_a_checkout_the_launchers_have_names_of_their_own() -> None:
    assert not has_launchers(PACKAGE)
    assert full_name("launch.local") == "launch.local"
    assert spell("submit") == "python launch/submit.py"
    assert spell("dev-cluster") == "python -m slurm.dev_cluster"


def test_in_a_wheel_they_are_commands_and_modules_of_signs_dist(tmp_path: Path) -> None:
    package = as_in_a_wheel(tmp_path)
    assert has_launchers(package)
    assert full_name("launch.local", package) == "signs_dist.launch.local"
    assert [spell(command, package) for command in TYPED_IN_A_CHECKOUT] == [
        f"signs-dist {command}" for command in TYPED_IN_A_CHECKOUT
    ]
    before = list(sys.path)
    add_checkout_to_path(package)
    assert sys.path == before


def test_a_checkout_is_imported_from_any_folder_and_before_other_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "launch"
    other.mkdir()
    (other / "__init__.py").write_text("raise SystemError('of another project')")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.append({str(REPOSITORY)!r})\n"
        "from signs_dist.environment.installation import add_checkout_to_path\n"
        "add_checkout_to_path()\n"
        "import os, launch.jobs; print(launch.__file__, os.environ['PYTHONPATH'], sep='\\n')\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "/mine"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines() == [
        str(REPOSITORY / "launch" / "__init__.py"),
        os.pathsep.join([str(REPOSITORY), "/mine"]),
    ]


def test_nothing_is_added_where_the_checkout_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    before = list(sys.path)
    add_checkout_to_path()
    assert sys.path == before
