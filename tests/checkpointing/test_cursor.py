"""Places in a run, and the names of their checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.checkpointing.cursor import Cursor


@pytest.mark.parametrize(
    ("name", "cursor"),
    [
        ("epoch-0005.pt", Cursor(5, 0)),
        ("epoch-0000.pt", Cursor(0, 0)),
        ("epoch-0005-step-000120.pt", Cursor(4, 120)),
        ("epoch-12345-step-1234567.pt", Cursor(12344, 1234567)),
        ("epoch0004-step000120.pt", Cursor(4, 120)),  # of an earlier release
        ("epoch0005-step000000.pt", Cursor(5, 0)),
        ("epoch-0005-step-000000.pt", None),  # the end of epoch 4 has one name
        ("epoch-0000-step-000003.pt", None),
        ("epoch-5.pt", None),
        ("epoch-٠٠٠٥.pt", None),
        ("epoch-0005.pt.broken", None),
        (f"epoch-{'9' * 5000}.pt", None),
        ("last.pt", None),
    ],
)
def test_the_place_in_a_name(name: str, cursor: Cursor | None) -> None:
    assert Cursor.of_file(Path(name)) == cursor
    if cursor is not None and name.startswith("epoch-"):
        assert cursor.file_name == name


@pytest.mark.parametrize(
    ("cursor", "words"),
    [(Cursor(4, 120), "epoch 5, step 120"), (Cursor(5, 0), "epoch 5"), (Cursor(0, 0), "the beginning")],
)
def test_a_place_in_words_counts_as_its_name(cursor: Cursor, words: str) -> None:
    assert str(cursor) == words
