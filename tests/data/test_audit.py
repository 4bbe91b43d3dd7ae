from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.data.audit import main
from signs_dist.data.inspection.findings import has_problems
from signs_dist.data.inspection.inspecting import inspect_photos
from tests.data.photo_files import encoded, jpeg, photo, signs_files, write_files, write_zip


def run(*arguments: object) -> int:
    return run_command(main, [str(argument) for argument in arguments])


def test_clean_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(write_zip(tmp_path / "SIGNS.zip", signs_files(30, 6))) == 0
    out = capsys.readouterr().out
    assert ["train", "10", "10", "10", "30"] in [line.split() for line in out.splitlines()]
    assert "36 images read, no problems" in out


def test_real_photos_have_pairs_in_both_splits_and_nothing_worse(real_photos: Path) -> None:
    found = inspect_photos(real_photos, has_near=False)
    assert not has_problems(found)
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


def test_what_lies_outside_and_what_was_passed_over_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        f"{split}/{label}/{split}.jpg": jpeg(ord(label) + len(split)) for split in ("train", "valid") for label in "ab"
    }
    files |= {f"extra/{number}.jpg": jpeg(number) for number in range(5)}
    files |= {"train/a/@eaDir/a.jpg": b"x", "train/c/.DS_Store": b"", "valid/a/notes.txt": b""}
    assert run(write_files(tmp_path / "set", files)) == 0
    out = capsys.readouterr().out
    assert ["val", "1", "1", "2"] in [line.split() for line in out.splitlines()]
    for line in (
        "passed over: 2 files and folders of other programs (.DS_Store, @eaDir/)",
        "passed over: 1 file without a readable image (valid/a/notes.txt)",
        "1 class folder without a file, and not used: train/c",
        "warning: 5 images are outside the split folders and not used:",
        "  extra/2.jpg",
        "  and 2 more",
    ):
        assert line in out.splitlines()


def test_a_class_folder_without_a_readable_photo_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{label}/0.jpg": jpeg(ord(label)) for label in "ab"}
    assert run(write_files(tmp_path / "set", files | {"c/0.nef": b"II*\0"})) == 1
    out = capsys.readouterr().out
    assert "problem: " in out
    assert "the class folder c has files, but no image that can be read" in out
    assert "2 images read, problems found" in out


def test_a_thousand_equal_problems_are_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_files(tmp_path / "set", {f"train/{number}.jpg": b"x" for number in range(98)})
    assert run(source, "--processes", "1") == 1
    out = capsys.readouterr().out
    assert "problem: 98 images cannot be used:" in out
    assert "no label in its name, such as the 3 of 3_IMG_5942.jpg: 98 images, such as train/0.jpg, train/1.jpg" in out
    assert len(out.splitlines()) < 10
    assert run(source, "--processes", "1", "--all") == 1
    assert capsys.readouterr().out.count(".jpg: no label in its name") == 98


def test_many_copies_and_many_missing_classes_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"train/c{label:02d}/{copy}.jpg": jpeg(label, 12) for label in range(40) for copy in range(2)}
    files["val/c00/x.jpg"] = jpeg(99)
    source = write_files(tmp_path / "set", files)
    assert run(source, "--processes", "1") == 1
    out = capsys.readouterr().out
    assert "40 images are in one split more than once:" in out
    assert "  and 20 more" in out
    assert "problem: val has no image of 39 classes: c01, c02, c03, c04, c05 and 34 more" in out
    assert run(source, "--processes", "1", "--all") == 1
    assert capsys.readouterr().out.count(" = ") == 40


@pytest.mark.parametrize(
    ("files", "line"),
    [
        ({"owl/1.jpg": jpeg(50)}, "problem: 1 class has a single photo, too few for train and val: owl"),
        ({"owl/1.jpg": jpeg(50), "owl/2.jpg": jpeg(50)}, "problem: 1 class has a single photo"),
        ({"cat/9.jpg": jpeg(21)}, "problem: 1 image is in more than one class. Keep the file in the right class:"),
        ({"cat/9.jpg": jpeg(11)}, "1 image is in one split more than once:"),
        ({}, "no problems"),
    ],
)
def test_what_would_make_a_set_other_than_it_looks(
    tmp_path: Path, files: dict[str, bytes], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = {
        f"{name}/{number}.jpg": jpeg(10 * label + number)
        for label, name in ((1, "cat"), (2, "dog"))
        for number in range(3)
    }
    code = run(write_files(tmp_path, photos | files), "--processes", "1")
    assert line in capsys.readouterr().out
    assert code == int(line.startswith("problem"))


@pytest.mark.parametrize("name", ["cat/{}.jpg", "{}/cat/1.jpg", "train_signs/3_{}.jpg"])
def test_a_single_class_is_a_problem(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    splits = ("train", "val")
    source = write_files(tmp_path, {name.format(split): jpeg(number) for number, split in enumerate(splits)})
    assert run(source, "--processes", "1") == 1
    class_name = "3" if "signs" in name else "cat"
    assert f"problem: all images are of the single class {class_name}; a classifier" in capsys.readouterr().out


def test_large_photos_are_problems_only_beyond_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_files(
        tmp_path, {f"{name}/{number}.jpg": jpeg(ord(name) + 10 * number) for name in "ab" for number in range(2)}
    )
    assert run(source, "--processes", "1") == 0
    assert run(source, "--processes", "1", "--max-megapixels", "0.001") == 1
    assert "40 x 40 pixels, more than 0.001 megapixels; to allow it: --max-megapixels 1" in capsys.readouterr().out
