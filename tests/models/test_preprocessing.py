from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.reading import dump_config, load_config
from signs_dist.errors import UserError
from signs_dist.models.preprocessing import decide, published_preprocessing
from signs_dist.train import read_decided_config

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
DEFAULT = ["model.name=torchvision:resnet18", "model.weights=DEFAULT"]


@pytest.mark.parametrize(
    ("name", "weights", "values"),
    [
        ("torchvision:resnet18", "DEFAULT", {"image_size": 224, **IMAGENET}),
        ("torchvision:efficientnet_b3", "IMAGENET1K_V1", {"image_size": 300, **IMAGENET}),
        ("torchvision:resnet18", "NO_SUCH", {}),
        ("torchvision:no_such", "DEFAULT", {}),
        ("timm:resnet18", "a3_in1k", {"image_size": 160, **IMAGENET}),
        ("timm:vit_tiny_patch16_224", "DEFAULT",
         {"image_size": 224, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}),
        ("timm:resnet18", "NO_SUCH", {}),
        ("timm:no_such", "DEFAULT", {}),
    ],
)  # fmt: skip
def test_what_weights_were_trained_with(name: str, weights: str, values: dict[str, Any]) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    assert published_preprocessing(load_config(None, [f"model.name={name}", f"model.weights={weights}"])) == values


def test_given_values_stay_and_the_origins_of_the_others_are_told() -> None:
    loaded = read_decided_config(None, [*DEFAULT, "data.image_size=64"])
    assert (loaded.config.data.image_size, loaded.config.data.mean) == (64, IMAGENET["mean"])
    lines = [line for line in loaded.explain().splitlines() if line.startswith(("data.image_size", "data.mean"))]
    assert lines[0].endswith("# data.image_size=64")
    assert lines[1].endswith("# the weights DEFAULT of torchvision:resnet18")


def test_a_run_that_has_begun_keeps_its_values(tmp_path: Path) -> None:
    """As a run of a release in which weights decided nothing."""
    before = load_config(None, [*DEFAULT, "data.image_size=64", "data.std=[1, 1, 1]"])
    (tmp_path / "config.yaml").write_text(dump_config(before))
    assert decide(load_config(None, DEFAULT), tmp_path).config == before
    other = decide(load_config(None, [*DEFAULT[:1], "model.weights=IMAGENET1K_V1"]), tmp_path).config
    assert other.data.image_size == 224
    (tmp_path / "config.yaml").write_text("no: such: file")
    assert decide(load_config(None, DEFAULT), tmp_path).config.data.image_size == 224


def test_without_timm_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^model.name=timm:resnet18 needs timm, which is not installed"):
        read_decided_config(None, ["model.name=timm:resnet18", "model.weights=DEFAULT"])
