"""The short tier starts benchmarks that exist, with flags that they have, and tells which failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.short_tier import commands
from tests.processes import environment
from tests.test_layers import REPOSITORY


@pytest.mark.parametrize("name", list(commands(Path())))
def test_each_benchmark_has_the_flags(name: str) -> None:
    source = (REPOSITORY / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
    for argument in commands(Path("/photos"))[name]:
        assert not argument.startswith("--") or f'"{argument}"' in source
        assert not argument.endswith(".yaml") or Path(argument).is_file()


@pytest.mark.slow
@pytest.mark.cold
def test_one_of_them(tmp_path: Path) -> None:
    script = str(REPOSITORY / "benchmarks/short_tier.py")
    command = [sys.executable, script, "--data", str(tmp_path), "--only", "loop_overhead"]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 1  # there are no photos
    assert f"== python benchmarks/loop_overhead.py --config {REPOSITORY}/configs/signs.yaml" in ended.stdout
    assert ended.stdout.endswith("failed: loop_overhead\n")
