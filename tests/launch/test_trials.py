"""The trials of an array."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.jobs import note_job
from launch.trials import count_alive, make_trials, read_trials, trial_name, write_trials
from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from tests.slurm_cluster import answer_with


def test_a_trials_folder_can_be_told_by_people_and_taken_by_any_file_system() -> None:
    assert trial_name(3, ("seed=1", "optim.lr=0.1")) == "003-seed=1-optim.lr=0.1"
    assert trial_name(0, ("model.args={a: '/;$(x)'}",)) == "000-model.args=_a_x_"
    assert len(trial_name(0, ("x" * 500,))) == 80


def test_the_trials_of_a_folder_stay_the_same(tmp_path: Path) -> None:
    trials = make_trials(tmp_path, [("seed=0",), ("seed=1",)])
    assert [trial.path.name for trial in trials] == ["000-seed=0", "001-seed=1"]
    assert read_trials(tmp_path) == []
    write_trials(tmp_path, trials)
    assert read_trials(tmp_path) == trials == make_trials(tmp_path, [("seed=0",), ("seed=1",)])
    with pytest.raises(UserError, match=r"holds another array: 2 trials, the first with seed=0. Type the same --array"):
        make_trials(tmp_path, [("seed=0",)])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"trials": [{"name": 1}]}', '{"trials": 3}'])
def test_a_folder_that_tells_of_no_trials_is_no_array(tmp_path: Path, text: str) -> None:
    (tmp_path / "array.json").write_text(text)
    assert read_trials(tmp_path) == []


def test_a_trial_counts_while_its_newest_job_is_alive(some_slurm: Path, tmp_path: Path) -> None:
    trials = make_trials(tmp_path, [(f"seed={seed}",) for seed in range(4)])
    for trial, jobs in zip(trials, (["7_0"], ["7_1", "8"], ["7_2"], []), strict=True):
        RunFolder(trial.path).create()
        for job in jobs:
            note_job(trial.path, job, "001")
    RunFolder(trials[2].path).write_result({"finished": True})
    answer_with(some_slurm, "squeue", "7_0 RUNNING\n7_1 RUNNING\n7_2 RUNNING\n8_N/A FAILED")
    assert count_alive(trials) == 1
    assert count_alive(trials[2:]) == 0
