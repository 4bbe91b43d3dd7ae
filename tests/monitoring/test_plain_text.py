from __future__ import annotations

import os

import pytest

from signs_dist.monitoring.plain_text import one_line, without_control


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("3_IMG_1.jpg", "3_IMG_1.jpg"),
        ("été 你好 👩\u200d🔬.jpg", "été 你好 👩\u200d🔬.jpg"),
        ("Screenshot 10.00.00\u202fAM.png", "Screenshot 10.00.00\u202fAM.png"),
        ("\x1b[2J\x1b]0;title\x07.jpg", "\\x1b[2J\\x1b]0;title\\x07.jpg"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nerror: forged", "a\\nerror: forged"),
        ("a\rb\tc", "a\\x0db\\tc"),
        ("\x7f\x00", "\\x7f\\x00"),
        (os.fsdecode(b"caf\xe9.jpg"), "caf\\udce9.jpg"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
        ("", ""),
    ],
)
def test_a_name_is_one_line_without_control_characters(name: str, shown: str) -> None:
    assert one_line(name) == shown
    assert one_line(name).isprintable() or "\u200d" in name or "\u202f" in name
    one_line(name).encode()


def test_a_message_keeps_its_lines() -> None:
    assert without_control("two images:\n\ta.jpg\x1b[1m") == "two images:\n\ta.jpg\\x1b[1m"
