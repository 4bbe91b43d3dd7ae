"""Whether a training step becomes a CUDA graph, and why not: tables."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from signs_dist.config.reading import load_config
from signs_dist.errors import UserError
from signs_dist.training.graph_choice import NO_GRAPH, GraphChoice, StepFacts, choose_graph

ON_GPU = StepFacts(wanted="auto", device_type="cuda")
NONE: list[tuple[dict[str, Any], str]] = [
    ({"device_type": "cpu"}, "it needs a GPU"),
    ({"num_replicas": 2}, "--dp runs its GPUs from threads"),
    ({"num_processes": 2}, "several processes only without NCCL's error handling"),
    ({"compile": "reduce-overhead"}, "train.compile=reduce-overhead makes CUDA graphs of its own"),
    ({"compile": "max-autotune"}, "train.compile=max-autotune makes CUDA graphs of its own"),
    ({"checks": 1000}, "check.recompute_every=1000 looks at the gradients of single micro-batches"),
    ({"recomputes": True}, "model.gradient_checkpointing=true restores torch's generator"),
]


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, "one CUDA graph: forward, loss, backward, optimizer"),
        ({"averages": True}, "one CUDA graph: forward, loss, backward, optimizer, moving average"),
        ({"optimizer": "sgd"}, "one CUDA graph: forward, loss, backward, optimizer"),
        ({"compile": True}, "one CUDA graph: forward, loss, backward, optimizer"),
        ({"compile": "default"}, "one CUDA graph: forward, loss, backward, optimizer"),
        (
            {"exact": True},
            "a CUDA graph of forward, loss, backward; the optimizer beside it: exact mode gives it the learning rate "
            "that it has on several processes",
        ),
        (
            {"optimizer": "rmsprop"},
            "a CUDA graph of forward, loss, backward; the optimizer beside it: optim.name=rmsprop reads numbers of "
            "the host",
        ),
        (
            {"own_code": ("model.name=shapes.network:make",)},
            "no CUDA graph: model.name=shapes.network:make may read numbers that a graph would not read again; if not, "
            "type train.graph=true",
        ),
        ({"wanted": False}, "no CUDA graph: train.graph=false"),
    ],
)
def test_on_one_gpu(facts: dict[str, Any], told: str) -> None:
    assert choose_graph(dataclasses.replace(ON_GPU, **facts)).describe() == told


@pytest.mark.parametrize(("facts", "why"), NONE)
def test_auto_says_why_there_is_none(facts: dict[str, Any], why: str) -> None:
    choice = choose_graph(dataclasses.replace(ON_GPU, **facts))
    assert choice.covers == "nothing"
    assert why in choice.describe()


@pytest.mark.parametrize(("facts", "why"), NONE)
def test_true_is_refused_where_there_can_be_none(facts: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError) as raised:
        choose_graph(dataclasses.replace(ON_GPU, wanted=True, **facts))
    assert str(raised.value).startswith("train.graph=true: ")
    assert why in str(raised.value)
    assert str(raised.value).endswith(". Type train.graph=auto or train.graph=false.")


@pytest.mark.parametrize(
    ("facts", "covers"),
    [({}, "step"), ({"exact": True}, "passes"), ({"optimizer": "adagrad"}, "passes"), ({"own_code": ("x",)}, "step")],
)
def test_true_asks_for_what_can_be_done(facts: dict[str, Any], covers: str) -> None:
    choice = choose_graph(dataclasses.replace(ON_GPU, wanted=True, **facts))
    assert choice.covers == covers
    assert choice.is_required
    assert not choose_graph(dataclasses.replace(ON_GPU, **facts)).is_required


def test_false_is_always_granted() -> None:
    for facts, _ in NONE:
        assert choose_graph(dataclasses.replace(ON_GPU, wanted=False, **facts)) == NO_GRAPH


def facts_of(*settings: str) -> StepFacts:
    return StepFacts.of(load_config(None, [*settings]), device_type="cuda", num_processes=1, num_replicas=1)


def test_the_facts_are_those_of_the_config() -> None:
    assert facts_of("optim.name=adam", "train.graph=auto") == ON_GPU
    assert facts_of("exact=true", "train.micro_batch=8").exact
    assert facts_of("ema.decay=0.9").averages
    assert facts_of("train.graph=true", "train.compile=default").compile == "default"
    assert facts_of("train.graph=false").wanted is False
    assert facts_of("model.gradient_checkpointing=true").recomputes
    assert facts_of("optim.name=rmsprop").optimizer == "rmsprop"
    # What is called outside of the recorded step may be anybody's.
    own = facts_of("loss.name=shapes.training:loss", "augment.backend=a.b:c", "schedule.name=a.b:c")
    assert own.own_code == ("loss.name=shapes.training:loss",)
    assert GraphChoice("step").why == ""
