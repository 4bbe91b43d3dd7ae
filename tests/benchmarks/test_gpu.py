"""The benchmark for a GPU: its limits, its table and its bars; and a rehearsal of it on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import (
    PARTS,
    TOTAL_SECONDS,
    Bar,
    Ended,
    Part,
    build_parser,
    command_of,
    derive,
    describe,
    find_bars,
    find_gpu_tests,
    make_report,
    read_checks,
    read_rows,
    run_part,
    seconds_for,
)
from benchmarks.gpu_parts import WORK
from tests.processes import environment, wait_until
from tests.test_layers import REPOSITORY

SLOW, FAST = "data.storage=packed train.graph=false", "data.storage=device train.graph=true"


def row(figure: str, settings: str, value: float, unit: str = "images/s") -> dict[str, Any]:
    return {"figure": figure, "settings": settings, "value": value, "unit": unit}


ROWS = [
    row("bare network, signs.yaml", "step by step", 7300.0),
    row("bare network, signs.yaml", "one CUDA graph", 24_000.0),
    row("bare network, cs230.yaml", "one CUDA graph", 90_000.0),
    row("training, signs.yaml", SLOW, 4000.0),
    row("training, signs.yaml", FAST, 22_800.0),
    row("training in micro-batches of 8, signs.yaml", FAST, 50_000.0),
]


def test_the_whole_takes_less_than_ten_minutes_and_each_part_has_its_work() -> None:
    assert TOTAL_SECONDS < 600
    assert {part.name for part in PARTS} == {"checks", *WORK}
    assert [part.name for part in PARTS[:2]] == ["machine", "checks"]


@pytest.mark.parametrize(("left", "expected"), [(500.0, 60.0), (60.0, 60.0), (40.0, 40.0), (15.0, 15.0), (14.9, None)])
def test_a_part_has_its_limit_and_no_more_than_is_left(left: float, expected: float | None) -> None:
    assert seconds_for(Part("bare", 60), left) == expected


def test_figures_are_read_between_other_lines() -> None:
    output = "a warning\n" + json.dumps(ROWS[0]) + "\n" + json.dumps(ROWS[1]) + '\n{"figure": "bare net'
    assert read_rows(output) == ROWS[:2]
    assert read_rows("") == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("....\n52 passed in 93.02s (0:01:33)\n", [("pytest -m gpu", "52 passed")]),
        ("ssss\n49 skipped in 3.11s\n", [("pytest -m gpu", "49 skipped")]),
        (
            "FAILED tests/end_to_end/test_gpu.py::test_a[one two] - assert 1\nERROR tests/x.py::test_b\n"
            "===== 1 failed, 50 passed, 3 skipped, 1 error in 9.1s =====\n",
            [
                ("pytest -m gpu", "1 failed, 50 passed, 3 skipped, 1 error"),
                ("tests/end_to_end/test_gpu.py::test_a[one", "failed"),
                ("tests/x.py::test_b", "failed"),
            ],
        ),
        ("Killed", []),
    ],
)
def test_what_the_checks_say(output: str, expected: list[tuple[str, str]]) -> None:
    assert [(found["settings"], found["text"]) for found in read_checks(output)] == expected


def test_the_bars_come_from_the_best_figures() -> None:
    speed, share = find_bars(ROWS)
    assert (speed.found, speed.verdict) == (22_800.0, "holds")
    assert (share.found, share.verdict) == (0.95, "holds")
    speed, share = find_bars(ROWS[:4])
    assert (speed.found, speed.verdict, share.verdict) == (4000.0, "does not hold", "does not hold")
    refused = {"figure": "training, signs.yaml", "settings": FAST, "text": "refused: no"}
    assert [bar.verdict for bar in find_bars([*ROWS[:3], refused])] == ["unmeasured", "unmeasured"]
    assert find_bars([ROWS[0], ROWS[3]])[1].verdict == "unmeasured"


def test_the_loop_is_compared_with_the_network_in_the_same_way() -> None:
    assert [(found["settings"], round(found["value"], 3)) for found in derive(ROWS)] == [
        (f"{SLOW}, against step by step", 1.825),
        (f"{FAST}, against one CUDA graph", 1.053),
    ]
    assert derive(ROWS[:3]) == []


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (22_800.4, "images/s", "22,800 images/s"),
        (41.26, "ms", "41.3 ms"),
        (4.126, "ms", "4.126 ms"),
        (0.9, "", "0.900"),
    ],
)
def test_a_figure_in_words(value: float, unit: str, text: str) -> None:
    assert describe(row("", "", value, unit)) == text


def test_the_report() -> None:
    about = {"figure": "machine", "settings": "", "text": "", "facts": {}}
    refused = {"figure": "training, signs.yaml", "settings": "train.compile=default", "text": "refused: a | b\nc"}
    parts = [
        Ended("machine", 3.2, "", [about]),
        Ended("signs", 90.1, "ended after its limit of 90 s", [ROWS[3], refused]),
    ]
    report = make_report({"card": "NVIDIA H200", "torch": "2.11.0"}, parts, [Bar("speed", 20_000, None)])
    assert report.splitlines() == [
        "card NVIDIA H200, torch 2.11.0",
        "",
        "| figure | settings | value |",
        "| --- | --- | --- |",
        f"| training, signs.yaml | {SLOW} | 4,000 images/s |",
        "| training, signs.yaml | train.compile=default | refused: a / b c |",
        "",
        "| bar | at least | found | verdict |",
        "| --- | --- | --- | --- |",
        "| speed | 20,000 | - | unmeasured |",
        "",
        "| part | seconds | end |",
        "| --- | --- | --- |",
        "| machine | 3 | done |",
        "| signs | 90 | ended after its limit of 90 s |",
    ]


def test_what_a_part_starts() -> None:
    options = build_parser().parse_args(["--data", "/photos", "--rehearse", "--device", "cpu", "--workers", "0"])
    checks, bare = (command_of(Part(name, 1), options) for name in ("checks", "bare"))
    assert checks[1:7] == ["-m", "pytest", "-q", "-m", "gpu", "-p"]
    assert "tests/end_to_end/test_gpu.py" in checks
    assert "-n" not in checks
    script = str(REPOSITORY / "benchmarks/gpu_parts.py")
    assert bare[1:] == [script, "bare", "--device", "cpu", "--rehearse", "--data", "/photos"]


def test_the_files_with_gpu_tests_are_found(tmp_path: Path) -> None:
    (tmp_path / "tests/sub").mkdir(parents=True)
    (tmp_path / "tests/sub/test_a.py").write_text("@pytest.mark.gpu\ndef test_one(): ...\n")
    (tmp_path / "tests/test_b.py").write_text("pytestmark = [\n    pytest.mark.gpu,\n]\n")
    (tmp_path / "tests/test_c.py").write_text("# about pytest.mark.gpu\n@pytest.mark.gpus\n")
    (tmp_path / "tests/test_d.py").write_text("pytestmark = pytest.mark.gpu\n")
    (tmp_path / "tests/helper.py").write_text("@pytest.mark.gpu\n")
    assert find_gpu_tests(tmp_path) == ["tests/sub/test_a.py", "tests/test_b.py", "tests/test_d.py"]


def test_a_part_that_fails_keeps_its_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = f"import sys; print({json.dumps(json.dumps(ROWS[0]))}); sys.exit('no GPU')"
    ended = run_part(Part("bare", 60), [sys.executable, "-c", program], 60, tmp_path)
    assert (ended.end, ended.rows) == ("failed with exit code 1: no GPU", ROWS[:1])
    assert "no GPU" in capfd.readouterr().err


def test_a_part_is_ended_at_its_limit_with_all_that_it_has_started(tmp_path: Path) -> None:
    program = """sleep 300 & echo '{"figure": '$!'}'; wait"""
    ended = run_part(Part("bare", 2), ["sh", "-c", program], 2, tmp_path)
    assert ended.end == "ended after its limit of 2 s"
    [child] = (Path("/proc") / str(row["figure"]) for row in ended.rows)
    wait_until(lambda: not child.exists() or not (child / "cmdline").read_bytes())


@pytest.mark.slow
def test_a_rehearsal(tmp_path: Path) -> None:
    flags = ["--rehearse", "--only", "bare", "--json", "out.json"]
    command = [sys.executable, str(REPOSITORY / "benchmarks/gpu.py"), *flags]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "| bare network, signs.yaml | one CUDA graph | refused: there are no CUDA graphs on a CPU. |" in ended.stdout
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["rehearsal"] is True
    assert [part["name"] for part in found["parts"]] == ["bare"]
    assert found["parts"][0]["rows"][0]["value"] > 0
    assert [bar["verdict"] for bar in found["bars"]] == ["unmeasured", "unmeasured"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
