"""How far a run is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from launch.jobs import note_job
from launch.status import describe_array, describe_progress, describe_runs, describe_submitted_run, wrap_rows
from launch.trials import make_trials, write_trials
from signs_dist.console.screen import columns
from signs_dist.monitoring.failure_card import FailureCard
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import RequeueLine
from tests.lines import end_line, epoch_line, save_line, step_line
from tests.slurm_cluster import put_scontrol


def test_one_process_is_one(a_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder(a_run).write_result({"finished": True})
    assert "1 process, from step 0" in describe_submitted_run(a_run, ["7"])


def test_how_far_a_run_is(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path).create()
    assert describe_progress(folder) == ""
    folder.add(step_line(1234, epoch=2))
    assert describe_progress(folder) == "epoch 2 step 1,234"
    folder.add(epoch_line(1240, epoch=2, val_accuracy=0.75))
    folder.add(save_line(1240, epoch=2))
    assert describe_progress(folder) == "epoch 2 step 1,240, best val 75.0 %"
    folder.write_result({"finished": True, "stopped_early": True})
    assert describe_progress(folder) == "epoch 2 step 1,240, best val 75.0 %, ended early"


def test_attempts_are_told_one_after_the_other(a_run: Path) -> None:
    folder = RunFolder(a_run)
    folder.add(end_line(time="later", reason="stopped", seconds_lost=1.5))
    folder.add(RequeueLine(time="then", why="it was preempted", is_timeout=False, job="7"))
    folder.write_result({"finished": True})
    assert describe_submitted_run(a_run, ["6", "7"]).splitlines() == [
        f"{a_run}: finished; job 6, 7",
        "  attempt 1  now  1 process, from step 0",
        "             later  stopped, 1.5 s lost",
        "             then  requeued: it was preempted",
    ]


def test_a_run_that_has_ended_unfinished_tells_why(a_run: Path, some_slurm: Path) -> None:
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=FAILED'")
    told = describe_submitted_run(a_run, ["7"]).splitlines()
    assert told[0] == f"{a_run}: not finished (failed); job 7"
    assert told[-1] == "said by 0"


def test_the_table_of_an_array(some_slurm: Path, tmp_path: Path) -> None:
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=FAILED'")
    trials = make_trials(tmp_path, [(f"seed={seed}",) for seed in range(5)])
    write_trials(tmp_path, trials)
    folders = [RunFolder(trial.path).create() for trial in trials]
    for number, folder in enumerate(folders[:4]):
        note_job(folder.path, f"7_{number}", "001")
    folders[0].write_result({"finished": True, "val_accuracy": 0.5, "test_accuracy": 1.0})
    numbers = dict.fromkeys(("rank", "world_size", "epoch", "step", "told_by", "exit_code", "time"), 1)
    texts = dict.fromkeys(("host", "device", "log", "phase", "place"), "")
    card = FailureCard(**texts, **numbers, kind="error", error="ValueError: broken\nat length")
    (folders[1].logs / "failure-rank0.json").write_text(card.to_json())
    folders[2].add(end_line(reason="stopped by SIGTERM"))
    (folders[3].logs / "job7_3.0.rank0.txt").write_text("well\nerror: no data\n")
    assert describe_array(tmp_path).splitlines()[1].split() == [
        "trial",
        "state",
        "val",
        "test",
        "why",
        "not",
        "finished",
    ]
    assert [line.split("  ", 1)[0] for line in describe_array(tmp_path).splitlines()[2:]] == [
        f"seed={seed}" for seed in range(5)
    ]
    rows = [" ".join(line.split()) for line in describe_array(tmp_path).splitlines()[2:]]
    assert rows == [
        "seed=0 finished 50.0 % 100.0 %",
        "seed=1 not finished (failed) ValueError: broken",
        "seed=2 not finished (failed) stopped by SIGTERM",
        "seed=3 not finished (failed) no data",
        "seed=4 not submitted",
    ]
    note_job(tmp_path, "7", "001")
    assert "array: 1 of 5 finished" in describe_runs([tmp_path])


@pytest.mark.parametrize(
    ("trial", "state", "why"),
    [
        ("seed=3", "not finished (failed)", ""),
        ("seed=3", "not finished (failed)", "ValueError: " + "many words " * 12),
        ("optim.lr=0.1 seed=3 model.args={width: 3}", "not finished (failed)", "ValueError: " + "many words " * 12),
        ("model.args={a:" + "x" * 90 + "}", "running on gpu[001-128,140-150], requeued 7 times", "x" * 90),
    ],
)
def test_the_table_of_an_array_fits_80_columns(trial: str, state: str, why: str) -> None:
    head = ("trial", "state", "val", "test", "why not finished")
    rows = [head, (trial, state, "100.0 %", "100.0 %", why), ("seed=4", "finished", "", "", "")]
    table = columns(wrap_rows(rows, 80)).splitlines()
    assert max(map(len, table)) <= 80
    place = table[0].index("why not finished")
    assert "".join(line[place:] for line in table[1:]).replace(" ", "") == why.replace(" ", "")
    width = table[0].index("state")
    assert "".join(line[:width] for line in table[1:-1]).replace(" ", "") == trial.replace(" ", "")
    end = table[0].index("val")
    assert "".join(line[width:end] for line in table[1:-1]).replace(" ", "") == state.replace(" ", "")
    assert table[-1].startswith("seed=4")


@pytest.mark.parametrize("content", ["", "{", "[]", "\0\0"])
def test_a_torn_result_is_no_finish(a_run: Path, some_slurm: Path, content: str) -> None:
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=COMPLETED'")
    (a_run / "result.json").write_text(content)
    assert f"{a_run}: not finished (" in describe_submitted_run(a_run, ["7"])


def test_the_result_of_an_earlier_job_is_not_that_of_the_last(a_run: Path, some_slurm: Path) -> None:
    """It was submitted to be trained further."""
    put_scontrol(some_slurm, "echo 'JobId=7 JobState=PENDING'")
    folder = RunFolder(a_run)
    folder.write_result({"finished": True})
    long_ago = time.time() - 3600
    os.utime(folder.result, (long_ago, long_ago))
    assert "finished" not in describe_submitted_run(a_run, ["7"])
    folder.write_result({"finished": True})
    assert f"{a_run}: finished; job 7" in describe_submitted_run(a_run, ["7"])
