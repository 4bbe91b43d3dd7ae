"""Names of the logs of a job's ranks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launch.rank_logs import find_rank_logs, known_ranks, log_stem, rank_log


@pytest.mark.parametrize(
    ("mark", "stem"), [("7", "job7"), ("7.0", "job7.0"), ("7_3.1", "job7_3.1"), ("local7.0", "local7.0")]
)
def test_a_number_alone_is_called_a_job(mark: str, stem: str) -> None:
    assert log_stem(mark) == stem
    assert rank_log(Path("/run"), mark, 2) == Path(f"/run/logs/{stem}.rank2.txt")


def test_the_logs_of_a_job_are_its_own_the_newest_last(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    marks = [("7.0", 0), ("7.0", 10), ("7.1", 0), ("77.0", 0), ("7_1.0", 3), ("local7.0", 5)]
    for number, (mark, rank) in enumerate(marks):
        path = rank_log(tmp_path, mark, rank)
        path.touch()
        os.utime(path, (1000 - number, 1000 - number))
    assert [path.name for path in find_rank_logs(tmp_path, "7", 0)] == ["job7.1.rank0.txt", "job7.0.rank0.txt"]
    assert known_ranks(tmp_path, "7") == [0, 10]
    assert known_ranks(tmp_path, "7_1") == [3]
    assert known_ranks(tmp_path, "local7") == [5]
    assert known_ranks(tmp_path, "8") == []
