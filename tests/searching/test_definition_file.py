"""The file of a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.searching.definition import Definition, check, to_text
from signs_dist.searching.definition_file import read_definition
from signs_dist.searching.planning import plan
from signs_dist.searching.space import Choices, Range
from signs_dist.searching.sweep_folder import SweepFolder
from tests.processes import REPOSITORY

WHOLE = """\
search: random
trials: 4
search_seed: 9
seeds: [0, 1]
by: val_loss
stop_early: median
settings:
  train.epochs: 3
space:
  optim.name: [sgd, adamw]
  optim.lr: {low: 1e-3, high: 1, log: true}
  optim.momentum: {low: 0.8, high: 0.9, when: {optim.name: sgd}}
  optim.betas: {values: [[0.9, 0.99], [0.8, 0.99]], when: {optim.name: [adamw]}}
  train.global_batch: {low: 16, high: 64, step: 16}
"""
DEFINITION = Definition(
    settings=("train.epochs=3",),
    space=(
        Choices(name="optim.name", values=("sgd", "adamw")),
        Range(name="optim.lr", low=0.001, high=1, is_log=True),
        Range(name="optim.momentum", low=0.8, high=0.9, when={"optim.name": "sgd"}),
        Choices(name="optim.betas", values=([0.9, 0.99], [0.8, 0.99]), when={"optim.name": ("adamw",)}),
        Range(name="train.global_batch", low=16, high=64, step=16, is_whole=True),
    ),
    seeds=(0, 1),
    search="random",
    num_trials=4,
    search_seed=9,
    measure="val_loss",
    stop_early="median",
)


def read(folder: Path, text: str) -> Definition:
    (folder / "lr.yaml").write_text(text)
    return read_definition(folder / "lr.yaml")


def test_a_file_is_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(tmp_path, WHOLE) == DEFINITION
    assert read(tmp_path, to_text(DEFINITION, None)) == DEFINITION
    (tmp_path / "base.yaml").write_text("seed: 3\n")
    assert read(tmp_path, to_text(DEFINITION, "base.yaml")).config == tmp_path / "base.yaml"
    # A working directory with a file of the same name does not matter.
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "base.yaml").touch()
    monkeypatch.chdir(tmp_path / "work")
    assert read(tmp_path, to_text(DEFINITION, "base.yaml")).config == tmp_path / "base.yaml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("spaec: {}\n", "lr.yaml:1: unknown key spaec. Did you mean space? Legal: config, settings, space"),
        ("search: grit\n", "lr.yaml:1: search: grit is not legal. It takes grid, random, tpe. Did you mean grid?"),
        ("\ntrials: 0\n", "lr.yaml:2: trials: 0 is not legal. It takes a whole number, at least 1."),
        ("by: accuracy\n", "lr.yaml:1: by: accuracy is not legal. It takes val_accuracy, val_loss, val_macro_f1."),
        ("seeds: [0, 0]\n", "lr.yaml:1: seeds: a seed is given twice"),
        ("seeds: []\n", "lr.yaml:1: seeds: nothing is not legal"),
        (
            "config: nowhere.yaml\n",
            "lr.yaml:1: config: nowhere.yaml: no such file, neither beside",
        ),
        ("space: [1]\n", "lr.yaml:1: space: write its keys below it"),
        ("space:\n  optim.lr: 3\n", "lr.yaml:2: optim.lr: it takes a list of values, or a range such as"),
        ("space:\n  optim.lr: []\n", "lr.yaml:2: optim.lr: there is no value."),
        ("space:\n  optim.lr: [1, 1]\n", "lr.yaml:2: optim.lr: 1 is given twice."),
        (
            "space:\n  optim.lr: {low: 2, high: 1}\n",
            "lr.yaml:2: optim.lr: the range is empty: low 2 is not below",
        ),
        ("space:\n  optim.lr: {low: 1}\n", "lr.yaml:2: optim.lr: a range takes low and high"),
        ("space:\n  optim.lr:\n    low: 1\n    high: x\n", "lr.yaml:4: high: x is not legal. It takes a number."),
        ("space:\n  optim.lr: {low: 0, high: 1, log: true}\n", "lr.yaml:2: optim.lr: a logarithmic range begins above"),
        ("space:\n  optim.lr: {low: 0, high: 1, logg: true}\n", "lr.yaml:2: unknown key logg. Did you mean log?"),
        ("space:\n  optim.lr: {low: 0, high: 1, step: 2}\n", "lr.yaml:2: step: 2 is not legal."),
        ("space:\n  optim.lr: {low: 0, high: 1, step: 1.0e-320}\n", "lr.yaml:2: step: 9.99989e-321 is not legal."),
        (f"space:\n  train.epochs: {{low: 1, high: {10**400}}}\n", "is not legal. It takes a number."),
        ("space:\n  train.epochs: {low: 0.5, high: 3}\n", "lr.yaml:2: train.epochs: this setting takes whole numbers"),
        ("space:\n  a: [1]\n  a: [2]\n", "lr.yaml:3: a is given twice; line 2 sets it already."),
        ("space:\n  a: {values: [1], when: {b: 1}}\n", "lr.yaml:2: b: a condition names a setting searched before a."),
        (
            "space:\n  b: [1, 2]\n  a: {values: [1], when: {b: 3}}\n",
            "lr.yaml:3: b: 3 is never chosen for b, which takes 1, 2.",
        ),
        ("space:\n  b: {low: 1, high: 2}\n  a: {values: [1], when: {b: 1}}\n", "lr.yaml:3: b: b is a range"),
        ("- 1\n", "lr.yaml:1: a sweep is a mapping such as `space: {optim.lr: [0.1, 0.03]}`"),
        ("space: {\n", "not valid YAML"),
    ],
)
def test_what_is_no_sweep_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert told in str(caught.value)


def test_the_example_is_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    definition = check(read_definition(Path("configs/sweeps/lr.yaml")))
    trials = plan(definition, SweepFolder(tmp_path / "lr"))
    assert len(trials) == 12
    assert all("train.epochs=20" in run.settings for trial in trials for run in trial.runs)
