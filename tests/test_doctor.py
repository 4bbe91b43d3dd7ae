"""The command doctor: alone, with planted faults, and on real ranks of which one hangs."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from signs_dist.console.command import run_command
from signs_dist.doctor import main as doctor
from signs_dist.errors import UserError
from signs_dist.health import beginning, connections, cores, examination, run_folder, versions
from signs_dist.health.finding import Finding, places_of
from signs_dist.health.visit import Visit
from tests.processes import PATIENCE, environment, finish, free_port, program_command, rank_environment, run, started

CONFIG = ["model.name=mlp", "model.args={}", "data.image_size=8"]


def by_check(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["check"]: each for each in found["findings"]}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """In a folder of its own, with measurements that take no second."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cores, "read_busy", lambda: 0.0)
    good = {"seconds": 0.01, "computed": 1.0, "waited": 0.0, "is_on_gpu": False}
    monkeypatch.setattr(examination.compute, "measure", lambda device: good)
    monkeypatch.setattr(examination.arithmetic, "measure", _no_measure(examination.arithmetic.measure))
    return tmp_path


def _no_measure(measure: Any) -> Any:
    """The same with the smallest network."""
    from signs_dist.config.reading import load_config

    return lambda config, device, host: measure(load_config(None, CONFIG), device, host)


def test_alone_nothing_fails_and_nothing_stays(quick: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = environment()
    assert run_command(doctor, ["--json", "found.json"]) == 0
    said = capfd.readouterr().out
    found = json.loads((quick / "found.json").read_text())
    assert [path.name for path in quick.iterdir()] == ["found.json"]
    checks = list(dict.fromkeys(each["check"] for each in found["findings"]))
    assert checks[:4] == ["versions", "devices", "cores", "/dev/shm"]
    assert {"run folder", "same view", "ports", "clocks", "all-reduce", "arithmetic", "data", "slurm"} <= set(checks)
    assert "fail" not in {each["status"] for each in found["findings"]}
    assert {each["status"] for each in found["findings"]} <= {"ok", "warn", "skip"}
    assert [line.split()[0] for line in said.splitlines() if line[:1].isalpha()] == [
        each["status"] for each in found["findings"]
    ]
    assert max(len(line) for line in said.splitlines() if str(quick) not in line) <= 80
    assert by_check(found)["data"]["measured"].startswith("not measured, since no config is given: type --config FILE")
    assert before == environment()


def test_a_fault_ends_with_1_and_says_what_mends_it(
    quick: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"folder": str(quick), "problem": "cannot make a folder: Read-only file system"}
    monkeypatch.setattr(run_folder, "measure", lambda folder: bad)
    monkeypatch.setattr(versions, "read_versions", lambda: {"torch": "2.2.0", "numpy": "2.1.0"})
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(quick / "error.json"))  # torchrun's report says what is in it
    assert run_command(doctor, ["--quiet"]) == 1
    said = capfd.readouterr().out
    assert "fail  versions       torch 2.2.0 was built for numpy 1\n" in said
    assert 'to mend:  pip install "numpy<2"\n' in said
    assert "Read-only file system" in said
    assert f"mount -o remount,rw {quick}" in " ".join(said.split())
    assert "\nok " not in said
    assert said.splitlines()[-1].startswith("2 fail, ")
    reported = json.loads((quick / "error.json").read_text())["message"]["message"]
    assert reported == "the doctor found what is to be mended: versions, run folder"


def test_a_check_that_hangs_is_told(
    quick: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    let_go = threading.Event()
    monkeypatch.setitem(examination.LIMITS, "run folder", 0.1)
    monkeypatch.setattr(run_folder, "measure", lambda folder: let_go.wait(30))
    ended: list[int] = []
    monkeypatch.setattr("signs_dist.monitoring.signals.end_now", ended.append)
    assert run_command(doctor, ["--quiet"]) == 1
    let_go.set()
    assert ended == [1]  # a thread that hangs would keep Python from its end
    assert "fail  run folder     this process: no answer within 0.1 s\n" in capfd.readouterr().out


@pytest.mark.parametrize("reading", [{"folder": "/runs", "problem": "cannot make a folder: Read-only"}, None])
def test_nobody_looks_for_what_rank_0_cannot_write(reading: dict[str, Any] | None) -> None:
    places, told = places_of({0: "n1", 1: "n2"}), []

    def gather(name: str, *_: object) -> tuple[dict[int, Any], list[Finding]]:
        assert name == "run folder"
        other = {1: {"folder": "/runs", "free_bytes": 2**40, "write_bytes_per_second": 1e9}}
        return ({0: reading} if reading else {}) | other, []

    visit = SimpleNamespace(is_main=True, leaders=[0, 1], places=places, token=b"", gather=gather, say=told.extend)
    examination.check_run_folder(cast("Visit", visit), Path("/runs"))
    assert [each.status for each in told if each.check == "same view"] == ["skip"]
    assert told[-1].measured.startswith("rank 0 on n1 cannot write to the run folder, ")


def test_data_that_are_not_there(quick: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(doctor, ["--quiet", "data.root=nowhere"]) == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "fail data " in said
    assert "to mend: --config FILE and data.root=PHOTOS of the run" in said


def test_without_loopback_all_else_is_told(
    quick: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down() -> str:
        raise UserError("this machine does not reach itself")

    monkeypatch.setattr(connections, "find_loopback", down)
    assert run_command(doctor, []) == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "fail loopback this process: this machine does not reach itself expected: " in said
    assert "as root: ip link set lo up" in said
    assert "ok arithmetic one rank" in said  # which comes later


def test_ranks_that_do_not_come_are_named(
    quick: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rank_environment(0, 3, free_port()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(beginning, "MEETING_SECONDS", 0.5)
    assert run_command(doctor, []) == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "fail meeting ranks 1, 2 of 3 never arrived: rank 0 on " in said
    assert "ok versions " in said  # what is known without them is told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--run-dir", "/etc/hostname"], "--run-dir /etc/hostname is a file. Name a folder."),
        (["--signal-seconds", "0"], "--signal-seconds 0: at least 1."),
        (["data.rot=here"], "data.rot"),
        (["--device", "gpu"], "--device gpu: it must be auto, cpu, cuda, cuda:N"),
    ],
)
def test_wrong_input(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(doctor, arguments) == 2
    assert told in capsys.readouterr().err


PROGRAM = """
import os, signal, sys
from signs_dist import doctor
from signs_dist.console.command import run_command
from signs_dist.health import examination

examination.LIMITS["run folder"] = 1.0
rank = int(os.environ["RANK"])
if rank == 1:
    os.environ["SLURMD_NODENAME"] = "no-such-machine.invalid"
else:
    os.environ["SLURMD_NODENAME"] = "localhost"
if rank == 2:
    examination.check_run_folder = lambda visit, folder: os.kill(os.getpid(), signal.SIGSTOP)
sys.exit(run_command(doctor.main))
"""


@pytest.mark.slow
def test_a_rank_that_hangs_and_a_name_without_address_are_named(tmp_path: Path) -> None:
    """Three real ranks: the name of rank 1's machine does not resolve, and rank 2 is stopped in mid-examination."""
    port = free_port()
    command = program_command(tmp_path, PROGRAM, "--json", "found.json")
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(started(command, tmp_path, rank_environment(rank, 3, port))) for rank in range(3)
        ]
        main, other = (finish(process, PATIENCE) for process in processes[:2])
    assert (main.code, other.code) == (1, 0), main.out + main.err + other.out + other.err
    found = json.loads((tmp_path / "found.json").read_text())
    told = {each["check"]: each["measured"] for each in found["findings"] if each["status"] in ("fail", "skip")}
    assert told["ranks"] == "rank 2 on localhost did not answer in the check 'run folder' within 6 s"
    assert told["names"].startswith("rank 0 on localhost found no address for no-such-machine.invalid: ")
    assert told["ports"] == (
        "rank 0 on localhost does not reach rank 1 on no-such-machine.invalid: no-such-machine.invalid has no address"
    )
    assert told["all-reduce"] == "not measured: rank 2 on localhost does not answer, and it needs all ranks"
    assert other.out == ""


@pytest.mark.slow
def test_three_ranks_of_a_launcher(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "launch.local", "--nproc", "3", "--module", "signs_dist.doctor"]
    ended = run([*launch, "--", "--json", "found.json", "--run-dir", "."], tmp_path)
    assert ended.code == 0, ended.out + ended.err
    found = json.loads((tmp_path / "found.json").read_text())
    checks = by_check(found)
    assert "fail" not in {each["status"] for each in found["findings"]}
    assert checks["ports"]["measured"] == "6 connections, each way between all ranks"
    assert "from each of 3 ranks over gloo" in checks["all-reduce"]["measured"]
    assert checks["arithmetic"]["measured"].startswith("the same bits on all 3 ranks")
    assert ended.out.count("\nok    versions ") == 1  # rank 0 alone prints
