"""The garbage collector, kept from what lives as long as the process."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from signs_dist.environment.collector import importing


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_while_modules_are_imported() -> None:
    assert gc.isenabled()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_works_after_imports_on_what_comes_later() -> None:
    with importing():
        before = weakref.ref(Node())
    later = weakref.ref(Node())
    gc.collect()
    assert before() is not None
    assert later() is None


def test_where_torch_is_loaded_the_collector_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    before = gc.get_freeze_count()
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_a_failed_import_turns_the_collector_on_again() -> None:
    with pytest.raises(ModuleNotFoundError), importing():
        import signs_dist.no_such_module  # noqa: F401
    assert gc.isenabled()


def test_at_the_end_what_came_later_is_collected(tmp_path: Path) -> None:
    """A module with a function is a cycle, and its open file is written out only if the cycle is collected."""
    (tmp_path / "own.py").write_text("file = open('left-open.txt', 'w')\ndef note(text): file.write(text)\n")
    program = (
        "from signs_dist.environment.collector import importing\n"
        "with importing(): import json\n"
        "import own\n"
        "own.note('written')\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "left-open.txt").read_text() == "written"
