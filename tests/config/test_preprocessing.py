from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.preprocessing import is_of_same_weights, undecided, with_preprocessing
from signs_dist.config.reading import dump_config, load_config

RESNET = "model.name=torchvision:resnet18"


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ([], ()),
        ([RESNET], ()),
        ([RESNET, "model.weights=DEFAULT"], ("image_size", "mean", "std")),
        (["model.name=timm:resnet18", "model.weights=a1_in1k"], ("image_size", "mean", "std")),
        ([RESNET, "model.weights=DEFAULT", "data.image_size=64"], ("mean", "std")),
        ([RESNET, "model.weights=DEFAULT", "data.image_size=64", "data.mean=[0, 0, 0]", "data.std=[1, 1, 1]"], ()),
        (["model.name=signs_fast", "model.weights=model.pt"], ()),
        (["model.name=my.module:Net", "model.weights=DEFAULT"], ()),
    ],
)
def test_published_weights_decide_what_is_not_given(typed: list[str], names: tuple[str, ...]) -> None:
    assert undecided(load_config(None, typed)) == names


def test_a_local_file_decides_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.pth").touch()
    assert undecided(load_config(None, [RESNET, f"model.weights={tmp_path / 'a.pth'}"])) == ()


def test_what_is_decided_counts_as_given_and_is_read_back(tmp_path: Path) -> None:
    config = load_config(None, [RESNET, "model.weights=DEFAULT", "data.image_size=64"])
    settled = with_preprocessing(config, {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)})
    assert undecided(settled) == ()
    (tmp_path / "config.yaml").write_text(dump_config(settled))
    again = load_config(tmp_path / "config.yaml")
    assert again == settled
    assert undecided(again) == ()
    assert is_of_same_weights(config, again)
    assert not is_of_same_weights(config, load_config(None, [RESNET]))
