"""What goes with a release: citation, workflow, issue forms and containers agree with the project."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import signs_dist

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DOCKERFILE, DEFINITION = REPOSITORY / "containers" / "Dockerfile", REPOSITORY / "containers" / "signs_dist.def"
EXTRAS = re.compile(r"\[([a-z,]+)\]'")


def read_yaml(path: Path) -> dict[str, object]:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if line.startswith("COPY ")]
    return [name for names in lines for name in names]


def test_the_citation_has_version_and_license_of_the_package() -> None:
    citation = read_yaml(REPOSITORY / "CITATION.cff")
    assert citation["version"] == signs_dist.__version__
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "title", "message", "authors"} <= set(citation)


def test_the_workflow_runs_what_ci_runs_and_looks_at_the_other_pythons() -> None:
    jobs = read_yaml(REPOSITORY / ".github" / "workflows" / "ci.yml")["jobs"]
    assert isinstance(jobs, dict)
    assert [step.get("run") for step in jobs["all"]["steps"]][-1] == ".ci/run"
    others = jobs["other-pythons"]["strategy"]["matrix"]["python"]
    assert sorted([*others, "3.11"]) == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == ">=3.10"


@pytest.mark.parametrize("form", ["bug.yml", "wish.yml"])
def test_an_issue_form_has_what_such_a_form_needs(form: str) -> None:
    values = read_yaml(REPOSITORY / ".github" / "ISSUE_TEMPLATE" / form)
    assert {"name", "description", "body"} <= set(values)
    body = values["body"]
    assert isinstance(body, list)
    names = [field["id"] for field in body]
    assert len(set(names)) == len(names) > 0
    assert all(field["attributes"]["label"] for field in body)


def test_every_file_is_legal_in_the_oldest_python() -> None:
    files = [file for name in ("signs_dist", "launch", "slurm") for file in (REPOSITORY / name).rglob("*.py")]
    assert len(files) > 300
    for file in files:
        ast.parse(file.read_text(encoding="utf-8"), filename=str(file), feature_version=(3, 10))


def test_containers_install_extras_that_there_are_and_the_same_ones() -> None:
    named = [EXTRAS.findall(path.read_text()) for path in (DOCKERFILE, DEFINITION)]
    assert named[0] == named[1] != []
    assert set(named[0][0].split(",")) <= set(PROJECT["optional-dependencies"])


def test_containers_copy_the_same_files_and_they_exist() -> None:
    assert all((REPOSITORY / name).exists() for name in copied())
    files = DEFINITION.read_text().partition("%files\n")[2].partition("\n\n")[0]
    assert sorted(line.split()[0] for line in files.splitlines()) == sorted(copied())


@pytest.mark.slow
def test_the_files_of_a_container_are_enough_to_install_from(tmp_path: Path) -> None:
    place = tmp_path / "signs_dist"
    place.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in copied():
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=ignored)
        else:
            shutil.copy(source, place / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(place)], check=True, cwd=tmp_path, timeout=120)
    shown = subprocess.run(
        [sys.executable, "-m", "signs_dist.cli", "--version"],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert shown.stdout == f"signs_dist {signs_dist.__version__}\n"
    assert (tmp_path / "site" / "signs_dist" / "launch" / "submit.py").is_file()
