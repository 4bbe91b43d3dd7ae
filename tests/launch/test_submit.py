"""What is typed after `python launch/submit.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.submit import main
from signs_dist.console.command import run_command
from tests.test_layers import import_graph


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["statsu"], "there is no command statsu. Did you mean status? Commands: status, logs, cancel, wait, doctor."),
        (
            ["--nodes", "1", "--", "--wait", "optim.lr=0.1"],
            "--wait is a flag of this command: type it before --, as in",
        ),
        (["--", "--nodes=2"], "--nodes is a flag of this command: type it before --"),
        (
            ["--cluster", "debug", "--", "--run-dir", "/etc/hostname"],
            "--run-dir /etc/hostname is a file. Name a folder.",
        ),
        (["--cluster", "/nowhere/site"], "--cluster /nowhere/site: there is no /nowhere/site."),
        (["cancel", ""], "which run? Type its folder, or its job's id."),
        (["--parallel", "4"], "--parallel is for --array"),
        (["doctor", "--array", "seeds=0,1"], "--array and --parallel are for runs. Omit them: the doctor is one job."),
        (["doctor", "--cluster", "debug", "--", "--run-dir", "/etc/hostname"], "--run-dir /etc/hostname is a file."),
        (["doctor", "here"], "arguments for signs_dist.doctor go after --, such as:"),
        (["--array", "seeds=0,1", "--parallel", "0"], "--parallel 0: at least 1."),
        (["--max-restarts", "2"], "--max-restarts is for --agent torchrun"),
        (["--array", "seeds=0,0"], "--array 'seeds=0,0': 0 is given twice. Each value is one run: type it once."),
        (["--array", "seeds=0,1", "--", "seed=3"], "seed is given after -- and in --array."),
        (["--extra", "time=5"], "extra time=5: a flag sets this parameter. Type --time."),
        (["--", "--run-dir", "."], "--run-dir is this folder itself."),
        (["--cluster", "local", "--gpus-per-node", "2"], "--gpus-per-node 2: this machine shows no GPUs."),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, arguments) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_flag_that_comes_first_is_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(main, ["--waitt"])
    assert "unrecognized arguments: --waitt. Did you mean --wait?" in capsys.readouterr().err
    assert run_command(main, ["--wait", "--nodes", "0"]) == 2
    assert "--nodes 0: type a number from 1" in capsys.readouterr().err


def test_nothing_imports_the_command() -> None:
    """As `python launch/submit.py` it is `__main__`: imported as well, it would be loaded twice."""
    assert [module for module, imported in import_graph().items() if "launch.submit" in imported] == []
