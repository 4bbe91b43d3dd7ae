"""The command diverge: its flags, two run folders, one config on two settings, and planted faults."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import signs_dist as sd
from signs_dist.console.command import run_command
from signs_dist.diverge import main as diverge
from tests.diverging.faults import FAULTS, STEPS, Fault, base_settings, net
from tests.processes import rank_environment, run
from tests.sets import small_run, write_colour_set


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 17, "val": 5})


def find(folder: Path, *arguments: str, code: int = 1) -> dict[str, Any]:
    """What the command writes as JSON."""
    file = folder / "out.json"
    assert run_command(diverge, [*arguments, "--json", str(file)]) == code
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["equal"] == (code == 0)
    return found


@pytest.mark.longer
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_named(fault: Fault, colours: Path, tmp_path: Path) -> None:
    one, other = fault.processes
    found = find(
        tmp_path,
        *base_settings(colours),
        *shlex.split(fault.both),
        *("--left", f"processes={one} {fault.left}", "--right", f"processes={other} {fault.right}"),
        *("--steps", str(STEPS)),
    )
    require_named(fault, found)


def require_named(fault: Fault, found: dict[str, Any]) -> None:
    """That what was found is what was planted."""
    place = found["first_difference"]
    names = ("direction", "number", "micro_batch", *(("layer",) if fault.layer else ()))
    wanted = [fault.direction, fault.step, fault.micro_batch, *([fault.layer] if fault.layer else [])]
    assert [place[name] for name in names] == wanted
    if fault.tensor is not None:
        assert place["tensor"] == fault.tensor
    assert not fault.entry or fault.entry in place["entries"]
    assert tuple(place["odd"]) == fault.odd
    assert place["unsteady"].keys() == ({"B"} if fault.unsteady else set())
    assert not place["vanished"]


def test_fifty_faults_are_planted() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 50
