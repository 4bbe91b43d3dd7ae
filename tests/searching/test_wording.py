"""Sweeps in words and tables."""

from __future__ import annotations

import json
from pathlib import Path

from signs_dist.results.summary import RunSummary, State
from signs_dist.results.sweeps import SweepRun, SweepSummary, SweepTrial
from signs_dist.searching.wording import (
    describe_best,
    describe_planned,
    describe_sweep,
    to_json,
)


def trial(number: int, rate: float, state: State = "finished", mean: float | None = None, **more: object) -> SweepTrial:
    path = Path(f"runs/lr/trials/id{number}")
    run = SweepRun(id=f"id{number}", seed=0, summary=RunSummary(path=path, state="finished"), value=mean, state=state)
    chosen = {"optim.lr": rate} | ({"optim.name": "sgd"} if number else {})
    return SweepTrial(number=number, chosen=chosen, runs=(run, run), state=state, mean=mean, **more)  # type: ignore[arg-type]


SWEEP = SweepSummary(
    path=Path("runs/lr"),
    search="grid",
    measure="val_accuracy",
    names=("optim.lr", "optim.name"),
    seeds=(0, 1),
    num_trials=4,
    trials=(
        trial(0, 0.1, mean=0.75, sd=0.012, test_accuracy=0.7),
        trial(1, 0.0312345678, mean=0.8, sd=0.01, test_accuracy=0.81),
        trial(2, 3.0, "failed", why="the loss is not a finite number"),
        trial(3, 1.0, "pruned", why="epoch 2: 0.3, 2 of 2 other trials are better", best_so_far=0.3),
    ),
)

TABLE = """\
runs/lr: grid, 4 trials with seeds 0, 1: 2 finished, 1 failed, 1 pruned

trial  optim.lr  optim.name  val_accuracy  test    runs  state     why
1      0.03123   sgd         80.0 ± 1.0 %  81.0 %  2/2   finished
0      0.1       -           75.0 ± 1.2 %  70.0 %  2/2   finished
2      3         sgd         -             -       0/2   failed    the loss is not a finite number
3      1         sgd         (30.0 %)      -       0/2   pruned    epoch 2: 0.3, 2 of 2 other trials are better"""


def test_the_table_has_the_best_first_and_hides_none() -> None:
    assert describe_sweep(SWEEP) == TABLE


def test_a_sweep_without_trials() -> None:
    empty = SweepSummary(path=Path("s"), search="tpe", measure="val_loss", names=(), seeds=(), num_trials=1, trials=())
    assert describe_sweep(empty) == "s: tpe, 1 trial: none begun"


def test_the_best_with_the_command_to_train_it() -> None:
    best = SWEEP.best
    assert best is not None
    assert describe_best(SWEEP, best) == (
        "trial 1: val_accuracy 80.0 ± 1.0 %, mean over seeds 0, 1, the best of 2\n"
        "  optim.lr = 0.03123\n"
        "  optim.name = sgd\n"
        "its config           runs/lr/trials/id1/config.yaml\n"
        "to train it again    python -m signs_dist.train --config runs/lr/trials/id1/config.yaml "
        "--run-dir runs/lr-best\n"
        "to evaluate it       python -m signs_dist.evaluate runs/lr/trials/id1"
    )


def test_as_json() -> None:
    values = json.loads(json.dumps(to_json(SWEEP)))
    assert (values["best"], values["by"], [each["number"] for each in values["trials"]]) == (
        *(1, "val_accuracy", [1, 0, 2, 3]),
    )
    assert values["trials"][2]["why"] == "the loss is not a finite number"
    assert values["trials"][0]["runs"][0]["path"] == "runs/lr/trials/id1"


def test_a_plan() -> None:
    assert describe_planned(Path("s"), {0: [["train", "a b"]], 1: []}, {0: "x=1", 1: "x=2"}) == (
        "s: 2 trials, 1 runs to train\ntrial 0  x=1\n    train 'a b'\ntrial 1  x=2  (all runs are finished)"
    )
