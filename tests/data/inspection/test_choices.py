"""Each choice follows from the photos, with its reason; the text is YAML that a config reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from signs_dist.data.inspection.choices import Choice, choose_settings, config_text
from signs_dist.data.inspection.inspecting import Inspection
from tests.data.inspection.made import counted, made


def chosen(found: Inspection, **more: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"given": {}, "is_table": False, "has_groups": False, "stored_size": None} | more
    return {choice.key: choice.value for choice in choose_settings(found, "photos", **options)}


def of_size(width: int, height: int, num_each: int = 50) -> Inspection:
    return made({path: {"width": width, "height": height} for path in counted(cat=num_each, dog=num_each)})


def split(*names: str, num_each: int = 300) -> list[str]:
    return [f"{name}/{kind}/{i}.jpg" for name in names for kind in ("cat", "dog") for i in range(num_each)]


@pytest.mark.parametrize(
    ("width", "height", "stored_size", "size"),
    [
        *((4000, 3000, None, 64), (100, 64, None, 64), (100, 63, None, 48), (40, 300, None, 32), (8, 8, None, 32)),
        *((64, 64, 128, 128), (4000, 3000, 4096, 2048)),
    ],
)
def test_image_size(width: int, height: int, stored_size: int | None, size: int) -> None:
    assert chosen(of_size(width, height), stored_size=stored_size)["data.image_size"] == size


@pytest.mark.parametrize(
    ("found", "shares"),
    [
        (made(counted(cat=300, dog=300)), [0.8, 0.1, 0.1]),
        (made(counted(cat=40, dog=40)), [0.8, 0.2]),
        (made(split("train")), [0.8, 0.1, 0.1]),
        (made(split("train", "test")), [0.8, 0.2]),
        (made(split("train", "val")), None),
        (made(split("train", "val", "test")), None),
    ],
)
def test_split(found: Inspection, shares: list[float] | None) -> None:
    assert chosen(found).get("data.split") == shares


@pytest.mark.parametrize(
    ("counts", "weights"),
    [({"cat": 90, "dog": 30}, "balanced"), ({"cat": 90, "dog": 31}, None), ({"cat": 90, "dog": 80, "owl": 4}, None)],
)
def test_class_weights(counts: dict[str, int], weights: str | None) -> None:
    assert chosen(made(counted(**counts)))["loss.class_weights"] == weights


@pytest.mark.parametrize(
    ("num_each", "expected"),
    [
        (5, {"train.epochs": 900, "train.global_batch": 8, "optim.lr": 0.02}),
        (100, {"train.epochs": 180, "train.global_batch": 32, "optim.lr": 0.02}),
        (600, {"train.epochs": 40, "train.global_batch": 32}),
        (2000, {"train.epochs": 20, "train.global_batch": 32}),
    ],
)
def test_length_batch_and_learning_rate(num_each: int, expected: dict[str, object]) -> None:
    found = chosen(made(counted(cat=num_each, dog=num_each)))
    names = ("train.epochs", "train.global_batch", "optim.lr")
    assert {name: found[name] for name in names if name in found} == expected


def test_left_and_right_are_not_mirrored() -> None:
    assert chosen(made(counted(left_turn=5, right_turn=5)))["augment.flip"] == 0
    assert "augment.flip" not in chosen(made(counted(cat=5, dog=5)))


def test_what_the_user_typed_is_kept() -> None:
    choices = choose_settings(
        made(counted(cat=40, dog=40)),
        "photos",
        given={"data.image_size": 128, "data.label_pattern": "(x)"},
        is_table=False,
        has_groups=False,
        stored_size=None,
    )
    assert [choice.key for choice in choices][:3] == ["data.root", "data.image_size", "data.label_pattern"]
    assert [choice.value for choice in choices if choice.key == "data.image_size"] == [128]


def test_the_text_is_yaml_with_a_reason_above_each_setting() -> None:
    choices = [
        Choice("data.root", "my photos: é", "where they lie"),
        Choice("data.columns.group", "group", "copies"),
        Choice("data.split", [0.8, 0.2], "few " * 60),
        Choice("loss.class_weights", None, "about equal"),
        Choice("train.epochs", 40, "a bad\nname"),
    ]
    text = config_text(choices, Path("my photos"), Path("c.yaml"), 1234)
    assert yaml.safe_load(text) == {
        "data": {"root": "my photos: é", "columns": {"group": "group"}, "split": [0.8, 0.2]},
        "train": {"epochs": 40},
    }
    lines = text.splitlines()
    assert lines[:2] == [
        "# Written by: python -m signs_dist.inspect 'my photos' --write c.yaml",
        "# 1,234 photos. To train: python -m signs_dist.train --config c.yaml",
    ]
    assert lines[lines.index("  root: 'my photos: é'") - 1] == "  # where they lie"
    assert "# loss.class_weights is not set: about equal" in lines
    typed = config_text(choices, Path("t.csv"), Path("c.yaml"), 1234, ["data.columns.label=a kind"]).splitlines()
    assert typed[0] == "# Written by: python -m signs_dist.inspect t.csv 'data.columns.label=a kind' --write c.yaml"
    assert max(map(len, lines)) <= 120
