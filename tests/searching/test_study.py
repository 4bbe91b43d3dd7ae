"""A search by Optuna, on small functions in place of trainings."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.searching.definition import Definition
from signs_dist.searching.planning import begin
from signs_dist.searching.sources import Ending
from signs_dist.searching.space import Choices, Range
from signs_dist.searching.study import StudySource, hide_password, open_study
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Trial

optuna = pytest.importorskip("optuna")

TPE = Definition(
    search="tpe",
    num_trials=6,
    space=(
        Choices(name="optim.name", values=("sgd", "adamw")),
        Range(name="optim.lr", low=0.001, high=0.3, is_log=True),
        Range(name="optim.momentum", low=0.5, high=0.9, when={"optim.name": "sgd"}),
        Choices(name="data.mean", values=([0.5, 0.5, 0.5], [0.4, 0.4, 0.4])),
        Range(name="train.global_batch", low=16, high=64, step=16, is_whole=True),
    ),
)


def open_source(path: Path, definition: Definition = TPE) -> tuple[StudySource, Any]:
    """The source of a sweep's command that begins, or begins again, in a folder."""
    folder = SweepFolder(path)
    with folder.held():
        known = begin(definition, folder)
    study = open_study(definition, folder)
    is_shared = bool(definition.storage)
    source = StudySource(definition, None, folder, study, known, first_number=len(known), is_shared=is_shared)
    return source, study


def value_of(trial: Trial) -> float:
    return -abs(trial.chosen["optim.lr"] - 0.05)


def take(source: StudySource, count: int) -> list[Trial]:
    """So many trials, all finished."""
    found = []
    while len(found) < count and (trial := source.next_trial()) is not None:
        source.tell(trial, Ending("finished", value_of(trial)))
        found.append(trial)
    return found


def test_a_search_is_the_same_however_often_it_is_begun_again(tmp_path: Path) -> None:
    whole, study = open_source(tmp_path / "whole")
    trials = take(whole, 99)
    assert [trial.number for trial in trials] == list(range(6))
    assert len({trial.key for trial in trials}) == 6
    assert all(("optim.momentum" in each.chosen) == (each.chosen["optim.name"] == "sgd") for each in trials)
    assert {len(each.chosen["data.mean"]) for each in trials} == {3}
    assert study.best_value == max(map(value_of, trials))
    assert whole.next_trial() is None
    for count in range(1, 7):
        source, study = open_source(tmp_path / "parts")
        take(source, count)  # those from before, and one more
    assert [trial.params for trial in study.trials] == [
        trial.params for trial in open_source(tmp_path / "whole")[1].trials
    ]


def test_trials_that_were_running_at_a_kill_are_taken_up(tmp_path: Path) -> None:
    source, _ = open_source(tmp_path / "s")
    first, second = source.next_trial(), source.next_trial()
    assert first is not None
    assert second is not None
    source.tell(first, Ending("finished", 0.5))
    source, study = open_source(tmp_path / "s")
    assert [source.next_trial(), source.next_trial()] == [first, second]
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]
    source.tell(first, Ending("finished", 0.5))
    source.tell(second, Ending("finished", 0.7))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert study.best_value == 0.7


def test_a_kill_before_the_sweep_noted_its_trial_loses_none(tmp_path: Path) -> None:
    source, study = open_source(tmp_path / "s")
    trial = source.next_trial()
    study.ask()  # killed before it had chosen
    record = tmp_path / "s" / "sweep.jsonl"
    record.write_text("".join(f"{line}\n" for line in record.read_text().splitlines() if '"trial":' not in line))
    source, study = open_source(tmp_path / "s")
    assert source.next_trial() == trial
    assert [each.state.name for each in study.trials] == ["RUNNING", "FAIL"]


def test_what_failed_or_was_stopped_early_counts_once_it_is_finished(tmp_path: Path) -> None:
    source, study = open_source(tmp_path / "s")
    first, second = source.next_trial(), source.next_trial()
    assert first is not None
    assert second is not None
    source.tell(first, Ending("failed", None))
    source.tell(second, Ending("pruned", 0.1, epoch=2))
    assert [each.state.name for each in study.trials] == ["FAIL", "PRUNED"]
    assert study.trials[1].intermediate_values == {2: 0.1}
    for _ in range(2):  # told again by the next command, it is there once
        source, study = open_source(tmp_path / "s")
        source.tell(first, Ending("finished", 0.6))
        source.tell(second, Ending("finished", 0.7))
        assert [each.state.name for each in study.trials] == ["FAIL", "PRUNED", "COMPLETE", "COMPLETE"]
    assert study.trials[2].params == study.trials[0].params


def test_two_sweeps_share_a_study_and_leave_each_other_s_trials_alone(tmp_path: Path) -> None:
    shared = dataclasses.replace(TPE, storage=f"sqlite:///{tmp_path}/study.db", study="both", num_trials=2)
    one, _ = open_source(tmp_path / "one", shared)
    running = one.next_trial()
    other, study = open_source(tmp_path / "other", shared)
    assert [trial.study_trial for trial in take(other, 9)] == [1, 2]
    assert [each.state.name for each in study.trials] == ["RUNNING", "COMPLETE", "COMPLETE"]
    again, _ = open_source(tmp_path / "one", shared)
    assert again.next_trial() == running


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/study.db", "postgresql://nobody@127.0.0.1:1/x"])
def test_a_storage_that_cannot_be_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"^--storage .* cannot be used: .*[^.]\. Type a URL such as sqlite:"):
        open_source(tmp_path / "s", dataclasses.replace(TPE, storage=url))


def test_a_study_with_another_goal(tmp_path: Path) -> None:
    shared = dataclasses.replace(TPE, storage=f"sqlite:///{tmp_path}/study.db", study="both")
    open_source(tmp_path / "one", shared)
    with pytest.raises(UserError, match=r"--study both in .* has the goal to maximize: type another"):
        open_source(tmp_path / "two", dataclasses.replace(shared, measure="val_loss"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://ann:s:ecr@t@host/name", "mysql://ann:***@host/name"),
        ("postgresql+psycopg2://ann:secret@host:5432/name", "postgresql+psycopg2://ann:***@host:5432/name"),
        ("mysql://ann@host:3306/name", "mysql://ann@host:3306/name"),
        ("sqlite:////shared/study.db", "sqlite:////shared/study.db"),
    ],
)
def test_a_password_is_not_printed(url: str, shown: str) -> None:
    assert hide_password(url) == shown


def test_the_message_about_an_unusable_storage_hides_its_password(tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        open_source(tmp_path / "s", dataclasses.replace(TPE, storage="nonsense://ann:secret@host/name"))
    assert "nonsense://ann:***@host/name" in str(raised.value)
    assert "secret" not in str(raised.value)
