"""Starting a run on this process."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import ProcessesConfig
from signs_dist.console.screen import Screen
from signs_dist.environment.context import read_context
from signs_dist.environment.devices import DevicePlan
from signs_dist.errors import StoppedError, UserError
from signs_dist.training.process import Process
from signs_dist.training.start import run_process, start_run
from signs_dist.training.supervisor import Supervisor
from tests.training.parts import make_config


def make_screen(*, quiet: bool = False) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(is_terminal=False, quiet=quiet, file=stream), stream


def test_a_run_is_started_and_its_result_returned(tmp_path: Path) -> None:
    screen, stream = make_screen()
    context = dataclasses.replace(read_context(), launch_note="no SLURM step: plain python")
    result = start_run(make_config(tmp_path), tmp_path / "run", context=context, screen=screen, device="cpu")
    assert (result["steps"], result["device"], result["strategy"]) == (8, "cpu", "single")
    assert stream.getvalue().startswith("no SLURM step: plain python\n")
    assert f"everything is in {tmp_path / 'run'}" in stream.getvalue()


def test_what_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    screen, _ = make_screen()
    config = make_config(tmp_path, "train.global_batch=64")
    with pytest.raises(UserError, match=r"train\.global_batch=64 is more than the 36 training images"):
        start_run(config, tmp_path / "run", context=read_context(), screen=screen)
    assert not (tmp_path / "run").exists()


def test_exact_mode_is_refused_for_data_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = DevicePlan("cuda", (0, 1), ("0", "1"))
    monkeypatch.setattr("signs_dist.training.start.plan_process", lambda *_, **__: plan)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")  # exact mode sets it: put back after the test
    screen, _ = make_screen()
    config = make_config(tmp_path, "exact=true", "train.micro_batch=4")
    with pytest.raises(UserError, match=r"exact=true does not work with --dp.*torchrun --nproc_per_node=2"):
        start_run(config, tmp_path / "run", context=read_context(), screen=screen, data_parallel=True)


def work_that(outcome: Any) -> Any:
    def work(process: Process, supervisor: Supervisor) -> dict[str, Any]:
        assert process.pulse is supervisor.pulse
        if isinstance(outcome, Exception):
            raise outcome
        return {"device": process.devices, "outcome": outcome}

    return work


CPU = DevicePlan("cpu", (), ())


def test_the_work_gets_the_process_and_its_supervisor() -> None:
    screen, _ = make_screen()
    result = run_process(work_that("done"), CPU, read_context(), screen, ProcessesConfig())
    assert result == {"device": "cpu", "outcome": "done"}


@pytest.mark.parametrize("is_library", [False, True])
@pytest.mark.parametrize("error", [UserError("no such folder"), StoppedError("stopped after step 3")])
def test_errors_of_the_user_are_raised(error: Exception, is_library: bool) -> None:
    screen, _ = make_screen()
    with pytest.raises(type(error), match=str(error)):
        run_process(work_that(error), CPU, read_context(), screen, ProcessesConfig(), is_library=is_library)


def test_other_errors_end_a_command_with_a_card_and_are_raised_in_a_library(capsys: pytest.CaptureFixture[str]) -> None:
    screen, _ = make_screen()
    work = work_that(ZeroDivisionError("a bug"))
    with pytest.raises(SystemExit) as ended:
        run_process(work, CPU, read_context(), screen, ProcessesConfig())
    assert ended.value.code == 1
    assert "error  ZeroDivisionError: a bug" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run_process(work, CPU, read_context(), screen, ProcessesConfig(), is_library=True)
    assert capsys.readouterr().err == ""
