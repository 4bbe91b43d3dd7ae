"""Messages about wrong settings: short, and with the setting that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.messages import find_setting
from tests.config.config_files import message_of


def test_a_very_long_value_is_told_short(tmp_path: Path) -> None:
    message = message_of(tmp_path, f"train: {{epochs: '{'x' * 200_000}'}}")
    assert len(message) < 400
    assert "(200,000 characters)" in message
    assert len(message_of(tmp_path, None, f"train.epochs={'x' * 200_000}")) < 800


@pytest.mark.parametrize(
    ("word", "setting"),
    [
        ("epochs", "train.epochs"),
        ("epcohs", "train.epochs"),
        ("batch-size", "train.global_batch"),
        ("lr", "optim.lr"),
        ("optim.rl", "optim.lr"),
        ("zzz", ""),
    ],
)
def test_a_guess_finds_the_setting(word: str, setting: str) -> None:
    assert find_setting(word) == setting
