"""The source files that count as the code of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import signs_dist
from signs_dist.run_folder.code_files import files_behind, toolkit_files
from signs_dist.run_folder.digest import file_sha256


def test_the_toolkit_is_all_its_files_by_the_names_of_modules(tmp_path: Path) -> None:
    package = tmp_path / "signs_dist"
    for name in ("__init__.py", "train.py", "training/loop.py", "launch/run.py", "slurm/cluster.py", "a/slurm/b.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(f"# {name}\n")
    (package / "notes.txt").touch()
    names = ["signs_dist.__init__", "signs_dist.a.slurm.b", "signs_dist.train", "signs_dist.training.loop"]
    found = toolkit_files(package)
    assert sorted(found) == names
    assert found["signs_dist.train"] == file_sha256(package / "train.py")


def test_this_toolkit_has_its_loop() -> None:
    assert "signs_dist.training.loop" in toolkit_files(Path(signs_dist.__file__).parent)


def test_modules_are_followed_to_what_they_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "chain_package").mkdir()
    sources = {
        "chain_package/__init__.py": "",
        "chain_package/net.py": "import json, signs_dist.models.mlp\nfrom .parts import Part\n\nclass Net: ...\n",
        "chain_package/parts.py": "import chain_more\n\nclass Part: ...\n",
        "chain_more.py": "from chain_package import net\n",
        "chain_unused.py": "",
    }
    for name, source in sources.items():
        (tmp_path / name).write_text(source)
    before = set(sys.modules)
    try:
        __import__("chain_unused")
        __import__("chain_package.net")
        found = files_behind(["chain_package.net", "not.imported"], sys.modules)
        assert sorted(found) == ["chain_more", "chain_package", "chain_package.net", "chain_package.parts"]
        assert found["chain_more"] == file_sha256(tmp_path / "chain_more.py")
        assert files_behind([], sys.modules) == files_behind(["not.imported"], sys.modules) == {}
    finally:
        for name in set(sys.modules) - before:
            if name.startswith("chain_"):
                del sys.modules[name]
