"""The failure card: its text, and its files in the logs folder."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from signs_dist.monitoring.beats import Identity
from signs_dist.monitoring.failure_card import (
    WIDTH,
    FailureCard,
    claim_report,
    clear_failures,
    first_line,
    read_failures,
    render,
    write_failure,
)
from signs_dist.monitoring.pulse import Pulse

IDENTITY = Identity(2, 4, "node7", 4711, "cuda:2", "runs/a/logs/rank2.log")


def raised(error: ValueError) -> ValueError:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - any
        raise error
    return caught.value


def card(**changes: object) -> FailureCard:
    pulse = Pulse()
    pulse.enter("backward", epoch=3, step=17)
    made = FailureCard.from_exception(raised(ValueError("wrong shape")), IDENTITY, pulse, exit_code=1)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_the_card_says_who_where_what_and_which_log() -> None:
    lines = render(card()).splitlines()
    assert lines[0].startswith("──── signs_dist: rank 2 of 4 failed ─")
    assert lines[1] == " where  node7, cuda:2, in backward, epoch 3, step 17"
    assert lines[2] == " error  ValueError: wrong shape"
    assert lines[3].startswith("    at  ")
    assert "test_failure_card.py:" in lines[3]
    assert lines[4] == "   log  runs/a/logs/rank2.log"
    assert set(lines[5]) == {"─"}


def test_a_card_keeps_its_width_and_shows_no_control_codes() -> None:
    text = render(card(error="E: " + "word " * 900 + "\x1b[31mred\x07", log="/" + "long" * 40))
    assert max(len(line) for line in text.splitlines() if "/long" not in line) <= WIDTH
    assert "/" + "long" * 40 in text  # a path is to be copied
    assert "\x1b" not in text
    assert len(text.splitlines()) < 30


def test_a_single_process_has_no_rank() -> None:
    assert render(card(world_size=1)).startswith("──── signs_dist failed ─")


def test_cards_survive_the_disk(tmp_path: Path) -> None:
    one = card(details=("a", "b"))
    assert FailureCard.from_json(one.to_json()) == one
    write_failure(tmp_path, one, 3)
    (tmp_path / "failure-rank9.json").write_text("{half")
    for number, changes in enumerate(
        ({"kind": "x"}, {"error": 1}, {"world_size": [2]}, {"details": [3]}, {"time": ""})
    ):
        text = json.dumps(json.loads(one.to_json()) | changes)
        (tmp_path / f"failure-rank1{number}.json").write_text(text)
    os.mkfifo(tmp_path / "failure-rank20.json")
    assert read_failures(tmp_path) == [one]
    assert (tmp_path / "failed.3").exists()
    clear_failures(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_one_process_reports_a_loss(tmp_path: Path) -> None:
    assert claim_report(tmp_path)
    assert not claim_report(tmp_path)
    clear_failures(tmp_path)
    assert claim_report(tmp_path)
    assert claim_report(tmp_path / "gone")  # what cannot be written must not hide the card


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_failure(tmp_path / "run" / "logs", card(), 1)
    assert list(tmp_path.iterdir()) == []


def test_a_long_reason_is_cut_visibly() -> None:
    assert first_line(" no memory\nTraceback") == "no memory"
    assert first_line("x" * 200) == "x" * 200
    assert first_line("x" * 201) == "x" * 199 + "…"
