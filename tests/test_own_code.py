from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.own_code import call_own, find_own

SOURCE = """
def make(gamma=2.0):
    return gamma

def demanding(depth):
    return depth

def sized(num_classes, scale=1):
    return num_classes * scale

def anything(**arguments):
    return make(**arguments)

def failing():
    raise KeyError("weights")

def ending():
    raise SystemExit(3)

number = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Name of a user's module in the current folder, which is not on the path: a console script's situation."""
    import sys

    name = f"own_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / f"{name}_broken.py").write_text("import a_package_that_is_absent\n")
    (tmp_path / f"{name}_syntax.py").write_text("def (:\n")
    (tmp_path / f"{name}_exit.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / f"{name}_error.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return name


def call(name: str, args: dict[str, Any], **given: Any) -> Any:
    function = find_own("loss.name", name)
    options = {"given": {}} | given
    return call_own("loss.name", name, function, args=args, args_setting="loss.args", **options)


@pytest.mark.parametrize("separator", [":", "."])
def test_a_function_of_the_user_s_own(module: str, separator: str) -> None:
    assert call(f"{module}{separator}make", {"gamma": 3}) == 3


def test_it_gets_what_it_asks_for(module: str) -> None:
    assert call(f"{module}:sized", {"scale": 2}, optional={"num_classes": 6}) == 12
    assert call(f"{module}:make", {}, optional={"num_classes": 6}) == 2.0
    assert call(f"{module}:sized", {}, given={"num_classes": 6}) == 6
    assert call(f"{module}:sized", {}, positional=(6,)) == 6


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("{}_absent:make", {}, "loss.name={}_absent:make: there is no module {}_absent. Looked in the current folder"),
        ("{}_broken:make", {}, "importing {}_broken failed: No module named 'a_package_that_is_absent'"),
        ("{}_syntax:make", {}, "importing {}_syntax failed: invalid syntax"),
        ("{}_exit:make", {}, "importing {}_exit calls sys.exit. Put the code of the script below"),
        ("{}_error:make", {}, "importing {}_error failed: ZeroDivisionError: division by zero at "),
        ("{}:mke", {}, "{} has no function or class mke. It has make, demanding, sized, anything, failing, ending."),
        ("{}:number", {}, "{} has no function or class number."),
        ("json:JSONdecodr", {}, "json has no function or class JSONdecodr. Did you mean JSONDecoder?"),
        ("{}:make", {"gama": 1}, "loss.args.gama is not an argument of {}:make. {}:make takes gamma=2.0."),
        ("{}:demanding", {}, "loss.args.depth is missing. {}:demanding takes depth."),
        ("{}:anything", {"gama": 1}, "loss.name={}:anything refuses an argument: make() got an unexpected keyword"),
        ("{}:failing", {}, "loss.name={}:failing fails when it is called: KeyError: 'weights' at "),
        ("{}:ending", {}, "loss.name={}:ending calls sys.exit when it is called. Remove the call."),
    ],
)
def test_what_is_wrong_is_said(module: str, name: str, args: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as caught:
        call(name.format(module), args)
    assert expected.replace("{}", module) in str(caught.value)


def test_what_the_run_gives_is_not_given_twice(module: str) -> None:
    with pytest.raises(UserError, match=r"loss\.args\.num_classes is given by the run itself"):
        call(f"{module}:sized", {"num_classes": 3}, given={"num_classes": 6})
    with pytest.raises(UserError, match="takes no argument num_classes"):
        call(f"{module}:make", {}, given={"num_classes": 6})


def test_memory_errors_stay_what_they_are() -> None:
    def greedy() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        call_own("loss.name", "a:greedy", functools.partial(greedy), given={}, args={}, args_setting="loss.args")
