"""What a side is: words of the flags, and where its code lies."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from signs_dist.diverging.orders import SideOrder, read_words, search_path
from signs_dist.errors import UserError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", (None, [])),
        ("processes=3", (3, [])),
        ("processes=1 optim.lr=0.1 seed=4", (1, ["optim.lr=0.1", "seed=4"])),
        ("data.root='a b'", (None, ["data.root=a b"])),
        ("model.args={a: 1, b: [2, 3]} seed=4", (None, ["model.args={a: 1, b: [2, 3]}", "seed=4"])),
    ],
)
def test_words_of_a_side(text: str, read: tuple[int | None, list[str]]) -> None:
    assert read_words(text, "--left") == read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("processes=none", "--left: processes=none: give a whole number from 1"),
        ("processes=0", "give a whole number from 1"),
        ("3", "--left: '3' is no setting. Type --left 'processes=2 optim.lr=0.1'"),
        ("a='b", "No closing quotation"),
    ],
)
def test_wrong_words(text: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_words(text, "--left")


def test_an_order_travels_as_json() -> None:
    order = SideOrder("A", ("127.0.0.1", 5), "t", None, "c.yaml", ["seed=1"], None, "cpu", 0, 20)
    assert SideOrder.from_fields(json.loads(json.dumps(dataclasses.asdict(order)))) == order


def test_code_of_a_side_is_searched_first(tmp_path: Path) -> None:
    assert search_path(tmp_path, ["/elsewhere"]) == [str(tmp_path.resolve()), "/elsewhere"]
    with pytest.raises(UserError, match="no such folder"):
        search_path(tmp_path / "gone", [])
    (tmp_path / "signs_dist").mkdir()
    with pytest.raises(UserError, match="without the command diverge"):
        search_path(tmp_path, [])
