"""The lines on the screen, and the JSON."""

from __future__ import annotations

import io
import json
from typing import Any

from signs_dist.console.screen import Screen
from signs_dist.data.inspection.choices import Choice
from signs_dist.data.inspection.findings import find_oddities
from signs_dist.data.inspection.inspecting import Inspection
from signs_dist.data.inspection.told import as_json, tell
from tests.data.inspection.made import counted, made

FOUND = made(
    {path: {} for path in counted(cat=10, dog=10)}
    | {f"cat/x{i}.jpg": {"reason": "the file has 0 bytes"} for i in range(4)}
)


def lines_of(found: Inspection, **options: Any) -> list[str]:
    stream = io.StringIO()
    screen = Screen(is_terminal=False, quiet=False, file=stream)
    tell(screen, found, find_oddities(found), **options)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_lines() -> None:
    lines = lines_of(FOUND)
    assert lines[0] == "photos: a folder for each class, not split"
    assert ["all", "10", "10", "20"] in [line.split() for line in lines]
    assert "formats: JPEG 20" in lines
    assert "sizes: 100 x 80 pixels" in lines
    assert any(
        line.startswith("problem: 4 photos cannot be read: the file has 0 bytes (cat/x0.jpg, ") for line in lines
    )
    assert lines[-1] == "20 photos of 2 classes can be used; 1 problem, 0 warnings, 0 notes"


def test_all_examples_in_full() -> None:
    lines = lines_of(FOUND, in_full=True)
    assert [line for line in lines if line.startswith("  cat/x")] == [f"  cat/x{i}.jpg" for i in range(4)]


def test_json_holds_all() -> None:
    value = json.loads(json.dumps(as_json(FOUND, find_oddities(FOUND), [Choice("data.split", [0.8, 0.2], "few")])))
    assert value["version"] == 1
    assert value["counts"] == {"all": {"cat": 10, "dog": 10}}
    assert value["formats"] == {"JPEG": 20}
    assert value["sizes"]["median"] == [100, 80]
    assert value["findings"][0]["kind"] == "broken"
    assert value["findings"][0]["examples"] == [f"cat/x{i}.jpg" for i in range(4)]
    assert value["config"] == [{"key": "data.split", "value": [0.8, 0.2], "reason": "few"}]


def test_a_name_cannot_forge_a_line() -> None:
    found = made({path: {} for path in counted(cat=10, dog=10)} | {"cat/x\nproblem: y.jpg": {"is_grey": True}})
    assert [line for line in lines_of(found) if line.startswith("problem")] == []
