"""The command prove: its flags, and real proofs on several processes."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.prove import main as prove
from tests.processes import finish, rank_environment, run, started, train_command, wait_until
from tests.proving.tampering import train_a_run

PROVE = [sys.executable, "-m", "signs_dist.prove"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_a_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "give a run folder, or a receipt: python -m signs_dist.prove RUN_DIR"),
        (["runs/a", "--receipt", "r.json"], "give a run folder, or a receipt"),
        (["--receipt", "r.json", "--all"], "--receipt has no states to begin from"),
        (["--receipt", "r.json", "--segments", "2"], "--receipt has no states to begin from"),
        (["runs/a", "--epochs", "2"], "--epochs is for a receipt"),
        (["runs/a", "--segments", "0"], "--segments 0: at least 1"),
        (["runs/a", "--processes", "0"], "--processes 0: at least 1"),
        (["runs/a", "--seed", "-1"], "--seed -1: at least 0"),
        (["runs/nowhere"], "runs/nowhere does not exist"),
        (["--receipt", "nowhere.json", "--data", "photos"], "nowhere.json: no such file"),
    ],
)
def test_wrong_flags(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(prove, arguments) == 2
    assert told in capsys.readouterr().err


def test_processes_of_a_launcher_start_no_proof(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in rank_environment(0, 2, 29500).items():
        monkeypatch.setenv(name, value)
    assert run_command(prove, ["runs/a"]) == 2
    assert "prove starts its own processes" in capsys.readouterr().err


def test_a_proof_is_told_and_written_into_the_receipt(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = tmp_path / "receipt.json"
    assert run_command(prove, [str(finished), "--segments", "1", "--seed", "2", "--receipt-out", str(receipt)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the files agree with each other, and the chain of 4 states is whole"
    assert lines[1] == "--seed 2 chooses 1 of 4 segments:"
    assert lines[-1].startswith("PASS: 1 of 4 segments, 3 of 12 steps (25.0 %)")
    assert json.loads(receipt.read_text())["proved"][0]["seed"] == 2


def test_a_new_seed_is_printed(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(finished), "--segments", "1", "--receipt-out", str(tmp_path / "r.json")]
    assert run_command(prove, arguments) == 0
    seed = json.loads((tmp_path / "r.json").read_text())["proved"][0]["seed"]
    assert f"--seed {seed} chooses" in capsys.readouterr().out


def test_a_forged_number_ends_with_1(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forged = shutil.copytree(finished, tmp_path / "run")
    text = (forged / "result.json").read_text()
    (forged / "result.json").write_text(text.replace('"test_correct": ', '"test_correct": 1', 1))
    assert run_command(prove, [str(forged)]) == 1
    assert "FAIL: the files of the run do not agree" in capsys.readouterr().out


def test_a_receipt_that_cannot_be_written_is_told_and_no_fault_of_the_run(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, value: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("signs_dist.proving.proof.write_json", refuse)
    assert run_command(prove, [str(finished), "--segments", "1"]) == 0
    assert "the receipt was not written: " in capsys.readouterr().out


def test_a_receipt_wants_to_know_where_the_photos_are(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(prove, ["--receipt", str(finished / "receipt.json")]) == 2
    told = "the run has trained on colours: say where these photos are on this machine: --data PATH"
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_real_photos_on_two_processes_and_from_a_receipt_on_three(tmp_path: Path, real_photos: Path) -> None:
    settings = [
        "exact=true",
        "train.micro_batch=8",
        "train.epochs=2",
        "train.epoch_steps=3",
        "model.name=signs_net",
        "model.args={channels: 4, dropout: 0.3}",
        f"data.root={real_photos}",
        f"data.cache={tmp_path / 'cache'}",
    ]
    trained = run([*train_command("--run-dir", "run", "--quiet"), *settings], tmp_path)
    assert trained.code == 0, trained.last_lines
    proved = run([*PROVE, "run", "--all", "--processes", "2"], tmp_path)
    assert proved.code == 0, proved.last_lines
    assert "PASS: 2 of 2 segments, 6 of 6 steps (100.0 %)" in proved.out
    shutil.copy(tmp_path / "run" / "receipt.json", tmp_path / "theirs.json")
    shutil.rmtree(tmp_path / "run")
    theirs = ["--receipt", "theirs.json", "--data", str(real_photos), "--epochs", "1"]
    proved = run([*PROVE, *theirs, "--processes", "3"], tmp_path)
    assert proved.code == 0, proved.last_lines
    assert "PASS: 1 of 1 segments, 3 of 6 steps (50.0 %)" in proved.out


@pytest.mark.slow
def test_control_c_leaves_no_process(finished: Path, tmp_path: Path) -> None:
    with started([*PROVE, str(finished), "--all", "--processes", "2"], tmp_path) as process:
        wait_until(lambda: len(find_descendants(process.pid)) >= 2)
        below = find_descendants(process.pid)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert ended.code == 130, ended.last_lines
    wait_until(lambda: all(process_state(pid) == "gone" for pid in below))
