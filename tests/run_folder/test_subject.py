"""What a run trains, as digests of its config, data and code."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from signs_dist.run_folder.subject import PARTS, Subject, code_sha256, config_sha256, data_sha256, photos_sha256

SUBJECT = Subject(config="a" * 64, data="b" * 64, code="c" * 64)


def test_a_subject_is_written_and_read_back() -> None:
    written = SUBJECT.as_dict()
    assert list(written) == [*PARTS, "sha256"]
    assert written["sha256"] == SUBJECT.sha256
    assert Subject.from_dict(written) == SUBJECT


@pytest.mark.parametrize("part", PARTS)
def test_each_part_changes_the_whole(part: str) -> None:
    other = dataclasses.replace(SUBJECT, **{part: "d" * 64})
    assert other.sha256 != SUBJECT.sha256
    assert SUBJECT.differences(other) == [part]
    assert Subject.from_dict({**SUBJECT.as_dict(), part: "d" * 64}) is None


@pytest.mark.parametrize("values", [None, 3, {}, {"config": "a", "data": "b"}, {"config": 1, "data": 2, "code": 3}])
def test_other_values_are_no_subject(values: Any) -> None:
    assert Subject.from_dict(values) is None


def test_digests_of_names_do_not_depend_on_their_order() -> None:
    for digest in (config_sha256, data_sha256, code_sha256):
        assert digest({"a": "1", "b": "2"}) == digest({"b": "2", "a": "1"}) != digest({"a": "1", "b": "3"})
    assert config_sha256({"optim.lr": 0.1}) != config_sha256({"optim.lr": 0.1 + 2e-17})


@pytest.mark.parametrize(
    ("classes", "photos"),
    [
        (("a", "b"), [("1.png", 0, "e" * 64), ("2.png", 1, "f" * 64)]),
        (("a", "c"), [("1.png", 0, "d" * 64), ("2.png", 1, "f" * 64)]),
        (("a", "b"), [("3.png", 0, "d" * 64), ("2.png", 1, "f" * 64)]),
        (("a", "b"), [("1.png", 1, "d" * 64), ("2.png", 1, "f" * 64)]),
        (("a", "b"), [("1.png", 0, "d" * 64)]),
        (("a", "b"), [("2.png", 1, "f" * 64), ("1.png", 0, "d" * 64)]),
    ],
)
def test_photos_count_by_name_label_content_and_order(classes: Any, photos: Any) -> None:
    whole = photos_sha256(("a", "b"), [("1.png", 0, "d" * 64), ("2.png", 1, "f" * 64)])
    assert whole != photos_sha256(classes, photos)


def test_names_that_are_no_unicode_are_hashed() -> None:
    assert len(photos_sha256(["a"], [("\udcff.png", 0, "d" * 64)])) == 64
