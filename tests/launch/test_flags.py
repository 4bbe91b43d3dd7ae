"""The flags of a submission, and the request that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from launch.flags import read_flags, read_request
from launch.request import Request
from launch.submit import build_parser
from signs_dist.errors import UserError


def ask(flags: list[str], arguments: list[str]) -> Request:
    return read_request(build_parser().parse_args(flags), arguments)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"extra": None, "binds_gpus": None, "nodes": None}),
        (["--gpus-per-task", "1", "--memory", "64G"], {"binds_gpus": True, "memory": "64G"}),
        (["--extra", "hold", "--extra=--comment=a=b"], {"extra": {"hold": True, "comment": "a=b"}}),
    ],
)
def test_flags_by_the_names_of_settings(flags: list[str], expected: dict[str, Any]) -> None:
    read = read_flags(build_parser().parse_args(flags))
    assert {name: read[name] for name in expected} == expected


def test_an_extra_without_a_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"--extra '=5': type NAME=VALUE, such as"):
        read_flags(build_parser().parse_args(["--extra", "=5"]))


def test_a_request_holds_what_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--run-dir", "a run", "--quiet", "--accept-change", "optim.lr", "optim.lr=0.05"]
    request = ask(["--nodes", "2", "--no-snapshot", "--data-on-nodes"], words)
    assert (request.run_path, request.shown_path) == (tmp_path / "a run", "a run")
    assert (request.cluster.nodes, request.config.optim.lr) == ("2", 0.05)
    assert (request.is_quiet, request.is_snapshot, request.data_on_nodes) == (True, False, True)
    assert (request.accept_change, request.accepted) == (("optim.lr",), frozenset({"optim.lr"}))
    assert request.arguments == tuple(words)
    assert list(tmp_path.iterdir()) == []
    # Without --run-dir the folder has a name of its own, shown as it can be typed.
    assert (tmp_path / ask([], []).shown_path).parent == tmp_path / "runs"


@pytest.mark.parametrize(
    ("flags", "arguments", "told"),
    [
        ([], ["--dp"], "--dp is one process with several GPUs. Omit it"),
        ([], ["--explain"], "--explain trains nothing."),
        ([], ["--device", "cuda:1"], "--device cuda:1: omit it, each process takes the GPU that the job gives it."),
        ([], ["--device", "cuda"], "--device cuda with --gpus-per-node 0. Ask for GPUs, such as --gpus-per-node 4"),
        (["--cluster", "local"], ["--device", "cuda"], "--device cuda with --gpus-per-node 0."),
        (["--max-restarts", "2"], [], "Type --agent torchrun as well, or omit --max-restarts"),
    ],
)
def test_flags_that_make_no_sense_in_a_job_are_refused(flags: list[str], arguments: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        ask(flags, arguments)
    assert told in str(caught.value)


def test_the_submitting_process_may_be_told_its_gpu() -> None:
    assert ask(["--cluster", "debug"], ["--device", "cuda"]).device == "cuda"
