"""A checkpoint of another run, or a crafted one, is not loaded: each value is compared with the run that resumes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from signs_dist.checkpointing.content import find_faults
from signs_dist.checkpointing.fitting import Expected, entries_of_config, find_misfits, resumes_optimizer
from signs_dist.checkpointing.tensors import Copier, put_optimizer
from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from signs_dist.training.run_state import RunState, expected_of
from signs_dist.training.stepper import Stepper
from tests.training.parts import make_stepper

SETTINGS = ("ema.decay=0.9", "optim.name=adamw", "optim.lr=0.01", "train.num_threads=1")


@dataclasses.dataclass
class Saved:
    """A run after two steps, what it saves, and what a checkpoint must fit."""

    stepper: Stepper
    content: dict[str, Any]
    expected: Expected


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    stepper, _ = make_stepper(tmp_path_factory.mktemp("fitting"), *SETTINGS)
    state = RunState(stepper.prepared.plan, 2)
    *_, report = itertools.islice(stepper.steps(state.cursor), 2)
    state.advance()
    state.advance()
    totals = {name: tensor.numpy() for name, tensor in report.sums.tensors().items()}
    about = {"data": stepper.prepared.about_data()}
    content = state.to_content(stepper, Copier(), totals, about)
    return Saved(stepper, content, expected_of(stepper))


def misfits_after(saved: Saved, change: Callable[[dict[str, Any]], Any]) -> list[str]:
    content = copy.deepcopy(saved.content)
    change(content)
    return find_faults(content) or find_misfits(content, saved.expected)


def test_what_the_run_saved_fits(saved: Saved) -> None:
    assert find_faults(saved.content) == []
    assert find_misfits(saved.content, saved.expected) == []


def put_state(name: str, value: Any, number: int = 0) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["optimizer"]["state"][number].update({name: value})


def put_weight(part: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(content: dict[str, Any]) -> None:
        weights = content[part]["weights"] if part == "ema" else content[part]
        name = next(iter(weights))
        weights[name] = value(weights[name])

    return change


def put_group(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["optimizer"]["param_groups"][0].update({name: value})


WRONG_TENSORS: dict[str, Callable[[Tensor], Any]] = {
    "of another shape": lambda tensor: torch.zeros(3),
    "of the same size": lambda tensor: tensor.reshape(-1, 1),
    "without values": lambda tensor: torch.zeros(0),
    "a scalar": lambda tensor: torch.zeros(()),
    "of whole numbers": lambda tensor: tensor.long(),
    "of half the precision": lambda tensor: tensor.to(torch.float16),
    "of double precision": lambda tensor: tensor.double(),
    "complex": lambda tensor: tensor.to(torch.complex64),
    "NaN": lambda tensor: tensor * math.nan,
    "on no device": lambda tensor: tensor.to("meta"),
    "sparse": lambda tensor: tensor.to_sparse(),
    "expanded": lambda tensor: torch.zeros(1).expand(2**40),
    "a number": lambda tensor: 0.5,
    "text": lambda tensor: "x",
    "nothing": lambda tensor: None,
}


@pytest.mark.parametrize("wrong", WRONG_TENSORS)
@pytest.mark.parametrize("place", ["exp_avg", "exp_avg_sq", "model", "ema"])
def test_a_wrong_tensor_is_found(saved: Saved, place: str, wrong: str) -> None:
    make = WRONG_TENSORS[wrong]
    if place in ("model", "ema"):
        change = put_weight(place, make)
    else:
        change = put_state(place, make(saved.content["optimizer"]["state"][0][place]))
    found = misfits_after(saved, change)
    assert len(found) == 1
    assert len(found[0]) < 300


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (put_state("step", torch.zeros(2)), "state[0].step is float32 [2], and must be one number"),
        (put_state("step", torch.tensor(-1.0)), "state[0].step is -1, and must count steps"),
        (put_state("step", torch.tensor(0.5)), "state[0].step is 0.5"),
        (put_state("step", torch.tensor(math.nan)), "state[0].step is nan"),
        (put_state("step", torch.tensor(math.inf)), "state[0].step is inf"),
        (put_state("step", torch.tensor(1e6)), "state[0].step is 1e+06 after 16 images"),
        (lambda content: content["optimizer"]["state"][0]["exp_avg_sq"].neg_(), "holds sums of squares below 0"),
        (put_state("momentum_buffer", torch.zeros(3)), "holds step, exp_avg, exp_avg_sq, momentum_buffer, and must"),
        (lambda content: content["optimizer"]["state"][0].pop("exp_avg"), "must hold exp_avg, exp_avg_sq, step"),
        (put_state("exp_avg", torch.zeros(3), 1), "optimizer.state[1].exp_avg is float32 [3], its parameter float32 ["),
        (put_group("betas", (0.9, 0.5)), "param_groups[0].betas is a tuple of 2"),
        (put_group("weight_decay", 9.0), "param_groups[0].weight_decay is 9.0, the config's 0.0005"),
        (put_group("lr", math.nan), "param_groups[0].lr is nan"),
        (lambda content: content["optimizer"]["param_groups"].pop(), "state["),
        (lambda content: content["optimizer"].update(state={}, param_groups=[{"lr": 1.0, "params": [0]}]),
         "an optimizer of other parameters"),
        (lambda content: content["model"].clear(), "model is a dict of 0"),
        (lambda content: content["model"].popitem(), "model holds the weights of another model: missing: "),
        (lambda content: content["ema"]["weights"].update(other=torch.zeros(1)), "of another model: unexpected: other"),
        (lambda content: content.update(ema=None), "ema and config.ema.decay differ"),
        (lambda content: content.update(classes=["a", "b"], sums=None), "it has 2 classes, the data 3"),
        (lambda content: content.update(cursor={"epoch": 0, "step": 5}, images=40, sums=None),
         "step 5 of epoch 1 is beyond the 4 steps of an epoch"),
        (lambda content: content.update(cursor={"epoch": 1, "step": 1}, images=48, sums=None),
         "48 images are not those of 1 epochs and 1 steps of 8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told(saved: Saved, change: Callable[[dict[str, Any]], Any], told: str) -> None:
    assert told in misfits_after(saved, change)[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["optimizer"].update(state={}),  # no parameter had a gradient yet
        put_group("foreach", True),
        put_group("a_flag_of_another_release", True),
        put_weight("model", lambda tensor: tensor.t().contiguous().t()),  # another memory layout
        lambda content: content.update(sums=None),
    ],
)
def test_what_makes_no_difference_fits(saved: Saved, change: Callable[[dict[str, Any]], Any]) -> None:
    content = copy.deepcopy(saved.content)
    change(content)
    assert find_faults(content) + find_misfits(content, saved.expected) == []
    RunState(saved.stepper.prepared.plan, 2).restore(content, saved.stepper, Path("a.pt"))
    next(saved.stepper.steps(RunState(saved.stepper.prepared.plan, 2).cursor))


def test_nothing_is_loaded_from_what_does_not_fit(saved: Saved) -> None:
    before = [parameter.detach().clone() for parameter in saved.expected.parameters]
    content = copy.deepcopy(saved.content)
    for tensor in content["model"].values():
        tensor += 1
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)
    with pytest.raises(
        UserError, match=r"a\.pt does not fit this run: optimizer\.state\[0\]\.exp_avg is float32 \[3\]"
    ):
        RunState(saved.stepper.prepared.plan, 2).restore(content, saved.stepper, Path("a.pt"))
    assert all(torch.equal(one, other) for one, other in zip(before, saved.expected.parameters, strict=True))


def test_settings_that_the_user_has_changed_are_not_compared(saved: Saved) -> None:
    config = load_config(None, ["optim.name=adamw", "optim.lr=0.01", "ema.decay=0.9", "optim.weight_decay=0.1"])
    groups = [{**group, "weight_decay": 0.1} for group in saved.expected.groups]
    changed = dataclasses.replace(saved.expected, config=config, groups=groups)
    assert not any("param_groups" in misfit for misfit in find_misfits(saved.content, changed))


@pytest.mark.parametrize(
    ("now", "resumes"),
    [
        (["optim.name=adamw"], True),
        (["optim.name=adam"], True),  # it keeps the same state
        (["optim.name=sgd"], False),
        (["optim.name=sgd", "optim.momentum=0"], False),
        (["optim.name=rmsprop"], False),
        (["optim.name=adagrad"], False),
        (["optim.name=adam", "optim.groups=[{match: '*', lr: 0.1}]"], False),  # numbers the parameters otherwise
        (["optim.name=adam", "optim.layer_decay=0.9"], False),
        (["optim.name=adam", "model.freeze=backbone", "model.thaw_after_epochs=1"], False),
    ],
)
def test_the_state_of_another_optimizer_is_not_loaded(saved: Saved, now: list[str], resumes: bool) -> None:
    assert resumes_optimizer(saved.content["config"], load_config(None, now)) == resumes


@pytest.mark.parametrize(
    ("now", "resumes"),
    [
        (["optim.groups=[{match: head.*, lr: 0.1}]", "optim.layer_decay=0.9"], True),  # other rates, the same groups
        (["optim.groups=[{match: '*.bias', lr: 0.5}]", "optim.layer_decay=0.9"], False),
        (["optim.groups=[{match: head.*, lr: 0.5}]"], False),
        ([], False),
    ],
)
def test_the_state_is_loaded_where_the_groups_hold_the_same_parameters(now: list[str], resumes: bool) -> None:
    before = load_config(None, ["optim.groups=[{match: head.*, lr: 0.5}]", "optim.layer_decay=0.5"])
    assert resumes_optimizer(before.model_dump(mode="json"), load_config(None, now)) == resumes


def test_groups_of_a_broken_file_are_other_groups() -> None:
    assert not resumes_optimizer({"optim": {"groups": ["x", 3]}}, load_config(None, []))


@pytest.mark.parametrize("optim", [{}, {"name": None}, {"name": []}, {"name": "lion"}, {"momentum": "x"}])
def test_settings_of_an_optimizer_that_make_no_sense(optim: dict[str, Any]) -> None:
    assert not resumes_optimizer({"optim": optim}, load_config(None, ["optim.name=adagrad"]))


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"name": "my.code:make"}, "my.code:make", True),
        ({"name": "my.code:make"}, "my.code:other", False),
        ({"name": "my.code:make"}, "sgd", False),
        ({"name": "sgd", "momentum": 0.0}, "my.code:make", False),
        ({}, "my.code:make", False),
    ],
)
def test_the_state_of_an_own_optimizer_is_resumed_under_its_name(
    before: dict[str, Any], now: str, expected: bool
) -> None:
    assert resumes_optimizer({"optim": before}, load_config(None, [f"optim.name={now}"])) is expected


def test_an_own_optimizer_gets_back_what_it_keeps_in_its_groups() -> None:
    own = load_config(None, ["optim.name=my.code:make", "optim.args.betas=[0.8, 0.9]"]).optim
    kept = entries_of_config(own)
    assert kept == ("params", "weight_decay", "betas")
    assert entries_of_config(load_config().optim) is None
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1, weight_decay=0.5)
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= {"lr": 0.3, "weight_decay": 0.1, "distance": 7.0}
    put_optimizer(optimizer, saved, Path("c.pt"), kept)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["distance"]) == (0.3, 0.5, 7.0)
