from __future__ import annotations

import shlex
from typing import Any

import pytest

from signs_dist.config.reading import load_config
from signs_dist.data.few_photos import as_typed, settings_for_few


@pytest.mark.parametrize(
    ("num_images", "overrides", "settings"),
    [
        (96, [], {"train.epochs": 300, "optim.lr": 0.02}),
        (288, [], {"train.epochs": 100, "optim.lr": 0.02}),
        (479, [], {"train.epochs": 65, "optim.lr": 0.02}),
        (480, [], {}),  # 15 steps in each of 20 epochs
        (1440, [], {}),
        (1440, ["train.epochs=1"], {}),  # a short run on purpose
        (96, ["train.epochs=300", "optim.lr=0.02"], {}),
        (96, ["train.epochs=300"], {}),
        (96, ["optim.lr=0.01"], {"train.epochs": 300}),
        (96, ["optim.name=adam", "optim.lr=1e-3"], {"train.epochs": 300}),
        (96, ["optim.name=adam", "optim.lr=0.1"], {"train.epochs": 300}),
        (96, ["train.global_batch=4"], {}),
        (96, ["model.name=torchvision:resnet18", "model.weights=DEFAULT"], {}),
        (96, ["train.epoch_steps=2"], {}),
        (20, [], {"train.global_batch": 16, "train.epochs": 900, "optim.lr": 0.02}),
        (31, [], {"train.global_batch": 16, "train.epochs": 900, "optim.lr": 0.02}),
        (1, [], {"train.global_batch": 1, "train.epochs": 900, "optim.lr": 0.02}),
    ],
)
def test_what_is_advised_for_few_photos(num_images: int, overrides: list[str], settings: dict[str, Any]) -> None:
    assert settings_for_few(num_images, load_config(None, overrides)) == settings


@pytest.mark.parametrize("num_images", [2, 20, 96, 288])
def test_what_is_advised_is_enough(num_images: int) -> None:
    typed = shlex.split(as_typed(settings_for_few(num_images, load_config())))
    assert settings_for_few(num_images, load_config(None, typed)) == {}


@pytest.mark.parametrize(
    "path",
    [
        "data/64x64_photos",
        "data/my photos",
        "it's",
        'a "b"',
        "[x]",
        "{a}",
        "a: b",
        "#1",
        "a #b",
        "null",
        "123",
        "true",
        "$HOME/x",
        "*",
        "&a",
        "a=b",
        "été",
        "1e3",
        "- x",
        "a,b",
        "!x",
        "%x",
        "@x",
        "`x`",
    ],
)
def test_a_folder_of_any_name_is_typed_so_that_it_is_read_back(path: str) -> None:
    (typed,) = shlex.split(as_typed({"data.root": path}))
    assert load_config(None, [typed]).data.root == path
