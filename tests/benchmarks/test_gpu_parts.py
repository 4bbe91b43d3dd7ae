"""The parts of the benchmark for a GPU, rehearsed on the CPU."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import gpu_parts
from benchmarks.gpu_parts import Bench, main, record
from signs_dist.errors import UserError


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.chdir(tmp_path)
    made = Bench(torch.device("cpu"), is_rehearsal=True, photos=None)
    made.seconds = 0.0
    return made


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_training_is_measured_with_each_storage(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    for storage in ("packed", "device"):
        bench.training("signs.yaml", "training, signs.yaml", f"data.storage={storage}")
    found = rows(capsys)
    assert [row["settings"] for row in found] == ["data.storage=packed", "data.storage=device"]
    assert all(row["value"] > 0 and row["unit"] == "images/s" for row in found)


def test_what_is_refused_or_fails_is_a_line_and_the_next_is_measured(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> float:
        raise RuntimeError("CUDA error: out of order\nmore lines")

    bench.training("signs.yaml", "training", "train.graf=true")
    bench.tell("a", ["b=1", "c=2"], fail, "ms")
    bench.tell("a", ["d"], lambda: 3.0, "ms")
    refused, *others = rows(capsys)
    assert refused["text"].startswith("refused: train.graf=true: unknown key train.graf. Did you mean")
    assert len(refused["text"]) < 220
    assert others == [
        {"figure": "a", "settings": "b=1 c=2", "text": "failed: RuntimeError: CUDA error: out of order"},
        {"figure": "a", "settings": "d", "value": 3.0, "unit": "ms"},
    ]


def test_the_speed_is_a_median_of_warm_rounds(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    now, calls = 0.0, 0

    def work() -> int:
        nonlocal now, calls
        calls += 1
        now += 100.0 if calls <= gpu_parts.NUM_WARM_UP else float(calls)
        return 60

    monkeypatch.setattr(gpu_parts.time, "perf_counter", lambda: now)
    assert bench.rate(work) == 60 / 5  # rounds of 4, 5 and 6 s
    assert calls == 6


def test_random_photos_are_written_once(bench: Bench) -> None:
    root = bench.write_photos(864, 64)
    assert len(list((root / "train_signs").iterdir())) == 24
    first = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    assert bench.write_photos(864, 64) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")} == first


def test_a_cpu_has_no_graphs() -> None:
    with pytest.raises(UserError, match=r"no CUDA graphs on a CPU"):
        record(lambda: None, SimpleNamespace(param_groups=[]), torch.device("cpu"))


def test_without_a_gpu_it_says_what_to_type() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SystemExit, match=r"no GPU is visible\. .* type: python benchmarks/gpu\.py --rehearse"):
        main(["signs"])


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        (
            "a warning\nsigns_dist: error: data.root=x: no such folder\n",
            "signs_dist: error: data.root=x: no such folder",
        ),
        ("first\nlast\n", "last"),
        ("", "exit code 3"),
    ],
)
def test_what_a_command_says_at_its_end(errors: str, told: str) -> None:
    assert gpu_parts._last_line(subprocess.CompletedProcess([], 3, "", errors)) == told
