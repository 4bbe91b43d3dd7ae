"""The program that runs torch's elastic agent: its settings, and what it tells of a failed worker."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler
from torch.distributed.launcher.api import LaunchConfig

from launch.elastic_agent import (
    AgentSettings,
    WorkerFailure,
    build_config,
    choose_shutdown_variables,
    find_first_failure,
    honour_nohup,
    make_handler,
)
from tests.processes import listening_addresses

SETTINGS = AgentSettings(
    num_nodes=2,
    num_workers=4,
    run_id="job7.0.1",
    endpoint="node1:29401",
    rendezvous={"is_host": True},
    max_restarts=3,
    arguments=("-m", "signs_dist.train", "--run-dir", "my run"),
    shutdown_seconds=90,
)
FIELDS_OF_TORCH_2_6 = {
    *("min_nodes", "max_nodes", "nproc_per_node", "logs_specs", "run_id", "role", "rdzv_endpoint", "rdzv_backend"),
    *("rdzv_configs", "rdzv_timeout", "max_restarts", "monitor_interval", "start_method", "log_line_prefix_template"),
    *("metrics_cfg", "local_addr"),
}


def failure(folder: Path, rank: int, exit_code: int, error: Any = None, *, at: int = 1) -> ProcessFailure:
    """A failed worker; `error` is the message of its error file, as torch or this project writes it."""
    path = folder / f"{rank}.json"
    if isinstance(error, str):
        path.write_text(json.dumps({"message": error, "timestamp": at}))
    elif error is not None:
        path.write_text(json.dumps({"message": {**error, "extraInfo": {**error["extraInfo"], "timestamp": str(at)}}}))
    return ProcessFailure(local_rank=rank, pid=100 + rank, exitcode=exit_code, error_file=str(path))


def test_settings_are_read_as_written(tmp_path: Path) -> None:
    SETTINGS.write(tmp_path)
    read = AgentSettings.read(tmp_path)
    assert dataclasses.replace(read, arguments=tuple(read.arguments)) == SETTINGS


def test_a_failure_is_read_as_written(tmp_path: Path) -> None:
    assert WorkerFailure.read(tmp_path) is None
    WorkerFailure(137, "── card\ntwo lines").write(tmp_path)
    assert WorkerFailure.read(tmp_path) == WorkerFailure(137, "── card\ntwo lines")


@pytest.mark.parametrize(
    ("exit_code", "error", "expected"),
    [
        (3, None, WorkerFailure(3, "rank 1: exit code 3, without a message on standard error")),
        (-9, None, WorkerFailure(137, "rank 1: Signal 9 (SIGKILL) received by PID 101")),
        (2, "no such file", WorkerFailure(2, "rank 1: no such file")),
        (1, {"message": "short", "extraInfo": {"py_callstack": "\nthe card"}}, WorkerFailure(1, "\nthe card")),
        (1, {"message": "short", "extraInfo": {}}, WorkerFailure(1, "short")),
    ],
)
def test_a_failure_has_the_exit_code_and_the_words_of_its_worker(
    tmp_path: Path, exit_code: int, error: Any, expected: WorkerFailure
) -> None:
    assert find_first_failure(ChildFailedError("train", {1: failure(tmp_path, 1, exit_code, error)})) == expected


def test_the_first_failure_is_the_earliest(tmp_path: Path) -> None:
    failures = {0: failure(tmp_path, 0, -15, "ended", at=200), 1: failure(tmp_path, 1, 3, "the cause", at=100)}
    assert find_first_failure(ChildFailedError("train", failures)) == WorkerFailure(3, "rank 1: the cause")


def test_torch_gets_the_settings(tmp_path: Path) -> None:
    config = build_config(SETTINGS, tmp_path)
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.max_restarts) == (2, 2, 4, 3)
    assert (config.rdzv_backend, config.rdzv_endpoint, config.run_id) == ("c10d", "node1:29401", "job7.0.1")
    assert config.rdzv_configs["is_host"] is True
    assert config.role == "default"
    assert config.logs_specs is not None
    assert config.logs_specs.root_log_dir == str(tmp_path / "workers")


def test_on_one_machine_the_agent_and_its_workers_meet_on_loopback(tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, num_nodes=1, endpoint="127.0.0.1:0", rendezvous={})
    config = build_config(settings, tmp_path)
    assert (config.rdzv_backend, config.local_addr) == ("c10d-loopback", "127.0.0.1")
    parameters = RendezvousParameters(config.rdzv_backend, config.rdzv_endpoint, config.run_id, 1, 1, config.local_addr)
    handler = get_rendezvous_handler(parameters)
    assert handler.get_backend() == "c10d-loopback"
    found = handler.next_rendezvous()
    # The first is where agents meet, the second is MASTER_ADDR and MASTER_PORT of the workers.
    ports = {handler._store.port, found.bootstrap_store_info.master_port}  # type: ignore[union-attr]
    assert len(ports) == 2
    assert found.bootstrap_store_info.master_addr == "127.0.0.1"
    listening = listening_addresses(os.getpid())
    assert {address for address, port in listening if port in ports} == {"127.0.0.1"}
    handler.shutdown()


def test_all_releases_of_torch_that_are_supported_have_the_fields(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("torch.distributed.launcher.api.LaunchConfig", lambda **fields: given.update(fields))
    build_config(SETTINGS, tmp_path)
    assert set(given) <= FIELDS_OF_TORCH_2_6


@pytest.mark.parametrize(
    ("seconds", "fields", "expected"),
    [
        (None, {"shutdown_timeout"}, {}),
        (90, {"run_id", "shutdown_timeout"}, {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "90"}),
        (90, FIELDS_OF_TORCH_2_6, {}),  # it kills after 30 seconds: workers must not rely on 90
    ],
)
def test_the_time_to_end_is_told_only_where_torch_keeps_to_it(
    seconds: int | None, fields: set[str], expected: dict[str, str]
) -> None:
    assert choose_shutdown_variables(seconds, fields) == expected


def test_torch_takes_the_time_to_end_from_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = choose_shutdown_variables(90, {field.name for field in dataclasses.fields(LaunchConfig)})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = build_config(SETTINGS, tmp_path)
    assert getattr(config, "shutdown_timeout", None) == (90 if variables else None)


def test_the_second_signal_does_not_interrupt_what_the_first_began() -> None:
    stopped: list[int] = []
    handle = make_handler(stopped.append)
    handle(signal.SIGUSR2, None)
    handle(signal.SIGUSR2, None)
    assert stopped == [signal.SIGUSR2]


@pytest.mark.skipif(not hasattr(LaunchConfig, "signals_to_handle"), reason="this torch handles SIGHUP in any case")
@pytest.mark.parametrize(
    ("handler", "names"),
    [(signal.SIG_IGN, "SIGTERM,SIGINT,SIGQUIT"), (signal.SIG_DFL, "SIGTERM,SIGINT,SIGHUP,SIGQUIT")],
)
def test_an_agent_below_nohup_leaves_sighup_ignored(tmp_path: Path, handler: signal.Handlers, names: str) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    try:
        config = honour_nohup(build_config(SETTINGS, tmp_path))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert config.signals_to_handle == names


@pytest.mark.parametrize(("given", "code", "left"), [(b"\n", 0, "''"), (b"", 1, "")])
def test_the_agent_starts_workers_when_its_launcher_says_so(given: bytes, code: int, left: str) -> None:
    program = "import sys; from launch.elastic_agent import await_go; await_go(); print(repr(sys.stdin.read()))"
    ended = subprocess.run([sys.executable, "-c", program], input=given, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout.decode().strip()) == (code, left)


def test_the_agent_ends_with_what_is_registered_for_its_exit() -> None:
    program = (
        "import atexit; from launch.elastic_agent import end\n"
        "atexit.register(lambda: print('registered')); print('before', end=' '); end(3)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "before registered\n", "")
    closed = ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, "from launch.elastic_agent import end; end(3)"]
    ended = subprocess.run(closed, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (3, "")
