"""launch.local: what it decides to start."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from launch.local import check_arguments, check_flags, describe_shared_cores, main, plan_launch, split_arguments
from signs_dist.console.command import run_command
from signs_dist.errors import UserError


def plan(**changes: Any) -> tuple[int, dict[str, str]]:
    values: dict[str, Any] = {"nproc": None, "gpus": None, "arguments": [], "usable_cores": 8, "environment": {}}
    launch = plan_launch(**{**values, **changes})
    return launch.num_processes, dict(launch.variables)


@pytest.mark.parametrize(
    ("given", "num_processes", "variables"),
    [
        ({"nproc": 4}, 4, {"OMP_NUM_THREADS": "2"}),
        ({"nproc": 96}, 96, {"OMP_NUM_THREADS": "1"}),
        ({"nproc": 4, "environment": {"OMP_NUM_THREADS": "3"}}, 4, {}),
        ({"gpus": "0,2,5,6"}, 4, {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0,2,5,6"}),
        ({"gpus": "0,2,5,6", "nproc": 2}, 2, {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "0,2"}),
    ],
)
def test_what_is_started(given: dict[str, Any], num_processes: int, variables: dict[str, str]) -> None:
    assert plan(**given) == (num_processes, variables)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "how many processes? Type --nproc 4, or --gpus 0,1,2,3"),
        ({"nproc": 0}, "--nproc 0: at least 1"),
        ({"nproc": 3, "gpus": "1,2"}, "3 processes, but 2 GPUs. Type --nproc 2, or name 3 GPUs."),
        ({"gpus": "1,1"}, "--gpus 1,1"),
        ({"gpus": "x"}, "--gpus x"),
        ({"nproc": 2, "arguments": ["--dp"]}, "--dp is one process with several GPUs"),
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(**given)
    assert message in str(caught.value)


def test_arguments_are_split_at_the_first_dashes() -> None:
    assert split_arguments(["--nproc", "2", "--", "a=1", "--", "b"]) == (["--nproc", "2"], ["a=1", "--", "b"])
    assert split_arguments(["--nproc", "2"]) == (["--nproc", "2"], [])


def test_a_dry_run_prints_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert run_command(main, ["--gpus", "1,3", "--dry-run", "--", "--config", "my config.yaml", "optim.lr=0.1"]) == 0
    out = capsys.readouterr().out
    assert re.match(r".*CUDA_VISIBLE_DEVICES=1,3 OMP_NUM_THREADS=[1-9][0-9]* ", out)
    assert "-m torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=0 -m signs_dist.train" in out
    assert out.endswith("-m signs_dist.train --device cuda --config 'my config.yaml' optim.lr=0.1\n")
    assert run_command(main, ["--gpus", "1,3", "--dry-run", "--", "--device=cpu"]) == 0
    assert capsys.readouterr().out.endswith("-m signs_dist.train --device=cpu\n")


def test_settings_without_dashes_are_told_where_to_stand(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["--nproc", "2", "optim.lr=0.1"]) == 2
    assert "python -m launch.local --nproc 4 -- optim.lr=0.1" in capsys.readouterr().err


def test_it_needs_no_torch() -> None:
    for name in ("local.py", "torchrun.py", "passing_signals.py", "worker_files.py"):
        source = Path(__file__).parents[2] / "launch" / name
        assert not re.search(r"^\s*(import|from) torch\b", source.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "num_processes", "message"),
    [
        (["train.epoch=3"], 2, "unknown key train.epoch. Did you mean train.epochs"),
        (["train.global_batch=100"], 99, "train.global_batch=100 does not divide over 99 processes"),
        (["train.global_batch=64", "train.micro_batch=32"], 3, "too few for 3 processes"),
        (["exact=true"], 2, "exact=true needs train.micro_batch"),
        (["--config", "missing.yaml"], 2, "missing.yaml"),
        (["--accept-change", "train.epoch"], 2, "train.epoch"),
    ],
)
def test_what_every_process_would_refuse_is_refused_before_they_start(
    arguments: list[str], num_processes: int, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check_arguments(arguments, num_processes)


def test_a_config_that_is_a_pipe_is_refused_before_it_is_read() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(UserError, match=r"is a pipe.*Write it to a file, and name the file"):
            check_arguments(["--config", f"/dev/fd/{reader}"], 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_what_the_processes_can_do_is_not_refused(tmp_path: Path) -> None:
    check_arguments(["--quiet", "train.global_batch=96", "train.micro_batch=32"], 3)
    # This run may be finished, or its micro-batch may be kept: the processes see it.
    (tmp_path / "config.yaml").write_text("{}")
    check_arguments(["train.global_batch=100", "--run-dir", str(tmp_path)], 99)


@pytest.mark.parametrize(
    ("num_cores", "expected"), [(1, "99 processes on 1 usable core take"), (2, "on 2 usable cores")]
)
def test_more_processes_than_cores_are_told(num_cores: int, expected: str) -> None:
    assert expected in describe_shared_cores(99, num_cores)


def test_another_module(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--nproc", "2", "--module", "signs_dist.doctor", "--dry-run", "--", "--quiet"]
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("--max-restarts=0 -m signs_dist.doctor --quiet\n")
    launch = plan_launch(
        nproc=None, gpus="0,1", arguments=(), usable_cores=8, environment={}, module="signs_dist.doctor"
    )
    assert (launch.program, launch.arguments) == (("-m", "signs_dist.doctor"), ("--device", "cuda"))


def test_a_wrong_flag_of_another_module_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        check_flags("signs_dist.doctor", ["--jsn", "a.json"])
    assert caught.value.code == 2
    assert "Did you mean --json?" in capsys.readouterr().err
    check_flags("my.module", ["--anything"])
