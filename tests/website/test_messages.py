"""Anchors of rows of messages."""

from __future__ import annotations

from website.messages import anchor_of


def test_an_anchor_is_made_of_the_words_and_is_used_once() -> None:
    taken: set[str] = set()
    assert anchor_of("has … MiB that git does not ignore", taken) == "message-has-mib-that-git-does-not-ignore"
    assert anchor_of("has … MiB that git does not ignore", taken) == "message-has-mib-that-git-does-not-ignore-2"
    assert anchor_of("…", taken) == "message-row"
    assert len(anchor_of("word " * 50, taken)) <= len("message-") + 60
