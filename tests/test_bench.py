"""The command: what it prints and writes, and how it ends; alone and as several processes."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from signs_dist import bench as command
from signs_dist.bench import main
from signs_dist.benching import run as bench_run
from signs_dist.console.command import run_command
from signs_dist.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from tests.benching.made import make_figures
from tests.processes import run_ranks, started
from tests.sets import write_colour_set


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colour_set(tmp_path_factory.mktemp("colours"), counts={"train": 12, "val": 4})


def settings(photos: Path, *more: str) -> list[str]:
    small = ["data.image_size=16", "train.global_batch=8", "train.epochs=2", "model.name=mlp"]
    return [f"data.root={photos}", f"data.cache={photos}/cache", *small, *more]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Measurements that take no time; the list gets their arguments."""
    asked: list[Any] = []

    def measure(config: Any, process: Any, *, seconds: float) -> Any:
        asked.append((config, process, seconds))
        return make_figures()

    monkeypatch.setattr(bench_run, "bench", measure)
    return asked


def test_it_prints_tables_and_writes_figures(
    tmp_path: Path, measured: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(main, ["--json", "b/figures.json", "--seconds", "0.5", "optim.lr=0.3"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("signs_fast on cpu, 2 cores a process, 1 process; 2 threads, channels_last, float32; 32")
    assert lines[-3:-1] == ["what to change:", "  nothing was found that makes this config 5 % faster on this machine"]
    assert lines[-1] == "the figures are in b/figures.json"
    assert json.loads((tmp_path / "b/figures.json").read_text())["global_batch"] == 32
    ((config, process, seconds),) = measured
    assert (config.optim.lr, process.strategy.world_size, seconds) == (0.3, 1, 0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_quiet_prints_what_to_change(measured: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, ["--quiet"]) == EXIT_OK
    assert capsys.readouterr().out == "  nothing was found that makes this config 5 % faster on this machine\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--dp"], "error: --dp is not measured: nn.DataParallel is slower than a process for each GPU. Type torchrun"),
        (["--seconds", "0"], "error: --seconds 0 is not above 0 and at most 600."),
        (["--seconds", "601"], "error: --seconds 601 is not above 0 and at most 600."),
        (["--seconds", "nan"], "error: --seconds nan is not above 0 and at most 600."),
        (["optim.lr=fast"], "optim.lr"),
        (["--config", "missing.yaml"], "missing.yaml"),
        (["--json", "/dev/null/x.json"], "/dev/null/x.json"),
        (["--device", "cuda:9"], "cuda:9"),
        (["data.root=missing"], "missing"),
    ],
)
def test_wrong_input_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, arguments) == EXIT_USAGE
    assert told in capsys.readouterr().err


def test_a_text_for_a_number_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(main, ["--seconds", "long"])
    assert ended.value.code == EXIT_USAGE
    assert "invalid float value: 'long'" in capsys.readouterr().err


def test_a_run_is_measured_in_exact_mode_and_torch_is_as_before(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    exact = settings(photos, "exact=true", "train.micro_batch=4")
    assert run_command(main, ["--json", str(path), "--seconds", "0.01", *exact]) == EXIT_OK
    assert "training, with saves" in capsys.readouterr().out
    found = json.loads(path.read_text())
    assert (found["exact"], found["chosen"]["num_threads"]) == (True, 1)
    assert all(rate > 0 for rate in found["images_per_second"].values())


@pytest.mark.slow
def test_two_processes_measure_their_sums_and_rank_0_prints(photos: Path, tmp_path: Path) -> None:
    small = settings(photos, "data.num_workers=0")
    arguments = ["-m", command.__name__, "--seconds", "0.02", "--json", "figures.json", *small]
    first, second = run_ranks(2, [sys.executable, *arguments], tmp_path)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "sums over 2 processes" in first.out
    assert second.out == ""
    assert json.loads((tmp_path / "figures.json").read_text())["sums"]["num_bytes"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line(photos: Path, tmp_path: Path) -> None:
    variables = {"TMPDIR": str(tmp_path)}
    arguments = ["-m", command.__name__, "--seconds", "20", *settings(photos, "data.num_workers=0")]
    with started([sys.executable, *arguments], tmp_path, variables) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("signs_dist-bench-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == EXIT_INTERRUPTED, err
    assert (out, len(err.splitlines())) == ("", 1)
    assert list(tmp_path.iterdir()) == []
