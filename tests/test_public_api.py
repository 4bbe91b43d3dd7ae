"""The public API: it loads when it is used, and the example of each name runs."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
from pathlib import Path

import pytest

import signs_dist
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
