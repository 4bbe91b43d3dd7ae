"""Choices that are kept for other runs."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signs_dist.tuning import kept
from signs_dist.tuning.choice import Choice
from signs_dist.tuning.kept import kept_path, read_kept, write_kept

QUESTION = {"machines": ["a"], "torch": "2.14", "model": {"name": "mlp"}}
CHOICE = Choice(2, False, 1.25, 4)
COUNTS = [4, 2, 1]


def test_what_is_kept_is_read_for_the_same_question_only(tmp_path: Path) -> None:
    assert read_kept(tmp_path, QUESTION, COUNTS) is None
    assert write_kept(tmp_path, QUESTION, CHOICE)
    assert read_kept(tmp_path, QUESTION, COUNTS) == CHOICE
    assert read_kept(tmp_path, {**QUESTION, "torch": "2.15"}, COUNTS) is None
    (file,) = (tmp_path / "autotune").iterdir()
    assert file == kept_path(tmp_path, QUESTION)
    assert json.loads(file.read_text()) == {
        "version": 1,
        "question": QUESTION,
        "choice": {"num_threads": 2, "channels_last": False, "factor": 1.25, "num_ways": 4},
    }


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, "choice": {**content["choice"], name: value}}


@pytest.mark.parametrize(
    "change",
    [
        changed("num_threads", 3),  # not among those that may be chosen
        changed("num_threads", 10**9),
        changed("num_threads", "2"),
        changed("num_threads", True),
        changed("channels_last", 1),
        changed("factor", 0.5),
        changed("factor", None),
        changed("factor", float("nan")),
        changed("factor", 10**400),  # no float
        changed("num_ways", 2.5),
        changed("more", 1),
        lambda content: {**content, "version": 2},
        lambda content: {**content, "question": {}},  # of two questions with one name
        lambda content: {**content, "choice": None},
        lambda content: [content],
        lambda content: None,
    ],
)
def test_another_content_is_ignored_and_written_again(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    write_kept(tmp_path, QUESTION, CHOICE)
    path = kept_path(tmp_path, QUESTION)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    assert read_kept(tmp_path, QUESTION, COUNTS) is None
    assert write_kept(tmp_path, QUESTION, CHOICE)
    assert read_kept(tmp_path, QUESTION, COUNTS) == CHOICE


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b" " * (1 << 20) + b"{}"])
def test_a_broken_file_is_ignored(tmp_path: Path, content: bytes) -> None:
    write_kept(tmp_path, QUESTION, CHOICE)
    kept_path(tmp_path, QUESTION).write_bytes(content)
    assert read_kept(tmp_path, QUESTION, COUNTS) is None


def test_a_file_of_another_user_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_kept(tmp_path, QUESTION, CHOICE)
    user = os.geteuid()
    monkeypatch.setattr(kept.os, "geteuid", lambda: user + 1)
    assert read_kept(tmp_path, QUESTION, COUNTS) is None


def test_a_link_and_a_pipe_are_not_opened(tmp_path: Path) -> None:
    write_kept(tmp_path, QUESTION, CHOICE)
    path = kept_path(tmp_path, QUESTION)
    moved = path.rename(tmp_path / "moved.json")
    path.symlink_to(moved)
    assert read_kept(tmp_path, QUESTION, COUNTS) is None
    path.unlink()
    os.mkfifo(path)
    assert read_kept(tmp_path, QUESTION, COUNTS) is None  # without waiting for a writer


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EIO])
def test_a_folder_that_cannot_be_written_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(self: Path, *arguments: Any, **more: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", fail)
    assert not write_kept(tmp_path, QUESTION, CHOICE)
    assert read_kept(tmp_path, QUESTION, COUNTS) is None


def test_a_file_where_the_folder_should_be_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "autotune").write_text("a file")
    assert read_kept(tmp_path, QUESTION, COUNTS) is None
    assert not write_kept(tmp_path, QUESTION, CHOICE)
