"""The command that makes a report: what it prints and writes, and its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.report import main as report
from tests.processes import REPOSITORY
from tests.reporting.run_folders import write_run


def typed(*arguments: object) -> int:
    return run_command(report, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        write_run(folder / f"seed{seed}", f"seed={seed}", epochs=2)
    return folder


def test_the_report_of_a_run_is_in_its_folder(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(runs / "seed0") == 0
    assert capsys.readouterr().out == f"the report of 1 run is in {runs}/seed0/report.html\n"
    assert "<h1>seed0</h1>" in (runs / "seed0" / "report.html").read_text()


def test_the_report_of_several_runs_is_where_it_is_asked_for(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(runs / "seed0", runs / "seed1", "--out", tmp_path / "new" / "both.html") == 0
    assert capsys.readouterr().out == f"the report of 2 runs is in {tmp_path}/new/both.html\n"
    page = (tmp_path / "new" / "both.html").read_text()
    assert "<h1>2 runs</h1>" in page
    assert "Val accuracy over steps of 2 runs." in page
    assert typed(runs, "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert (runs / "report.html").read_text() == page


def test_bad_input_says_what_to_type(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        ([tmp_path], "has no run folder in it. Give a run folder, as in: python -m signs_dist.report"),
        ([runs / "none"], "does not exist. Give a run folder"),
        ([runs / "seed0", "--out", tmp_path], "it is a folder. Give the path of a file."),
        ([], "the following arguments are required: RUN_DIR"),
    ):
        try:
            code = typed(*arguments)
        except SystemExit as end:
            code = int(str(end.code))
        assert code == 2
        assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_help_imports_nothing_slow() -> None:
    program = (
        "import sys; from signs_dist.report import build_parser; build_parser().format_help(); "
        "print(sorted({'torch', 'vl_convert', 'jinja2', 'PIL', 'yaml', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_report_imports_no_torch(runs: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from signs_dist.report import main; "
        f"main([{str(runs / 'seed0')!r}, '--out', {str(tmp_path / 'a.html')!r}]); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
