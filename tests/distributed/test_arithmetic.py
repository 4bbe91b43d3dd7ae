"""Fingerprints: a digest decides, names explain."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from signs_dist.distributed.arithmetic import (
    Fingerprint,
    RankArithmetic,
    find_odd_ranks,
    name_arithmetic,
    refusal_of_ranks,
)
from signs_dist.errors import EXIT_OTHER_ARITHMETIC

ZEN = {"torch": "2.14.1", "CPU capability": "AVX512", "CPU instructions": "avx2 fma avx512f avx512_bf16"}
HASWELL = {"torch": "2.14.1", "CPU capability": "AVX2", "CPU instructions": "avx2 fma"}
HERE = Fingerprint(ZEN, "subject", "digest")
THERE = Fingerprint(HASWELL, "subject", "other")


def test_it_survives_a_file() -> None:
    assert Fingerprint.from_dict(HERE.as_dict()) == HERE


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        7,
        {},
        {**HERE.as_dict(), "version": 2},
        {**HERE.as_dict(), "names": ["torch"]},
        {**HERE.as_dict(), "names": {"torch": 2}},
        {**HERE.as_dict(), "digest": None},
    ],
)
def test_anything_else_is_none(damaged: Any) -> None:
    assert Fingerprint.from_dict(damaged) is None


def test_differences_by_name() -> None:
    assert HERE.differences(HERE) == []
    assert HERE.differences(THERE) == [
        "CPU capability AVX512 → AVX2",
        "CPU instructions without avx512f avx512_bf16",
    ]
    assert THERE.differences(HERE)[1] == "CPU instructions with avx512f avx512_bf16"
    assert Fingerprint({}).differences(Fingerprint({"GPU": "H100"})) == ["GPU none → H100"]


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (HERE, True),
        (THERE, False),
        (dataclasses.replace(HERE, names=HASWELL), True),  # other names, the same bits
        (dataclasses.replace(HERE, digest="other"), False),  # the same names, other bits
        (dataclasses.replace(THERE, subject="another network"), None),
        (Fingerprint(ZEN), None),  # fast mode
    ],
)
def test_the_digest_decides(other: Fingerprint, is_same: bool | None) -> None:
    assert HERE.is_same(other) is is_same


def rank(fingerprint: Fingerprint, host: str) -> RankArithmetic:
    return RankArithmetic(fingerprint, host, "cpu")


@pytest.mark.parametrize(
    ("digests", "before", "odd"),
    [
        ("aaa", None, []),
        ("aab", None, [2]),
        ("baa", None, [0]),
        ("abb", "a", [1, 2]),  # the earlier attempt outranks the majority
        ("abb", "c", [0]),  # neither is the earlier one: the next check tells of it
        ("ab", None, [1]),  # rank 0 is right where nobody else decides
    ],
)
def test_who_is_odd(digests: str, before: str | None, odd: list[int]) -> None:
    ranks = [rank(Fingerprint(ZEN, "subject", digest), f"n{number}") for number, digest in enumerate(digests)]
    earlier = Fingerprint(ZEN, "subject", before) if before is not None else None
    assert find_odd_ranks(list(digests), ranks, earlier) == odd


def test_the_refusal_names_host_device_and_what_differs() -> None:
    ranks = [rank(HERE, "n1"), rank(THERE, "n2"), rank(HERE, "n1"), rank(THERE, "n2")]
    error = refusal_of_ranks(ranks, [1, 3])
    assert str(error).startswith("exact=true: 2 of 4 processes compute other bits than the others")
    assert "rank 1 on n2 (cpu): CPU capability AVX512 → AVX2; CPU instructions without avx512f avx512_bf16" in str(
        error
    )
    assert (error.nodes, error.exit_code) == (("n2",), EXIT_OTHER_ARITHMETIC)
    many = refusal_of_ranks([rank(HERE, "n1"), *(rank(THERE, f"m{number}") for number in range(9))], range(1, 10))
    assert "rank 4 on m3" in str(many)
    assert "and 5 more" in str(many)
    assert "rank 5" not in str(many)


def test_the_names_of_this_process_are_texts_that_a_checkpoint_may_hold() -> None:
    names = name_arithmetic(torch.device("cpu"), 3)
    assert names["torch"] == torch.__version__
    assert names["threads"] == "3"
    assert names["CPU capability"] == torch.backends.cpu.get_cpu_capability()
    assert all(type(text) is str and text for pair in names.items() for text in pair)
