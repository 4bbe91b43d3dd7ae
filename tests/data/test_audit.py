from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.data.audit import audit, find_duplicates, main, missing_classes
from tests.data.photo_files import encoded, jpeg, photo, signs_files, write_files, write_zip


def run(*arguments: object) -> int:
    return run_command(main, [str(argument) for argument in arguments])


def test_clean_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write_zip(tmp_path / "SIGNS.zip", signs_files(30, 6))) == 0
    out = capsys.readouterr().out
    assert ["train", "10", "10", "10", "30"] in [line.split() for line in out.splitlines()]
    assert "36 images read, no problems" in out


def test_real_photos_have_pairs_in_both_splits_and_nothing_worse(real_photos: Path) -> None:
    found = audit(real_photos)
    assert not found.has_problems
    assert len(found.duplicates.across) == 15
    assert ("train_signs/0_IMG_5958 (1).jpg", "val_signs/0_IMG_5958.jpg") in found.duplicates.across


def test_problems_are_all_named_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"train_signs/{i % 3}_{i}.jpg": jpeg(i) for i in range(9)}
    files |= {f"val_signs/{i % 2}_{i}.jpg": jpeg(20 + i) for i in range(4)}
    files |= {"train_signs/0_empty.jpg": b"", "val_signs/1_cut.jpg": jpeg(3, 300)[:2000], "train_signs/x.png": b"x"}
    assert run(write_files(tmp_path / "set", files)) == 1
    out = capsys.readouterr().out
    for words in (
        "train_signs/0_empty.jpg: the file has 0 bytes",
        "val_signs/1_cut.jpg: truncated",
        "train_signs/x.png: no label in its name",
        "problem: val has no image of class 2",
        "problem: 3 images cannot be used",
    ):
        assert words in out


def test_class_that_only_test_lacks_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{split}/{label}/a.jpg" for split in ("train", "val") for label in "ab"]
    files = {name: jpeg(seed) for seed, name in enumerate(names)}
    assert run(write_files(tmp_path, files | {"test/a/a.jpg": jpeg(1000)})) == 0
    assert "warning: test has no image of class b" in capsys.readouterr().out


def test_same_picture_in_other_files_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"train/{label}/{i}.png": encoded(photo(10 * i + ord(label)), "PNG") for label in "ab" for i in range(3)}
    files["val/a/copy.bmp"] = encoded(photo(ord("a")), "BMP")
    files["val/b/other.png"] = encoded(photo(999), "PNG")
    files["train/b/twice.png"] = files["train/b/1.png"]
    assert run(write_files(tmp_path, files)) == 0
    out = capsys.readouterr().out
    assert "warning: 1 image is in more than one split" in out
    assert "train/a/0.png = val/a/copy.bmp" in out
    assert "train/b/1.png = train/b/twice.png" in out


def test_not_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 2
    assert run(tmp_path / "none") == 2
    assert "there is no zip or folder" in capsys.readouterr().err


def test_find_duplicates_as_a_table() -> None:
    pictures = {"t/1": ("train", "x"), "t/2": ("train", "y"), "t/3": ("train", "y"), "v/1": ("val", "x")}
    assert find_duplicates(pictures).across == (("t/1", "v/1"),)
    assert find_duplicates(pictures).within == (("t/2", "t/3"),)
    assert missing_classes({"train": {"a": 1, "b": 2}, "val": {"a": 0, "b": 1}}) == (("val", "a"),)
