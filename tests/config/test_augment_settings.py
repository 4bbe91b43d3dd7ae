from __future__ import annotations

import re

import pytest

from signs_dist.config.reading import load_config
from signs_dist.errors import UserError

TORCHVISION = ["augment.backend=torchvision", "augment.transforms=[{RandomRotation: {degrees: 25}}]"]


def test_what_is_new_is_off() -> None:
    config = load_config().augment
    assert (config.crop_scale, config.policy, config.erase, config.mixup, config.cutmix) == (None, "none", 0, 0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["augment.crop_scale=[0.5, 0.2]"], "augment.crop_scale=[0.5, 0.2]: type [smallest, largest]."),
        (
            ["augment.crop_from=file"],
            "augment.crop_from=file needs augment.crop_scale, such as augment.crop_scale=[0.08, 1].",
        ),
        (
            ["augment.crop_from=file", "augment.crop_scale=[0.2, 1]"],
            "data.storage=packed keeps small squares of them. Set data.storage=files, or augment.crop_from=square.",
        ),
        (
            ["augment.crop_from=file", "augment.crop_scale=[0.2, 1]", "data.storage=device"],
            "data.storage=device keeps small squares of them. Set data.storage=files, or augment.crop_from=square.",
        ),
        (
            [*TORCHVISION, "data.storage=device"],
            "data.storage=device holds them on the GPU. Set augment.backend=batch, or data.storage=packed.",
        ),
        (["data.resize=torch"], "data.resize is not read with data.storage=packed. Delete it"),
        (["augment.crop_scale=[0, 1]"], "It takes a list of 2, each a number, above 0 and at most 1"),
        (["augment.crop_scale=[0.5, 1.5]"], "It takes a list of 2, each a number, above 0 and at most 1"),
        (["augment.crop_ratio=[-1, 1]"], "It takes a list of 2, each a number, above 0 and at most 100"),
        (["augment.erase_area=[0.3, 0.2]"], "augment.erase_area=[0.3, 0.2]: type [smallest, largest]."),
        (["augment.policy=rand"], "augment.policy=rand: rand is not legal. It takes one of none, randaugment"),
        (["augment.magnitude=31"], "at least 0 and at most 30"),
        (
            [*TORCHVISION, "augment.policy=randaugment"],
            "augment.policy is not read by augment.backend=torchvision. Delete",
        ),
        ([*TORCHVISION, "augment.erase=0.2"], "add RandomErasing to augment.transforms"),
        ([*TORCHVISION, "augment.crop_scale=[0.2, 1]"], "add RandomResizedCrop to augment.transforms"),
    ],
)
def test_wrong_settings_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_config(None, settings)


def test_images_are_mixed_with_either_backend() -> None:
    assert load_config(None, [*TORCHVISION, "augment.mixup=0.2"]).augment.mixup == 0.2
