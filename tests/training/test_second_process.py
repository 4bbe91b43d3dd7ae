"""The second process of an exact run, which sees what only another process can see."""

from __future__ import annotations

import dataclasses
import datetime
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.registry import BUILDERS
from signs_dist.training.exact_trial import require_exact, second_process
from signs_dist.training.second_process import (
    CLOCK_SHIFT_SECONDS,
    SECOND_SHIFT_SECONDS,
    digest_at_two_times,
    other_environment,
    shift_clock,
)
from tests.training.parts import make_config, make_process, make_stepper, shown

HERE = "tests.training.test_second_process"
EXACT = ("exact=true", "train.micro_batch=4", "train.precision=float32")

READS: dict[str, Callable[[], float]] = {
    "order of a set": lambda: zlib.crc32("".join({*"abcdefghijklmnop"}).encode()) % 1000,
    "process": os.getpid,
    "second": lambda: int(time.time()) % 1000,
    "numpy": lambda: float(np.random.rand()),
    "nothing": lambda: 0,
}


class Net(nn.Module):
    """Reads something in its constructor or in its forward pass."""

    def __init__(self, num_classes: int, what: str, where: str = "forward") -> None:
        super().__init__()
        print("a network may print")
        self.head = nn.Linear(3, num_classes)
        self.what = what if where == "forward" else "nothing"
        if where == "constructor":
            self.head.weight.data.add_(READS[what]())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits * (1 + READS[self.what]())


def try_in_two_processes(folder: Path, *settings: str) -> str:
    """Try a network as a run does; what the screen shows."""
    process = make_process(quiet=False)
    with second_process(make_config(folder, *EXACT, *settings), process) as second:
        assert second is not None
        stepper, _ = make_stepper(folder, *EXACT, *settings, process=process)
        require_exact(stepper, process, second)
    return " ".join(shown(process).split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "where", "told"),
    [
        ("numpy", "constructor", "it has other initial weights"),
        ("order of a set", "forward", "it computes other bits"),
        ("process", "forward", "it computes other bits"),
        ("second", "forward", "it computes other bits"),
        ("nothing", "forward", ""),
    ],
)
def test_what_differs_between_processes_is_refused(tmp_path: Path, what: str, where: str, told: str) -> None:
    settings = (f"model.name={HERE}:Net", f"model.args={{what: {what}, where: {where}}}")
    if told:
        with pytest.raises(UserError, match=f"this model: in a second process, .*{told}.*It reads something"):
            try_in_two_processes(tmp_path, *settings)
    else:
        assert "second process" not in try_in_two_processes(tmp_path, *settings)


def test_a_network_of_the_program_itself_is_not_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "Plain", Plain, raising=False)
    told = try_in_two_processes(tmp_path, "model.name=__main__:Plain")
    assert "was not tried in a second process: __main__:Plain is in the program that was started" in told


class Plain(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.mean(dim=(2, 3)))
        return logits


def test_a_second_process_that_cannot_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    told = try_in_two_processes(tmp_path, f"model.name={HERE}:Plain")
    assert "was not tried in a second process: it did not start: no more processes." in told


def test_its_last_line_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\necho first >&2\necho ImportError: no torch >&2\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    told = try_in_two_processes(tmp_path, f"model.name={HERE}:Plain")
    assert "was not tried in a second process: ImportError: no torch." in told


@pytest.mark.slow
def test_a_setting_that_nothing_reads_is_no_mistake_in_the_config_of_a_run(tmp_path: Path) -> None:
    settings = (*EXACT, f"model.name={HERE}:Net", "model.args={what: nothing}")
    config = make_config(tmp_path, *settings)
    augment = config.augment.model_copy(update={"magnitude": 5})  # as an earlier release let it pass
    process = make_process(quiet=False)
    config = config.model_copy(update={"augment": augment})
    with second_process(config, process) as second:
        assert second is not None
        stepper, _ = make_stepper(tmp_path, *settings, process=process)
        stepper.prepared = dataclasses.replace(stepper.prepared, config=config)
        require_exact(stepper, process, second)
    assert "second process" not in shown(process)  # where it was not tried, a line says so


def test_a_network_that_a_user_has_registered_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUILDERS, "plain", Plain)
    with second_process(make_config(tmp_path, *EXACT, "model.name=plain"), make_process()) as second:
        assert second is not None


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "1"), ("random", "1"), ("1", "2")])
def test_text_has_other_hashes(before: str | None, after: str) -> None:
    given = {"HOME": "/h"} | ({"PYTHONHASHSEED": before} if before else {})
    assert other_environment(given, ["", "/code"]) == {
        "HOME": "/h",
        "PYTHONHASHSEED": after,
        "PYTHONPATH": f"{Path.cwd()}:/code",
    }


def put_clock_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the test."""
    for name in ("time", "time_ns", "localtime", "gmtime", "ctime", "strftime"):
        monkeypatch.setattr(time, name, getattr(time, name))
    for name in ("date", "datetime"):
        monkeypatch.setattr(datetime, name, getattr(datetime, name))


@pytest.mark.parametrize("period", range(2, 100))
def test_a_value_that_repeats_differs_at_one_of_the_two_times(period: int) -> None:
    """Whatever time passes between the two processes."""
    shifts = (CLOCK_SHIFT_SECONDS, CLOCK_SHIFT_SECONDS + SECOND_SHIFT_SECONDS)
    for seconds_between in range(period):
        assert any((shift + seconds_between) % period for shift in shifts)


@pytest.mark.parametrize(("what", "is_one"), [("nothing", True), ("second", False)])
def test_a_network_that_reads_the_time_gives_a_digest_like_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str, is_one: bool
) -> None:
    put_clock_back(monkeypatch)
    network = (f"model.name={HERE}:Net", f"model.args={{what: {what}}}")
    stepper, _ = make_stepper(tmp_path, *EXACT, *network)
    digest = digest_at_two_times(stepper.make_trial())
    assert (" or " not in digest.training) == is_one
    assert " or " not in digest.weights


@pytest.mark.parametrize(
    "read",
    [
        lambda: int(time.time()),
        lambda: time.time_ns() // 10**9,
        lambda: time.mktime(time.localtime()),
        lambda: time.mktime(time.strptime(time.ctime())),
        lambda: time.mktime(time.strptime(time.strftime("%Y %m %d %H %M %S"), "%Y %m %d %H %M %S")),
        lambda: int(datetime.datetime.now().timestamp()),
        lambda: int(datetime.datetime.now(datetime.timezone.utc).timestamp()),
        lambda: int(datetime.datetime.today().timestamp()),
        lambda: int(datetime.datetime.utcnow().replace(tzinfo=datetime.timezone.utc).timestamp()),
    ],
)
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_the_clock_is_shifted(monkeypatch: pytest.MonkeyPatch, read: Callable[[], float]) -> None:
    now, day, moment = read(), datetime.date.today(), datetime.datetime.now()
    put_clock_back(monkeypatch)
    shift_clock(CLOCK_SHIFT_SECONDS)
    assert CLOCK_SHIFT_SECONDS <= read() - now + 3600 <= CLOCK_SHIFT_SECONDS + 7200 + 60  # summer time
    assert (datetime.date.today() - day).days in (401, 402)
    assert isinstance(moment, datetime.datetime)
    assert isinstance(moment, datetime.date)
    assert not isinstance(day, datetime.datetime)
