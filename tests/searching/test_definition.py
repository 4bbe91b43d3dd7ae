"""What a sweep is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.searching.definition import Definition, check, takes_fractions, why_other, with_words
from signs_dist.searching.space import Choices, Range

RATE = Range(name="optim.lr", low=0.01, high=0.1)
LIST = Choices(name="optim.lr", values=(0.1, 0.03))
GRID = Definition(space=(LIST,), seeds=(0, 1))
TOO_MANY = tuple(Choices(name=f"model.args.{name}", values=tuple(range(10))) for name in "abcdefghijklmno")
DRAWS = Definition(space=(RATE,), search="random", num_trials=3)


def test_words_of_the_command_line() -> None:
    found = with_words(Definition(), ["optim.lr=0.1,0.03", "train.epochs=3", "seeds=0,1", "data.mean=[0.1, 0.2, 0.3]"])
    assert found.space == (LIST,)
    assert found.seeds == (0, 1)
    assert found.settings == ("train.epochs=3", "data.mean=[0.1, 0.2, 0.3]")
    assert with_words(Definition(), ["seeds=4"]).seeds == (4,)
    assert with_words(Definition(), ["seed=4"]) == Definition(settings=("seed=4",))


def test_words_override_a_file() -> None:
    file = Definition(settings=("train.epochs=5", "seed=3"), space=(RATE, Choices(name="a", values=(1, 2))))
    assert with_words(file, ["optim.lr=0.1,0.03"]).space == (LIST, Choices(name="a", values=(1, 2)))
    found = with_words(file, ["optim.lr=0.5", "train.epochs=7"])
    assert found.space == (Choices(name="a", values=(1, 2)),)
    assert found.settings == ("seed=3", "optim.lr=0.5", "train.epochs=7")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["optim.lr=0.1", "optim.lr=0.3"], "optim.lr is given twice. Type optim.lr= once, with all values."),
        (["seed=1", "seeds=2,3"], "seeds is given twice"),
        (["optim.lr="], "'optim.lr=': type NAME=VALUE,VALUE"),
        (["seeds=1,1"], "1 is given twice"),
        (["seeds=-1,1"], "seeds: -1 is not legal. It takes whole numbers from 0"),
        (["seeds=a,b"], "seeds: a is not legal"),
    ],
)
def test_words_that_are_refused(words: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        with_words(Definition(), words)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"space": (), "seeds": ()}, "nothing is searched. Type a setting with several values"),
        ({"space": (RATE,)}, "optim.lr is a range, and a grid has values only. Add --search random or tpe."),
        ({"num_trials": 3}, "--trials is for --search random and tpe"),
        ({"search": "random"}, "--search random needs a number of trials. Add --trials 20"),
        ({"search": "tpe", "num_trials": 0}, "--trials 0: at least 1."),
        ({"space": TOO_MANY}, "the grid has more than 1,000 trials, the most in one sweep. Omit some values."),
        ({"search": "random", "num_trials": 1001}, "1,001 trials; at most 1,000 in one sweep."),
        ({"seeds": tuple(range(1001))}, "seeds: 1,001 are given; at most 1,000 in one sweep. Type fewer seeds."),
        (
            {"search": "random", "num_trials": 200, "seeds": tuple(range(51))},
            "200 trials with 51 seeds are 10,200 runs; at most 10,000 in one sweep. With these trials, "
            "type at most 50 seeds.",
        ),
        ({"search": "random", "num_trials": 3, "space": ()}, "--search random needs a setting to search"),
        ({"settings": ("optim.lr=3",)}, "optim.lr is both set and searched. Omit one of the two."),
        ({"settings": ("seed=3",)}, "seed and seeds are both given. Omit seed."),
        ({"space": (Choices(name="seed", values=(1, 2)),)}, "seed is not searched"),
        ({"storage": "sqlite:///a.db"}, "--storage and --study are for --search tpe. Omit them."),
        ({"search": "tpe", "num_trials": 3, "storage": "sqlite://"}, "--storage sqlite:// ends with this command."),
    ],
)
def test_parts_that_contradict_each_other(changes: dict[str, Any], told: str) -> None:
    assert check(GRID) == GRID
    with pytest.raises(UserError) as caught:
        check(dataclasses.replace(GRID, **changes))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("before", "changes", "why"),
    [
        (GRID, {}, ""),
        (GRID, {"space": (Choices(name="optim.lr", values=(0.03, 0.2, 0.1)),)}, ""),
        (GRID, {"seeds": (0, 1, 2)}, ""),
        (GRID, {"measure": "val_loss", "stop_early": "median"}, ""),
        (DRAWS, {"num_trials": 5}, ""),
        (GRID, {"space": (Choices(name="optim.lr", values=(0.1,)),)}, "optim.lr has 0.03 there"),
        (GRID, {"space": ()}, "optim.lr searched there, nothing here"),
        (GRID, {"seeds": (1, 2)}, "seeds 0 there, and not here"),
        (dataclasses.replace(GRID, seeds=()), {"seeds": (1,)}, "no seeds= there"),
        (GRID, {"search": "random", "num_trials": 2}, "--search grid there, random here"),
        (DRAWS, {"num_trials": 2}, "--trials 3 there, 2 here"),
        (DRAWS, {"search_seed": 1}, "--search-seed 0 there, 1 here"),
        (DRAWS, {"space": (dataclasses.replace(RATE, high=1.0),)}, "other values or ranges there"),
        (dataclasses.replace(DRAWS, search="tpe"), {"measure": "val_loss"}, "--by val_accuracy there, val_loss here"),
    ],
)
def test_a_sweep_grows_and_does_not_become_another(before: Definition, changes: dict[str, Any], why: str) -> None:
    assert why_other(before, dataclasses.replace(before, **changes)) == why


def test_which_settings_take_fractions() -> None:
    assert takes_fractions("optim.lr")
    assert takes_fractions("optim.momentum")
    assert takes_fractions("model.args.dropout")
    assert not takes_fractions("train.global_batch")
    assert not takes_fractions("train.micro_batch")
