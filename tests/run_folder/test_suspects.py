"""The note about states that may hold wrong results."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.suspects import NAME, Suspicion, clear_suspicion, read_suspicion, write_suspicion

FOUND = Suspicion(9, "rank 1 computed something else.", (1, 1))


def test_the_note_is_read_back_and_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run").create()
    assert read_suspicion(folder) is None
    clear_suspicion(folder)
    for found in (FOUND, Suspicion(3, "", None)):
        write_suspicion(folder, found)
        assert read_suspicion(folder) == found
    clear_suspicion(RunFolder(folder.path, is_writer=False))
    assert read_suspicion(folder) is not None
    clear_suspicion(folder)
    assert read_suspicion(folder) is None


@pytest.mark.parametrize(
    ("clean", "place", "is_suspect"),
    [
        ((1, 1), (1, 1), False),
        ((1, 1), (1, 0), False),
        ((1, 1), (1, 2), True),
        ((1, 1), (2, 0), True),
        ((0, 5), (1, 0), True),
        (None, (0, 1), True),
    ],
)
def test_states_after_the_last_clean_check_are_suspects(
    clean: tuple[int, int] | None, place: tuple[int, int], is_suspect: bool
) -> None:
    assert Suspicion(9, "", clean).is_suspect(place) == is_suspect


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"step": "9", "what": "", "clean": null}',
        '{"step": 9, "what": "", "clean": [1]}',
        '{"step": 9}',
        '{"step": 9, "what": ""}',
        '{"step": 9, "what": "rank 1 computed some',
    ],
)
def test_a_damaged_note_is_refused(tmp_path: Path, text: str) -> None:
    """A run that took it for none would resume from a suspect."""
    folder = RunFolder(tmp_path / "run").create()
    (folder.logs / NAME).write_text(text)
    with pytest.raises(UserError, match=r"suspect\.json cannot be read\. .* type --accept-change suspects"):
        read_suspicion(folder)
