"""What no run could have saved is found, whatever its digest says."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.content import FORMAT, MAX_DEPTH, MAX_VALUES, describe, find_faults, require_whole
from signs_dist.checkpointing.resume_rules import changed_settings
from signs_dist.config.settings import Config
from signs_dist.errors import CheckpointError, UserError
from tests.checkpointing.contents import make_content


@functools.cache  # a hundred thousand lists take a tenth of a second
def nested(depth: int) -> Any:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of these tensors
        return torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.quint8)


WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a list": list,
    "text": lambda: "x",
    "a number": lambda: -1,
    "NaN": lambda: math.nan,
    "infinite": lambda: math.inf,
    "a huge number": lambda: 10**5000,
    "deep": lambda: nested(10**5),
    "a mapping": lambda: {"x": {}},
    "bytes": lambda: b"x",
    "a complex tensor": lambda: torch.zeros(2, dtype=torch.complex64),
    "a meta tensor": lambda: torch.zeros(2, device="meta"),
    "a sparse tensor": lambda: torch.zeros(2, 2).to_sparse(),
    "a quantized tensor": quantized,
    "an expanded tensor": lambda: torch.zeros(1).expand(2**40),
    "a tensor of text length": lambda: torch.zeros(3, dtype=torch.uint8),
}
PLACES: tuple[str, ...] = (
    *("format", "model", "model.w", "ema", "optimizer", "optimizer.state", "optimizer.state.0"),
    *("optimizer.param_groups", "optimizer.param_groups.0", "optimizer.param_groups.0.params"),
    *("optimizer.param_groups.0.lr", "scaler", "cursor", "cursor.epoch", "cursor.step", "images", "learning_rate"),
    *("sums.loss", "sums.confusion", "sums.bad", "best.epoch", "best.accuracy", "best.loss", "best_macro_f1", "config"),
    *("config.train", "config.optim", "global_batch", "micro_batch", "precision", "classes", "train_seconds"),
    *("saved_at", "run", "run.data", "run.data.fingerprints", "run.data.fingerprints.train"),
)
HARMLESS = {
    # No sums: the numbers of the epoch begin again. No scaler: it begins with its defaults.
    *{("sums", "None"), ("best", "None"), ("best.loss", "NaN"), ("best.loss", "infinite")},
    ("best_macro_f1", "None"),  # of a best epoch of an earlier release
    # A longer run, without a name of the images: what differs from this run is refused by `refuse_changes`.
    *{("config.train", "a mapping"), ("config.optim", "a mapping"), ("run", "a mapping"), ("run.data", "a mapping")},
    # Weights of one value, which fit no run: see test_fitting.py.
    *{("model.w", "a complex tensor"), ("model.w", "an expanded tensor"), ("model.w", "a tensor of text length")},
    *{("config", "a mapping"), ("run.data.fingerprints.train", "text")},
}
"""(place, wrong value) that a content may hold."""


def replaced(content: Any, place: str, value: Any) -> Any:
    """A copy of nested mappings and lists in which one entry is another value."""
    name, _, rest = place.partition(".")
    key: Any = int(name) if name.isdigit() else name
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[key] = replaced(content[key], rest, value) if rest else value
    return copy


@pytest.mark.parametrize("content", [make_content(3), make_content(3, 2), make_content(0, 1), make_content(0)])
def test_what_a_run_saves_is_whole(content: dict[str, Any]) -> None:
    assert find_faults(content) == []
    require_whole(content, Path("a.pt"))


@pytest.mark.parametrize("place", PLACES)
def test_a_wrong_value_is_found(place: str) -> None:
    for wrong, make in WRONG.items():
        content = replaced(make_content(3, 2), place, make())
        if (place, wrong) == ("ema", "None"):
            continue  # as it was
        try:
            faults = find_faults(content)
        except Exception as error:
            raise AssertionError(f"{wrong}: {error!r}") from error
        if (place, wrong) in HARMLESS:
            assert faults == [], wrong
            changed_settings(content["config"], Config())  # and what reads it next does not stumble
            continue
        assert len(faults) == 1, (wrong, faults)
        assert 0 < len(faults[0]) < 400, (wrong, faults)


def test_a_checkpoint_of_an_earlier_release_has_no_macro_f1() -> None:
    content = make_content(3)
    del content["best_macro_f1"]
    require_whole(content, Path("a.pt"))


@pytest.mark.parametrize("name", [name for name in make_content(3) if name != "best_macro_f1"])
def test_a_missing_entry_is_named(name: str) -> None:
    content = make_content(3)
    del content[name]
    with pytest.raises(CheckpointError, match=f"a.pt (is no checkpoint of a run|is broken): it has no {name}"):
        require_whole(content, Path("a.pt"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"images": 10**9 + 1}, "1000000001 images are not those of 3 epochs and 2 steps of 8"),
        ({"images": 0}, "0 images are not those"),
        ({"cursor": {"epoch": 10**6, "step": 2}}, "are not those of 1000000 epochs"),
        ({"cursor": {"epoch": 100, "step": 0}, "images": 3200, "sums": None}, "are done of a run of 99 epochs"),
        ({"cursor": {"epoch": 3}}, "cursor is a dict of 1, and must hold epoch, step"),
        ({"cursor": {"epoch": 3, "step": 2, "rank": 0}}, "cursor is a dict of 3"),
        ({"cursor": {"epoch": True, "step": 2}}, "cursor.epoch is True, and must be a whole number"),
        ({"cursor": {"epoch": 3.0, "step": 2}}, "cursor.epoch is 3.0, and must be a whole number"),
        ({"cursor": {"epoch": -1, "step": 2}}, "cursor.epoch is -1"),
        ({"micro_batch": 3}, "micro-batches of 3 do not make a batch of 8"),
        ({"best": {"epoch": 9, "accuracy": 0.5, "loss": 0.5}}, "its best epoch is 9, and 3 are finished"),
        ({"best": {"epoch": 1, "accuracy": 1.5, "loss": 0.5}}, "best.accuracy is 1.5"),
        ({"best_macro_f1": 1.5}, "best_macro_f1 is 1.5"),
        ({"ema": {"num_updates": 3, "weights": {"w": torch.zeros(2)}}}, "ema and config.ema.decay differ"),
        ({"ema": {"num_updates": 3}}, "ema is a dict of 1, and must hold num_updates, weights"),
        ({"classes": ["a", "a"]}, "classes is a list of 2, and must be a list of different names"),
        ({"classes": ["a", 1]}, "classes is a list of 2"),
        ({"classes": ["a", "b", "c"]}, r"sums.confusion is int64 [4], and must be [9]"),
        ({"precision": "float8"}, "precision is 'float8', and must be float32 or bfloat16 or float16"),
        ({"scaler": {"scale": math.nan}}, "scaler is a dict of 1"),
        ({"saved_at": 1e300}, "saved_at is 1e+300"),
        ({"run": {"data": {"fingerprints": {"train": 3}}}}, "run.data.fingerprints must hold a text for each split"),
        ({"run": {"note": [torch.zeros(1)]}}, "run holds a tensor at note.0"),
        ({"config": {"train": {"epochs": torch.zeros(1)}}}, "config holds a tensor at train.epochs"),
        ({"model": {}}, "model is a dict of 0"),
        ({"model": {3: torch.zeros(1)}}, "model[3] is float32 [1]"),
        ({"other": object()}, "other is of type object"),
        ({"other": {(1, 2): 3}}, "other has a key that is no text"),
        ({"other": [0] * MAX_VALUES}, "it holds more than 1,000,000 values"),
        ({"other": nested(MAX_DEPTH + 1)}, f"is nested more than {MAX_DEPTH} levels deep"),
    ],
)  # fmt: skip
def test_what_does_not_agree_is_told(changes: dict[str, Any], told: str) -> None:
    fault, *_ = find_faults(make_content(3, 2, **changes))
    assert told in fault


@pytest.mark.parametrize(
    ("sums", "told"),
    [
        ({"confusion": torch.tensor([15, 0, 0, 0])}, "sums.confusion does not count the 16 images"),
        ({"confusion": torch.tensor([-1, 17, 0, 0])}, "sums.confusion does not count the 16 images"),
        ({"confusion": torch.zeros(4)}, "sums.confusion is float32 [4], and must be a tensor of int64"),
        ({"bad": torch.tensor(17)}, "sums.bad counts 17 of 16 images"),
        ({"loss": torch.tensor([1, 2])}, "sums.loss is int64 [2], and must be []"),
    ],
)
def test_sums_that_no_epoch_has(sums: dict[str, torch.Tensor], told: str) -> None:
    content = make_content(3, 2)
    (fault,) = find_faults({**content, "sums": {**content["sums"], **sums}})
    assert told in fault


@pytest.mark.parametrize(
    ("optimizer", "told"),
    [
        ({"state": {}, "param_groups": [{"lr": 0.1, "params": [0, 2]}]}, "does not number the parameters from 0"),
        ({"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}] * 2}, "does not number the parameters from 0"),
        ({"state": {7: {}}, "param_groups": [{"lr": 0.1, "params": [0]}]}, "state[7] is a dict of 0, and there are 1"),
        ({"state": {0: {"a": "x"}}, "param_groups": [{"lr": 0.1, "params": [0]}]}, "state[0].a is 'x'"),
        ({"state": {0: {"a": torch.zeros(1, dtype=torch.int32)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
         "state[0].a is int32 [1], and must be floating"),
        ({"state": {}, "param_groups": [{"lr": math.nan, "params": [0]}]}, "param_groups[0].lr is nan"),
        ({"state": {}, "param_groups": [{"params": [0]}]}, "param_groups[0].lr is None"),
        ({"state": {}, "param_groups": [{"lr": 1.0, "params": [0.0]}]}, "param_groups[0].params is a list of 1"),
        ({"state": {}, "param_groups": {}}, "param_groups is a dict of 0"),
        ({"param_groups": []}, "optimizer is a dict of 1, and must hold state, param_groups"),
    ],
)  # fmt: skip
def test_an_optimizer_that_is_none(optimizer: dict[str, Any], told: str) -> None:
    (fault,) = find_faults(make_content(3, optimizer=optimizer))
    assert told in fault


@pytest.mark.parametrize("number", [1, 3, 999, 10**30])
def test_another_format_is_refused_with_what_reads_it(number: int) -> None:
    content = dict.fromkeys(make_content(3)) | {"format": number, "run": {"versions": {"signs_dist": "9.1"}}}
    with pytest.raises(UserError, match=rf"a\.pt has format .*reads format {FORMAT}.*wrote it \(signs_dist 9\.1\)"):
        require_whole(content, Path("a.pt"))


@pytest.mark.parametrize("number", [0, -1, "2", True, None, 2.0, [2]])
def test_a_format_that_is_none_is_broken(number: Any) -> None:
    with pytest.raises(CheckpointError, match=r"a\.pt is broken: format is "):
        require_whole(make_content(3, format=number), Path("a.pt"))


def test_a_content_that_contains_itself_ends() -> None:
    content = make_content(3)
    content["run"]["again"] = content
    assert "nested more than" in find_faults(content)[0]


def test_a_value_is_described_in_a_few_words() -> None:
    values = (torch.zeros(2, 3), {"a": 1}, "x" * 99, 2**80, math.inf)
    shown = [describe(value) for value in values]
    assert shown == ["float32 [2, 3]", "a dict of 1", f"'{'x' * 36}...", "a number of 81 bits", "inf"]
