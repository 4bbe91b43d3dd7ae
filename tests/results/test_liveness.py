from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from signs_dist.results.liveness import CLOCK_SECONDS, FileClock, is_held
from tests.results.runs import hold, hold_dead


def test_a_process_of_this_machine_is_looked_up(tmp_path: Path) -> None:
    assert not is_held(tmp_path, 30.0)
    lease = hold(tmp_path)
    os.utime(lease, (1, 1))  # its age says nothing: the process is there
    assert is_held(tmp_path, 30.0)
    hold_dead(tmp_path)
    assert not is_held(tmp_path, 30.0)


@pytest.mark.parametrize(("age", "held"), [(0.0, True), (20.0, True), (40.0, False), (1e6, False), (-5.0, True)])
def test_a_process_of_another_machine_is_judged_by_the_age_of_its_lease(
    tmp_path: Path, age: float, held: bool
) -> None:
    lease = hold(tmp_path, elsewhere=True)
    touched = time.time() - age
    os.utime(lease, (touched, touched))
    assert is_held(tmp_path, 30.0) is held


def test_the_age_is_told_by_the_clock_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(tmp_path, elsewhere=True)
    monkeypatch.setattr(time, "time", lambda: 12_345.0)  # this machine's clock is wrong by years
    assert is_held(tmp_path, 30.0)
    clock = FileClock(tmp_path)
    assert clock.doubt_seconds == 0
    assert clock.now() > 1e9


def test_where_no_file_can_be_made_the_clocks_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    lease = hold(tmp_path, elsewhere=True)
    touched = time.time() - 30.0 - CLOCK_SECONDS / 2
    os.utime(lease, (touched, touched))
    assert is_held(tmp_path, 30.0)  # not called dead while it may be alive
    os.utime(lease, (touched - CLOCK_SECONDS, touched - CLOCK_SECONDS))
    assert not is_held(tmp_path, 30.0)


def test_reading_the_clock_leaves_no_file(tmp_path: Path) -> None:
    FileClock(tmp_path)
    assert list(tmp_path.iterdir()) == []
