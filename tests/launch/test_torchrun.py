"""Starting workers under torch's elastic agent: what is decided, and how launches of real workers end."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launch import torchrun
from launch.elastic_agent import AgentSettings, WorkerFailure
from launch.torchrun import (
    LaunchPlan,
    Rendezvous,
    _end_orphans,
    choose_exit_code,
    choose_log_level,
    choose_thread_variables,
    describe_early_stop,
    describe_start,
    last_lines,
)
from signs_dist.environment.process_table import read_birth
from signs_dist.errors import UserError
from tests.processes import Ended, finish, program_command, run, started, wait_for

KILLED = WorkerFailure(137, "rank 1 of 2 was killed")


@pytest.mark.parametrize(
    ("agent_code", "given", "expected"),
    [
        (0, {}, 0),
        (0, {"first_signal": signal.SIGTERM}, 0),  # the workers were done
        (1, {"failure": KILLED}, 137),
        (1, {"failure": WorkerFailure(2, "error: …")}, 2),
        (1, {"failure": WorkerFailure(75, "stopped")}, 75),  # the signal came to a worker alone
        (1, {}, 1),  # torch itself refused
        (-9, {}, 137),
        (1, {"first_signal": signal.SIGTERM, "has_stopped": True}, 75),
        (1, {"first_signal": signal.SIGUSR2, "has_stopped": True}, 75),
        (1, {"first_signal": signal.SIGHUP, "has_stopped": True}, 75),
        (1, {"first_signal": signal.SIGHUP}, 129),
        (1, {"first_signal": signal.SIGINT}, 130),
        (1, {"first_signal": signal.SIGTERM}, 143),
        (1, {"first_signal": signal.SIGTERM, "failure": KILLED}, 143),
        (-9, {"first_signal": signal.SIGINT}, 130),  # Ctrl-C twice
    ],
)
def test_the_exit_code_of_a_launch(agent_code: int, given: dict[str, Any], expected: int) -> None:
    values: dict[str, Any] = {"first_signal": None, "has_stopped": False, "failure": None, **given}
    assert choose_exit_code(agent_code, **values) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"LOGLEVEL": "INFO"}, {}),
        ({"LOGLEVEL": "info"}, {"LOGLEVEL": "INFO"}),
        ({"LOGLEVEL": "ERROR"}, {"LOGLEVEL": "WARNING"}),
        ({"LOGLEVEL": "verbose"}, {"LOGLEVEL": "WARNING"}),
    ],
)
def test_torch_gets_a_log_level_that_it_knows_and_that_keeps_its_warnings(
    environment: dict[str, str], expected: dict[str, str]
) -> None:
    assert choose_log_level(environment) == expected


@pytest.mark.parametrize(
    ("environment", "num_cores", "num_processes", "expected"),
    [
        ({}, 8, 4, {"OMP_NUM_THREADS": "2"}),
        ({}, 8, 96, {"OMP_NUM_THREADS": "1"}),
        ({"OMP_NUM_THREADS": "3"}, 8, 4, {}),
    ],
)
def test_threads_are_set_unless_the_user_has_set_them(
    environment: dict[str, str], num_cores: int, num_processes: int, expected: dict[str, str]
) -> None:
    assert choose_thread_variables(environment, num_cores, num_processes) == expected


def test_the_agent_gets_the_plan() -> None:
    meeting = Rendezvous(2, "node1:29401", "job7.0.1", is_host=False)
    plan = LaunchPlan(4, {}, ("--run-dir", "a"), 3, meeting, program=("-m", "launch.job"), shutdown_seconds=90)
    assert plan.settings == AgentSettings(
        num_nodes=2,
        num_workers=4,
        run_id="job7.0.1",
        endpoint="node1:29401",
        rendezvous={"is_host": False},
        max_restarts=3,
        arguments=("-m", "launch.job", "--run-dir", "a"),
        shutdown_seconds=90,
    )


def test_a_launch_on_one_machine_has_a_name_of_its_own() -> None:
    one, other = LaunchPlan(2, {}, ()).settings, LaunchPlan(2, {}, ()).settings
    assert (one.num_nodes, one.endpoint, one.rendezvous) == (1, "127.0.0.1:0", {})
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", one.run_id)
    assert one.run_id != other.run_id


def test_the_last_lines() -> None:
    assert last_lines("\n── card\n  indented\n\n") == "── card\n  indented"
    assert last_lines("\n".join(map(str, range(100)))) == "\n".join(map(str, range(60, 100)))


def test_only_what_was_left_behind_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchrun, "ORPHAN_SECONDS", 0.3)
    with subprocess.Popen(["sleep", "60"]) as process:
        birth = read_birth(process.pid)
        _end_orphans([(process.pid, "1")])  # its number was another's when it was written down
        assert process.poll() is None
        _end_orphans([(process.pid, birth)])
        assert process.wait(timeout=5) == -signal.SIGKILL


def test_what_a_launch_waits_for_before_its_processes_start() -> None:
    alone = LaunchPlan(2, {}, ())
    assert describe_start(alone, os.getpid()).startswith(
        f"torch's agent has not started the 2 processes yet: process {os.getpid()} ("
    )
    several = LaunchPlan(2, {}, (), rendezvous=Rendezvous(3, "node1:29401", "job7"))
    assert describe_start(several, os.getpid()).endswith("), which meets the agents of 3 nodes at node1:29401")


def launch_command(folder: Path, code: str, plan: str = "") -> list[str]:
    """A launch of two workers that run `code`; `plan` changes the LaunchPlan."""
    start = (
        "import sys\n"
        "from launch.torchrun import LaunchPlan, Rendezvous, start\n"
        f"plan = dict(num_processes=2, variables={{'OMP_NUM_THREADS': '1'}}, arguments=(), program=('-c', {code!r}))\n"
        f"sys.exit(start(LaunchPlan(**{{**plan, **dict({plan})}})))"
    )
    return program_command(folder, start, starts_others=True)


def launch(folder: Path, code: str, plan: str = "", **variables: str) -> Ended:
    return without_waits(run(launch_command(folder, code, plan), folder, variables, timeout=120))


def without_waits(ended: Ended) -> Ended:
    """Without the line that a launch prints on a busy machine, where the imports take more than 10 seconds."""
    lines = ended.err.splitlines(keepends=True)
    err = "".join(line for line in lines if not line.startswith("torch's agent has not started the "))
    return dataclasses.replace(ended, err=err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "expected", "told"),
    [
        ("pass", 0, ""),
        pytest.param(
            *("import sys; sys.exit(3)", 3, "rank [01]: exit code 3, without a message on standard error\n"),
            marks=pytest.mark.cold,
        ),
        ("import os; os.kill(os.getpid(), 9)", 137, r"rank [01]: Signal 9 \(SIGKILL\) received by PID \d+\n"),
        ("import no_such_module", 1, "(Traceback [^T]*ModuleNotFoundError: No module named 'no_such_module'\n){1,2}"),
        (
            "import json, os, time\n"
            "told = {'py_callstack': '\\n── the card\\nrank 1 was killed', 'timestamp': str(int(time.time()) - 10)}\n"
            "error = {'message': {'message': 'killed', 'errorCode': 1, 'extraInfo': told}}\n"
            "if os.environ['RANK'] == '1':\n"
            "    open(os.environ['TORCHELASTIC_ERROR_FILE'], 'w').write(json.dumps(error))\n"
            "    os.kill(os.getpid(), 9)\n"
            "time.sleep(60)",
            137,
            "── the card\nrank 1 was killed\n",
        ),
        (
            "import os, time\nif os.environ['RANK'] == '0':\n    os.kill(os.getppid(), 9)\ntime.sleep(60)",
            137,
            r"rank [01]: Signal 9 \(SIGKILL\) received by PID \d+\n",
        ),
    ],
    ids=["success", "exit code", "killed", "failing import", "killed with a card", "parent killed"],
)
def test_a_launch_ends_as_its_worker_and_says_so_once(tmp_path: Path, code: str, expected: int, told: str) -> None:
    ended = launch(tmp_path, code)
    assert ended.code == expected, ended.err
    assert re.fullmatch(told, ended.err), ended.err


@pytest.mark.slow
def test_what_torch_refuses_is_shown(tmp_path: Path) -> None:
    ended = launch(tmp_path, "pass", "rendezvous=Rendezvous(2, 'localhost:x', 'a')", LOGLEVEL="verbose")
    assert ended.code == 1
    assert "The port number of the rendezvous endpoint 'localhost:x' must be an integer" in ended.err.splitlines()[-1]
    assert ended.err.count("Traceback") == 1


@pytest.mark.slow
@pytest.mark.parametrize("fork", ["1", "0"])
def test_workers_are_started_again_and_know_it(tmp_path: Path, fork: str) -> None:
    code = (
        "import os, sys\n"
        "assert ('torch' in sys.modules) == (os.environ['SIGNS_DIST_FORK'] == '1')\n"
        "names = ('RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'TORCHELASTIC_RESTART_COUNT', 'TORCHELASTIC_MAX_RESTARTS',"
        " 'OMP_NUM_THREADS', 'ROLE_NAME', 'TORCHELASTIC_RUN_ID')\n"
        "os.write(1, (' '.join(os.environ[name] for name in names) + '\\n').encode())\n"
        "sys.exit('once' if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0' and os.environ['RANK'] == '0' else 0)"
    )
    ended = launch(tmp_path, code, "max_restarts=1", SIGNS_DIST_FORK=fork)
    assert (ended.code, ended.err) == (0, "once\n")
    lines = sorted(set(ended.out.splitlines()))  # rank 1 of the first start may be stopped before it writes
    name = lines[0].split()[-1]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name)
    assert {f"0 2 2 0 1 1 default {name}", f"0 2 2 1 1 1 default {name}", f"1 2 2 1 1 1 default {name}"} <= set(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "own_code", "expected"),
    [
        pytest.param(*(signal.SIGTERM, 75, 75), marks=pytest.mark.cold),
        (signal.SIGUSR2, 75, 75),
        (signal.SIGTERM, 1, 143),
        (signal.SIGINT, 130, 130),
    ],
)
def test_workers_get_the_signal_that_the_launch_gets(
    tmp_path: Path, sent: signal.Signals, own_code: int, expected: int
) -> None:
    code = (
        "import json, os, signal, sys, time\n"
        "from pathlib import Path\n"
        "rank = os.environ['RANK']\n"
        "def stop(number, frame):\n"
        "    Path(rank).write_text(f'{number} {os.environ.get(\"TORCH_ELASTIC_SHUTDOWN_TIMEOUT\")}')\n"
        f"    error = {{'message': {{'errorCode': {own_code}}}}}\n"
        "    Path(os.environ['TORCHELASTIC_ERROR_FILE']).write_text(json.dumps(error))\n"
        f"    sys.exit({own_code})\n"
        "for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):\n"
        "    signal.signal(number, stop)\n"
        "Path(f'ready{rank}').write_text('ready')\n"
        "time.sleep(60)"
    )
    with started(launch_command(tmp_path, code, "shutdown_seconds=50"), tmp_path) as process:
        begun = time.monotonic()
        for rank in range(2):
            wait_for(tmp_path / f"ready{rank}", "ready")
        process.send_signal(sent)
        ended = without_waits(finish(process, timeout=60))
    assert (ended.code, ended.err) == (expected, "")
    assert time.monotonic() - begun < 60
    from torch.distributed.launcher.api import LaunchConfig

    told = "50" if hasattr(LaunchConfig, "shutdown_timeout") else "None"
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == [f"{sent.value} {told}"] * 2


def test_a_signal_before_a_worker_runs_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextlib.contextmanager
    def received(*_: Any) -> Iterator[list[int]]:
        yield [signal.SIGTERM]

    monkeypatch.setattr(torchrun, "_start_agent", lambda plan, folder: types.SimpleNamespace(pid=os.getpid()))
    monkeypatch.setattr(torchrun, "_wait", lambda *_: -signal.SIGTERM)
    monkeypatch.setattr(torchrun, "passing_signals", received)
    assert torchrun.start(LaunchPlan(2, {}, ())) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM before training began: repeat the command\n"


def test_a_launch_that_is_refused_starts_no_worker(tmp_path: Path) -> None:
    def refuse() -> None:
        raise UserError("refused")

    code = "from pathlib import Path; Path('begun').touch()"
    plan = LaunchPlan(2, {"OMP_NUM_THREADS": "1"}, (), program=("-c", code), folder=str(tmp_path))
    with pytest.raises(UserError, match="refused"):
        torchrun.start(plan, check=refuse)
    assert list(tmp_path.iterdir()) == []


def test_the_line_about_an_early_signal() -> None:
    assert describe_early_stop(signal.SIGTERM) == "stopped by SIGTERM before training began: repeat the command"
    assert describe_early_stop(signal.SIGINT).startswith("stopped by Ctrl-C before")
