from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models.create import create_model
from signs_dist.models.signs_fast import SignsFast
from signs_dist.models.trainable import count_parameters

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


@pytest.mark.parametrize(
    ("name", "args", "class_name"),
    [
        ("signs_net", {}, "SignsNet"),
        ("torchvision:resnet18", {}, "ResNet"),
        ("signs_dist.models.signs_fast:SignsFast", {"width": 4, "dropout": 0.1}, "SignsFast"),
    ],
)
def test_registered_torchvision_and_dotted_names(name: str, args: dict[str, Any], class_name: str) -> None:
    model = create_model(ModelConfig(name=name, args=args), num_classes=3, image_size=32)
    assert type(model).__name__ == class_name
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_freezing_leaves_the_head_trainable() -> None:
    model = create_model(ModelConfig(freeze="backbone"), num_classes=3, image_size=32)
    assert isinstance(model, SignsFast)
    assert count_parameters(model)[1] == sum(parameter.numel() for parameter in model.head.parameters())


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("torchvision:convnext_tiny", "stochastic_depth_prob"),
        pytest.param("timm:test_vit", "drop_path_rate", marks=needs_timm),
    ],
)
def test_drop_path_is_what_the_library_calls_it(name: str, argument: str) -> None:
    given, ours = (
        create_model(ModelConfig.model_validate({"name": name, **values}), num_classes=3, image_size=32)
        for values in ({"args": {argument: 0.25}}, {"drop_path": 0.25})
    )
    assert repr(given) == repr(ours)
    assert "0.25" in repr(ours)
    with pytest.raises(UserError, match=rf"model.drop_path sets model.args.{argument}, which is given too"):
        create_model(ModelConfig(name=name, args={argument: 0.25}, drop_path=0.2), num_classes=3, image_size=32)


@pytest.mark.parametrize("name", ["signs_fast", "torchvision:resnet18", "tests.models.test_trainable:TwoHeads"])
def test_drop_path_is_refused_where_there_is_none(name: str) -> None:
    with pytest.raises(UserError, match=rf"model.drop_path=0.1: model.name={name} has no argument for it"):
        create_model(ModelConfig(name=name, drop_path=0.1), num_classes=3, image_size=32)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("signs_nt", "Did you mean signs_net"),
        ("SignsFast", "Did you mean signs_fast"),
        ("resnet18", "Did you mean torchvision:resnet18"),
        ("torchvision:resnt18", "Did you mean torchvision:resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "is not a network"),
        ("qqqqqqqq", "is not a network. Legal: "),
        ("", "is not a network"),
    ],
)
def test_a_wrong_name_gets_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        create_model(ModelConfig(name=name), num_classes=6, image_size=64)
    assert nearest in str(caught.value)
    assert "signs_fast" in str(caught.value)
    assert "package.module:Class" in str(caught.value)


@pytest.mark.slow
def test_own_networks_do_not_import_torchvision() -> None:
    code = (
        "import sys\n"
        "from signs_dist.config.settings import ModelConfig\n"
        "from signs_dist.models import create_model\n"
        "create_model(ModelConfig(), num_classes=6, image_size=64)\n"
        "sys.exit('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
