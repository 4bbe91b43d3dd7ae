"""A division that is written down stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from signs_dist.data.sources.division_file import agree, file_of, read_division, shown_place, to_text
from signs_dist.errors import UserError


def decide_all(split: str, names: list[str]) -> Mapping[str, str]:
    return dict.fromkeys(names, split)


def test_a_file_is_written_once_and_read_after(tmp_path: Path) -> None:
    path, names = tmp_path / "deep/er/x.csv", ["b,c.jpg", 'a"é.jpg']
    assert agree(path, names, lambda known: decide_all("val", names)) == dict.fromkeys(names, "val")
    assert path.read_text() == 'path,split\n"a""é.jpg",val\n"b,c.jpg",val\n'
    assert agree(path, names, lambda known: pytest.fail("decided twice")) == dict.fromkeys(names, "val")


def test_new_names_are_added_old_ones_stay_and_missing_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    agree(path, ["a", "b"], lambda known: {"a": "train", "b": "val"})
    seen: list[Mapping[str, str]] = []

    def decide(known: Mapping[str, str]) -> Mapping[str, str]:
        seen.append(dict(known))
        return {"b": "test", "c": "test"}  # what is known is not changed, whatever is decided

    assert agree(path, ["b", "c"], decide) == {"b": "val", "c": "test"}
    assert seen == [{"a": "train", "b": "val"}]
    assert read_division(path) == {"a": "train", "b": "val", "c": "test"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "x.csv:1: a division begins with the line path,split"),
        ("a,train\n", "x.csv:1: a division begins with"),
        ("path,split\na,train\nb,valid\n", "x.csv:3: b,valid is no path with train, val or test. Correct the line"),
        ("path,split\na\n", "x.csv:2: a is no path with"),
        ("path,split\na,train\na,val\n", "x.csv:3: a is in two splits"),
        ('path,split\n"a,train\n', "x.csv:2: .*Without it they are divided again: rm"),
    ],
)
def test_a_damaged_file_is_never_replaced(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        agree(tmp_path / "x.csv", ["a"], lambda known: {"a": "train"})
    assert (tmp_path / "x.csv").read_text() == text


def test_a_folder_that_cannot_be_written_says_which_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Type: data.split_folder=FOLDER"):
        agree(tmp_path / "file/x.csv", ["a"], lambda known: {"a": "train"})


def test_the_name_says_what_and_the_key_how(tmp_path: Path) -> None:
    def name(*roots: str, **facts: object) -> str:
        return file_of(tmp_path, [tmp_path / root for root in roots], facts).name

    assert name("my photos é", seed=0).startswith("my-photos-")
    assert name("a", "t.csv", seed=0).startswith("a-t-")
    assert name("a", seed=0) == name("a/../a", seed=0)
    assert len({name("a", seed=0), name("a", seed=1), name("b/a", seed=0), name("a", "b", seed=0)}) == 4


def test_a_place_is_shown_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_place(tmp_path / "data/x.csv") == "data/x.csv"
    assert shown_place(Path("/elsewhere/x.csv")) == "/elsewhere/x.csv"
    assert to_text({"b": "val", "a": "train"}) == "path,split\na,train\nb,val\n"
