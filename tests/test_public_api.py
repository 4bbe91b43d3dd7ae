"""The public API: it loads when it is used, and the example of each name runs."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import signs_dist
import signs_dist as sd
from signs_dist.errors import UserError
from tests.processes import environment
from tests.sets import write_colour_set

FILE = Path(signs_dist.__file__)


def imported_for_type_checkers() -> dict[str, str]:
    """Name → module of the imports under TYPE_CHECKING."""
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def test_the_package_is_imported_without_torch() -> None:
    program = "import sys, signs_dist; print(signs_dist.__version__, 'torch' in sys.modules, 'numpy' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert told.stdout.split() == [signs_dist.__version__, "False", "False"]


def test_every_list_of_the_public_names_is_the_same() -> None:
    assert sorted(signs_dist.__all__) == sorted(signs_dist._HOMES)
    assert imported_for_type_checkers() == signs_dist._HOMES
    assert set(signs_dist.__all__) <= set(dir(signs_dist))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'signs_dist' has no attribute 'conect'"):
        _ = signs_dist.conect  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", signs_dist.__all__)
def test_the_example_of_a_public_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_colour_set(tmp_path / "photos", counts={"train": 4})
    (tmp_path / "configs").symlink_to(FILE.parent.parent / "configs")
    value = getattr(signs_dist, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    assert example.examples, f"{name} has no example"
    assert "sd." + name in (value.__doc__ or "")
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert result.failed == 0, "".join(said)


NET = torch.nn.Linear(1, 1)
PLAN = sd.EpochPlan(4, 2, 0)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: sd.load_config(None, "optim.lr=0.1"),
            "overrides='optim.lr=0.1' is of type str. Type load_config",
        ),
        (lambda: sd.load_config(None, [3]), "override=3 is of type int. Type load_config"),
        (lambda: sd.load_config({"seed": 1}), "path={'seed': 1} is of type dict. Type load_config"),
        (
            lambda: sd.fit("configs/signs.yaml"),
            "config='configs/signs.yaml' is of type str. Type fit(load_config",
        ),
        (lambda: sd.score("runs/a"), "model='runs/a' is of type str. Type score(load_model"),
        (lambda: sd.connect(exact="no").__enter__(), "exact='no' is of type str. Type connect(exact=True)"),
        (
            lambda: sd.ExactStep(NET, PLAN, sd.connect()),
            "is of type _GeneratorContextManager. Type with",
        ),
        (lambda: sd.EpochPlan(64.0, 2, 0), "num_samples=64.0 is of type float. Type EpochPlan(len(dataset)"),
        (lambda: sd.EpochPlan(0, 2, 0), "num_samples=0: type 1 or more."),
        (lambda: sd.EpochPlan(4, 2, -1), "seed=-1: type 0 or more."),
        (lambda: sd.plan_loader(range(4), PLAN, None, "1"), "epoch='1' is of type str. Type plan_loader"),
        (lambda: sd.plan_loader(range(4), PLAN, None, -1), "epoch=-1: type 0 or more."),
        (lambda: sd.CheckpointStore("x").save({}, step="x"), "step='x' is of type str. Type store.save"),
        (lambda: sd.CheckpointStore("x").save({}, step=True), "step=True is of type bool."),
        (lambda: sd.weights_sha256("runs/a"), "weights='runs/a' is of type str. Type weights_sha256(net)"),
    ],
)
def test_an_argument_of_another_type_is_refused(call: Callable[[], object], told: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert told in str(caught.value)


def test_only_public_names_are_listed() -> None:
    assert dir(signs_dist) == sorted(["__version__", *signs_dist.__all__])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda folder: sd.load_config(folder / "nope.yaml"), r"^/.*nope.yaml: no such file"),
        (lambda folder: sd.fit(sd.load_config(), run_dir=folder / "file"), "^run_dir .* is not a folder"),
        (
            lambda folder: sd.fit(sd.load_config(), folder / "new", accept_change="nope"),
            '^accept_change="nope": no such',
        ),
        (lambda folder: sd.fit(sd.load_config(), folder / "new", device="tpu"), '^device="tpu": it must be auto'),
        (lambda folder: sd.connect(device="tpu").__enter__(), '^device="tpu": it must be auto'),
    ],
)
def test_messages_name_arguments_and_not_flags(tmp_path: Path, call: Callable[[Path], object], told: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=told) as caught:
        call(tmp_path)
    assert "--" not in str(caught.value)
