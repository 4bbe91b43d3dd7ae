"""Pages that several test files read: made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.reporting.writing import write_report
from tests.reporting.run_folders import write_run

HOSTILE = "<img src=x onerror=alert(1)>"
"""The name of a class and, without the slash that no name has, of a run."""


@pytest.fixture(scope="session")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with photos."""
    folder = tmp_path_factory.mktemp("one")
    return write_run(folder / "signs-1", "optim.lr=0.05", epochs=30, photos=folder / "photos")


@pytest.fixture(scope="session")
def hostile_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose names are HTML."""
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE
    classes = [HOSTILE, "</script><script>alert(2)</script>", "<!--", "{{ 7 * 7 }}", "\u2028\x1b[2J", "ok"]
    return write_run(folder, classes=classes, data="</title><b>data", epochs=3)


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 trials over two settings and two seeds; one has failed."""
    folder = tmp_path_factory.mktemp("sweep") / "lr"
    number = 0
    for place, rate in enumerate((0.003, 0.03, 0.3)):
        for decay in (0.0, 0.001):
            for seed in (0, 1):
                has_failed = number == 9
                write_run(
                    folder / "trials" / f"{number:04x}",
                    *(f"optim.lr={rate}", f"optim.weight_decay={decay}", f"seed={seed}"),
                    accuracy=0.9 - 0.2 * abs(place - 1) + 0.02 * seed,
                    is_finished=not has_failed,
                    end="TrainingFailedError: the loss is not finite" if has_failed else "finished",
                )
                number += 1
    return folder


@pytest.fixture(scope="session")
def one_page(one_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "one.html"
    write_report([one_run], page)
    return page


@pytest.fixture(scope="session")
def hostile_page(hostile_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("page") / "hostile.html"
    write_report([hostile_run], page)
    return page
