"""The comparison of whole commands: what it starts, what it measures, and one round with the tutorial's loop."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.whole_commands import OURS, commands
from signs_dist import train
from tests.processes import environment
from tests.sets import write_colour_set
from tests.test_layers import REPOSITORY, imports

OPTIONS = {"data": Path("/photos"), "epochs": 5, "workers": 2, "best": False, "bfloat16": False, "only": None}


@pytest.mark.parametrize(
    ("changed", "ways"),
    [
        ({"processes": 1}, [OURS, "tutorial", "accelerate", "lightning"]),
        ({"processes": 2}, [OURS, "accelerate", "lightning"]),
        ({"processes": 1, "only": ["lightning"]}, [OURS, "lightning"]),
    ],
)
def test_what_is_compared(changed: dict[str, object], ways: list[str]) -> None:
    found = commands(argparse.Namespace(**{**OPTIONS, **changed, "settings": []}), Path("/round"))
    assert list(found) == ways


def test_all_train_alike() -> None:
    changed = {"processes": 1, "best": True, "bfloat16": True, "settings": ["optim.lr=0.5"]}
    found = commands(argparse.Namespace(**{**OPTIONS, **changed}), Path("/round"))
    ours = train.build_parser().parse_intermixed_args(found.pop(OURS)[3:])
    assert {"train.epochs=5", "data.root=/photos", "train.precision=bfloat16", "optim.lr=0.5"} <= set(ours.overrides)
    for command in found.values():
        assert " ".join(command).endswith("--data /photos --epochs 5 --processes 1 --workers 2 --best --bfloat16")


@pytest.mark.slow
def test_a_round_beside_the_tutorial(tmp_path: Path) -> None:
    photos = write_colour_set(tmp_path / "photos", counts={"train": 22, "val": 4}, size=64)
    flags = ["--data", str(photos), "--epochs", "1", "--rounds", "1", "--workers", "0", "--only", "tutorial"]
    command = [sys.executable, str(REPOSITORY / "benchmarks/whole_commands.py"), *flags]
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"signs_dist +[\d.]+ s +[\d.]+ s of processor time +[\d,]+ MB\n", ended.stdout), ended.stdout
    assert re.search(r"tutorial .* MB  signs_dist takes \d+\.\d\d of its time\n", ended.stdout), ended.stdout


@pytest.mark.parametrize(
    "path",
    [
        "benchmarks/peers/common.py",
        "benchmarks/peers/tutorial.py",
        "benchmarks/peers/accelerate_loop.py",
        "benchmarks/peers/lightning_trainer.py",
    ],
)
def test_a_peer_uses_nothing_of_signs_dist(path: str) -> None:
    source = (REPOSITORY / path).read_text(encoding="utf-8")
    compile(source, path, "exec")
    assert not {name for name in imports(source) if name.partition(".")[0] in ("signs_dist", "launch")}
