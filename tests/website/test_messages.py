"""Anchors of rows of messages."""

from __future__ import annotations

import pytest

from website.messages import anchor_of, printed_errors


def test_an_anchor_is_made_of_the_words_and_is_used_once() -> None:
    taken: set[str] = set()
    assert anchor_of("has … MiB that git does not ignore", taken) == "message-has-mib-that-git-does-not-ignore"
    assert anchor_of("has … MiB that git does not ignore", taken) == "message-has-mib-that-git-does-not-ignore-2"
    assert anchor_of("…", taken) == "message-row"
    assert len(anchor_of("word " * 50, taken)) <= len("message-") + 60


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("tensor([1.])\nRuntimeError: a leaf Variable is used", ["a leaf Variable is used"]),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", ["CUDA out of memory"]),
        ("RuntimeError: … device …", []),
        (" error  ValueError: a model of mine is broken", []),
        ("epoch 1: loss 0.3", []),
    ],
)
def test_errors_that_python_printed(text: str, errors: list[str]) -> None:
    assert printed_errors(text) == errors
