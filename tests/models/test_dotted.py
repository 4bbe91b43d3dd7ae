from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import create_model

SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, width=4):
        super().__init__(nn.Conv2d(3, width, 8, stride=8), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(width, num_classes))

class Sized(nn.Sequential):
    def __init__(self, num_classes, image_size):
        super().__init__(nn.Flatten(), nn.Linear(3 * image_size ** 2, num_classes))

class Demanding(nn.Module):
    def __init__(self, num_classes, depth):
        super().__init__()

class Headless(nn.Module):
    pass

class Classless(nn.Module):
    def __init__(self):
        super().__init__()

def anything(**arguments):
    return Net(**arguments)

def nothing(num_classes):
    return "a network, honestly"

def failing(num_classes):
    return nn.Linear("a", num_classes)

def wrong(num_classes):
    return 1 + "x"

class Abrupt(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        raise KeyError("weights")

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of a user's module in the current folder, which is not on the path: a console script's situation."""
    name = f"users_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_broken.py").write_text("import a_package_that_is_absent\n")
    (tmp_path / f"{name}_syntax.py").write_text("def (:\n")
    monkeypatch.chdir(tmp_path)
    import sys

    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return name


def build(name: str, **args: Any) -> nn.Module:
    return create_model(ModelConfig(name=name, args=args), num_classes=6, image_size=32)


@pytest.mark.parametrize("separator", [":", "."])
def test_a_class_of_the_user_s_own(module: str, separator: str) -> None:
    model = build(f"{module}{separator}Net", width=5)
    assert type(model).__name__ == "Net"
    assert model.get_submodule("0").out_channels == 5
    assert model.get_submodule("3").out_features == 6


def test_it_gets_the_image_size_if_it_asks(module: str) -> None:
    assert build(f"{module}:Sized").get_submodule("1").in_features == 3 * 32 * 32


def test_a_function_will_do(module: str) -> None:
    assert build(f"{module}:anything", width=3).get_submodule("0").out_channels == 3


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("{}_absent:Net", {}, "there is no module {}_absent"),
        ("absent.package:Net", {}, "there is no module absent."),
        ("{}:Nett", {}, "{} has no class Nett. It has Net, Sized, Demanding, Headless, Classless, Abrupt."),
        ("{}:number", {}, "{} has no class number."),
        ("{}:Headless", {}, "got an unexpected keyword argument 'num_classes'"),
        ("{}:Classless", {}, "takes no argument num_classes. Add it: the network must return"),
        ("{}:failing", {}, "model.name={}:failing fails when it is built with num_classes=6: TypeError: "),
        ("{}:wrong", {}, "fails when it is built with num_classes=6: TypeError: unsupported operand type(s)"),
        ("{}:Abrupt", {}, "fails when it is built with num_classes=6: KeyError: 'weights' at "),
        ("builtins:print", {}, "takes no argument num_classes"),
        ("builtins:int", {}, "model.name=builtins:int "),
        ("torch:zeros", {}, "model.name=torch:zeros "),
        ("math:hypot", {}, "model.name=math:hypot "),
        ("{}:nothing", {}, "returns a str, which is not a torch.nn.Module"),
        ("{}:Net", {"with": 5}, "model.args.with is not an argument of {}:Net. {}:Net takes width=4."),
        ("{}:Demanding", {}, "model.args.depth is missing. {}:Demanding takes depth."),
        ("{}_broken:Net", {}, "importing {}_broken failed: No module named 'a_package_that_is_absent'"),
        ("{}_syntax:Net", {}, "importing {}_syntax failed: invalid syntax"),
    ],
)
def test_what_is_wrong_is_said(module: str, name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(name.format(module), **args)
    assert message.replace("{}", module) in str(caught.value)
