"""The page of settings: complete, and as the schema is now."""

from __future__ import annotations

from pathlib import Path

from signs_dist.config.section import flatten
from signs_dist.config.settings import Config
from signs_dist.config.settings_page import settings_page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    command = "python -m signs_dist.config.settings_page > docs/settings.md"
    assert PAGE.read_text(encoding="utf-8") == settings_page(), f"type: {command}"


def test_the_page_holds_every_setting_with_its_default_and_its_docstring() -> None:
    rows = [line for line in settings_page().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [key for key, _ in flatten(Config())]
    assert (
        "| `optim.lr` | `0.1` | a number, above 0 and at most 1e+30 | Peak learning rate. It is used as written and "
        "never scaled by the batch or the number of processes. |"
    ) in rows
    assert (
        "| `train.num_threads` | `auto` | a whole number, at least 1 and at most 1024, or auto | "
        "CPU threads per operation. auto: 1 if "
        "exact, else OMP_NUM_THREADS, else this process's share of the cores; fewer while other programs keep these "
        "cores busy. |"
    ) in rows
