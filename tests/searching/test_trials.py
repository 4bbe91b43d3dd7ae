"""The trials of a sweep, and their names."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from signs_dist.checkpointing.resume_rules import FREE
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from signs_dist.searching.definition import Definition
from signs_dist.searching.space import Choices, Range
from signs_dist.searching.trials import (
    NOT_IN_ID,
    differences_of_base,
    find_trial,
    make_trial,
    numbered,
    planned_choices,
    require_legal,
    run_id,
)

RATES = Choices(name="optim.lr", values=(0.1, 0.03))


def test_an_id_is_of_what_is_trained() -> None:
    one = run_id(load_config(None, ["optim.lr=0.05", "train.epochs=3"]))
    assert one == run_id(load_config(None, ["train.epochs=3", "optim.lr=0.05", "loss.label_smoothing=0.1"]))
    assert one == run_id(load_config(None, ["train.epochs=3", "optim.lr=0.05", "data.root=/x", "data.num_workers=3"]))
    assert one != run_id(load_config(None, ["train.epochs=3", "optim.lr=0.05", "seed=1"]))
    assert len(one) == 12
    # What says where files are counts if it is searched: two data sets are two trials.
    roots = [run_id(load_config(None, [f"data.root={root}"]), ("data.root",)) for root in ("/x", "/y")]
    assert len(set(roots)) == 2


def test_an_id_stays_as_it_is() -> None:
    """A sweep that was begun with an earlier release goes on."""
    assert run_id(load_config(None, ["optim.lr=0.05", "data.mean=[0.1, 0.2, 0.3]", "seed=3"])) == "84c444e79870"


def test_settings_outside_of_an_id_are_those_that_may_change_in_a_run() -> None:
    assert set(NOT_IN_ID) == set(FREE)


def test_a_trial_has_a_run_for_each_seed() -> None:
    definition = Definition(settings=("train.epochs=3",), space=(RATES,), seeds=(4, 5))
    trial = make_trial(definition, None, {"optim.lr": 0.03}, 7)
    assert [run.settings for run in trial.runs] == [
        ("train.epochs=3", "optim.lr=0.03", "seed=4"),
        ("train.epochs=3", "optim.lr=0.03", "seed=5"),
    ]
    assert [run.num_epochs for run in trial.runs] == [3, 3]
    assert len({run.id for run in trial.runs}) == 2
    (alone,) = make_trial(Definition(space=(RATES,)), None, {"optim.lr": 0.03}, 7).runs
    assert (alone.seed, alone.settings) == (None, ("optim.lr=0.03",))


def test_a_choice_that_the_config_refuses_is_told() -> None:
    with pytest.raises(UserError, match=r"optim.lr=-1: -1 is not legal"):
        make_trial(Definition(space=(RATES,)), None, {"optim.lr": -1}, 0)
    wide = Range(name="optim.momentum", low=0.5, high=1.5)
    with pytest.raises(UserError, match=r"optim.momentum=1.5: 1.5 is not legal"):
        require_legal(Definition(space=(wide,), search="tpe", num_trials=3), None)


def test_trials_keep_their_numbers_when_a_grid_grows() -> None:
    known = [(0, {"a": 1}), (1, {"a": 3})]
    assert numbered([{"a": 1}, {"a": 2}, {"a": 3}], known) == [(0, {"a": 1}), (1, {"a": 3}), (2, {"a": 2})]
    assert numbered([{"a": 1}, {"a": 1}], []) == [(0, {"a": 1})]


def test_a_random_search_that_grows_keeps_its_first_trials() -> None:
    space = (Range(name="optim.lr", low=0.01, high=0.1),)
    few, many = (planned_choices(Definition(space=space, search="random", num_trials=count)) for count in (3, 5))
    assert many[:3] == few
    random.seed(0)
    assert planned_choices(Definition(space=space, search="random", num_trials=3)) == few


def test_what_all_runs_share_is_compared_as_whole_configs(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("train: {epochs: 3}\n")
    new.write_text("train:\n  epochs: 3   # as before\ndata: {cache: elsewhere}\n")
    assert differences_of_base((old, ()), (new, ()), ["optim.lr=0.1"]) == []
    assert differences_of_base((old, ()), (new, ("train.epochs=4",)), []) == ["train.epochs: 3 → 4"]


def test_a_trial_is_found_by_number_or_folder() -> None:
    trials = [make_trial(Definition(space=(RATES,)), None, {"optim.lr": rate}, n) for n, rate in enumerate((0.1, 0.03))]
    assert find_trial(trials, "1") is trials[1]
    assert find_trial(trials, trials[0].runs[0].id[:6]) is trials[0]
    with pytest.raises(UserError, match=r"--resume 2: no such trial. Type the number of a trial \(0 to 1\)"):
        find_trial(trials, "2")
