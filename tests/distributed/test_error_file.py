"""Who writes torchrun's error file."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.distributed.error_file import recorded


def test_an_error_is_told_and_raised_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    told: list[BaseException] = []

    def fail(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError) as caught:
        recorded(fail, told.append)(3)
    assert told == [caught.value]
    assert not (tmp_path / "error.json").exists()  # the function writes it, not torch


def test_a_result_is_passed_on() -> None:
    def add(one: int, *, other: int) -> int:
        return one + other

    assert recorded(add, pytest.fail)(1, other=2) == 3
    assert recorded(add, pytest.fail).__name__ == "add"
