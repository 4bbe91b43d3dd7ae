"""Builds of class folders: each class in its share, copies on one side, small classes, and what is printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.console.command import run_command
from signs_dist.data.build import main
from signs_dist.data.folder import index_data_set
from tests.data.photo_files import content_of, encoded, jpeg, photo, write_files, write_zip


def run(*arguments: object) -> int:
    return run_command(main, [str(argument) for argument in arguments])


def class_folders(num_classes: int, num_photos: int) -> dict[str, bytes]:
    return {
        f"class{label:02d}/{label}_{number}.jpg": jpeg(100 * label + number, 12)
        for label in range(num_classes)
        for number in range(num_photos)
    }


def counts_of(out: Path) -> dict[str, dict[str, int]]:
    return {split: row["per_class"] for split, row in json.loads((out / "build.json").read_text())["splits"].items()}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_each_class_has_its_share(tmp_path: Path, kind: str) -> None:
    write = write_zip if kind == "zip" else write_files
    source = write(tmp_path / "photos", class_folders(12, 14))
    assert run("--source", source, "--out", tmp_path / "out", "--size", 8, "--processes", 1, "--quiet") == 0
    counts = counts_of(tmp_path / "out")
    assert set(counts["train"].values()) == {11}
    assert set(counts["val"].values()) == {3}
    assert len(index_data_set(tmp_path / "out")["val"].classes) == 12


def test_flat_names_say_how_to_divide_each_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{label}_IMG_{number}.jpg": jpeg(10 * label + number, 12) for label in range(12) for number in range(3)}
    flags = ["--source", write_files(tmp_path / "photos", files), "--out", tmp_path / "out", "--size", 8]
    assert run(*flags) == 2
    told = capsys.readouterr().err
    assert "The published split draws from the photos of all classes together" in told
    assert "add --split stratified" in told
    assert run(*flags, "--split", "stratified", "--processes", 1) == 0
    assert set(counts_of(tmp_path / "out")["val"].values()) == {1}
    assert run(*flags, "--split", "stratified") == 0
    assert "already built" in capsys.readouterr().out


def test_copies_stay_on_one_side_and_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = class_folders(2, 20)
    for number in range(0, 20, 2):
        files[f"class00/copy of {number}.jpg"] = files[f"class00/0_{number}.jpg"]
    source = write_files(tmp_path / "photos", files)
    assert run("--source", source, "--out", tmp_path / "out", "--size", 8, "--processes", 1) == 0
    record = json.loads((tmp_path / "out/build.json").read_text())
    assert record["same_picture_in_two_splits"] == []
    assert "10 images are in one split more than once:" in capsys.readouterr().out
    assert 5 <= counts_of(tmp_path / "out")["val"]["class00"] <= 7  # a fifth of 30


def test_the_same_photos_give_the_same_set(tmp_path: Path) -> None:
    files = class_folders(3, 7)
    files["class01/copy.jpg"] = files["class01/1_3.jpg"]
    outs = []
    for name, items in [("a", files.items()), ("b", reversed(files.items()))]:
        source = write_files(tmp_path / name / "photos", dict(items))
        outs.append(tmp_path / name / "out")
        assert run("--source", source, "--out", outs[-1], "--size", 8, "--processes", 1, "--quiet") == 0
    first, second = (content_of(out) for out in outs)
    for content in (first, second):
        record = json.loads(content.pop("build.json"))
        assert record.pop("source_fingerprint")  # holds the times of the files
    assert first == second


def test_a_photo_with_two_labels_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = class_folders(2, 6)
    files["class01/same.jpg"] = files["class00/0_1.jpg"]
    source = write_files(tmp_path / "photos", files)
    assert run("--source", source, "--out", tmp_path / "out", "--size", 8, "--processes", 1) == 0
    out = capsys.readouterr().out
    assert "problem: 1 image is in more than one class. Keep the file in the right class:" in out
    assert "  train/class00/0_1.jpg = train/class01/same.jpg" in out
    record = json.loads((tmp_path / "out/build.json").read_text())
    assert record["same_picture_in_two_classes"] == [["train/class00/0_1.jpg", "train/class01/same.jpg"]]


SMALL = {
    "single": ({"owl/1.jpg": jpeg(90)}, {"owl": 1}),
    "two singles": ({"owl/1.jpg": jpeg(90), "fox/1.jpg": jpeg(91)}, {"fox": 1, "owl": 1}),
    "copies of one photo": ({f"owl/{number}.jpg": jpeg(90) for number in range(4)}, {"owl": 4}),
    "one of two is broken": ({"owl/1.jpg": jpeg(90), "owl/2.jpg": b"broken"}, {"owl": 1}),
}


@pytest.mark.parametrize("kind", SMALL)
def test_small_classes_are_named_and_omitted_when_asked_for(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files, omitted = SMALL[kind]
    source = write_files(tmp_path / "photos", class_folders(2, 6) | files)
    out = tmp_path / "out"
    flags = ["--source", source, "--out", out, "--size", 8, "--processes", 1, "--bad-images", "skip"]
    assert run(*flags) == 2
    told = capsys.readouterr().err
    assert all(name in told for name in omitted)
    assert "--small-classes skip" in told
    assert not out.exists()
    assert run(*flags, "--small-classes", "skip", "--quiet") == 0
    told = capsys.readouterr().out
    assert "without an image for train or for val: " in told
    assert all(name in told for name in omitted)
    assert json.loads((out / "build.json").read_text())["small_classes_left_out"] == omitted
    assert {path.name for path in (out / "train").iterdir()} == {"class00", "class01"}
    index_data_set(out)
    assert run(*flags, "--small-classes", "skip") == 0
    assert run(*flags) == 2
    assert "--small-classes skip" in capsys.readouterr().err


def test_a_small_class_is_told_before_anything_is_written(tmp_path: Path) -> None:
    source = write_files(tmp_path / "photos", class_folders(2, 6) | {"owl/1.jpg": jpeg(90)})
    assert run("--source", source, "--out", tmp_path / "new/out") == 2
    assert not (tmp_path / "new").exists()


def test_a_class_without_val_images_of_its_own_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        f"{split}/{label}/{number}.jpg": jpeg(ord(label) + number)
        for split in ("train", "val")
        for label in "ab"
        for number in range(2)
    }
    files["train/owl/1.jpg"] = jpeg(99)
    flags = ["--source", write_files(tmp_path / "photos", files), "--out", tmp_path / "out", "--size", 8]
    assert run(*flags) == 2
    told = capsys.readouterr().err
    assert "no val image of class owl (1 is in train). Add images of this class to val, or omit this class" in told
    assert "--seed" not in told
    assert run(*flags, "--small-classes", "skip") == 0
    assert set(counts_of(tmp_path / "out")["train"]) == {"a", "b"}


def test_classes_whose_photos_are_all_in_other_classes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"{label}/{number}.jpg": jpeg(number) for label in "ab" for number in range(3)}
    assert run("--source", write_files(tmp_path / "photos", files), "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "no val image of class a (3 are in train), b (3 are in train)" in told
    assert "two different photos or more that are in no other class" in told


@pytest.mark.parametrize(("size", "folder"), [(96, "96x96 set"), (64, "it's [new]: 2"), (24, "plain")])
def test_the_line_that_trains_on_the_set_says_its_size_and_its_folder(
    tmp_path: Path, size: int, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / folder
    source = write_files(tmp_path / "photos", class_folders(2, 6))
    assert run("--source", source, "--out", out, "--size", size, "--processes", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if line.startswith("train on it: "))
    words = shlex.split(line.removeprefix("train on it: "))
    assert words[:3] == ["python", "-m", "signs_dist.train"]
    config = load_config(None, words[3:])
    assert (config.data.root, config.data.image_size) == (str(out), size)
    assert config.train.global_batch <= 10  # there are 10 training images
    assert any(line.startswith("few photos: ") for line in lines)
    assert run("--source", source, "--out", out, "--size", size) == 0  # already built
    assert line in capsys.readouterr().out.splitlines()


def test_a_thousand_bad_names_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"train_signs/photo{number}.jpg": b"x" for number in range(300)}
    files |= {f"train_signs/{number % 2}_{number}.jpg": jpeg(number % 5, 12) for number in range(20)}
    assert run("--source", write_files(tmp_path / "photos", files), "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "at least 300 images of" in told
    assert "  no label in its name, such as the 3 of 3_IMG_5942.jpg: 300 images, such as train_signs/photo0.jpg" in told
    assert len(told.splitlines()) == 3


@pytest.mark.parametrize(
    ("flags", "code"), [([], 0), (["--max-megapixels", "0.001"], 2), (["--max-megapixels", "-1"], 2)]
)
def test_the_limit_on_pixels(tmp_path: Path, flags: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        f"{label}/{number}.png": encoded(photo(ord(label) + 10 * number), "PNG")
        for label in "ab"
        for number in range(3)
    }
    source = write_files(tmp_path / "photos", files)
    assert run("--source", source, "--out", tmp_path / "out", "--size", 8, "--processes", 1, *flags) == code
    if code:
        assert "megapixels" in capsys.readouterr().err


def test_copies_in_two_splits_of_the_published_split_come_with_the_other_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {f"{number % 2}_IMG_{number}.jpg": jpeg(number % 2, 12) for number in range(20)}
    source = write_files(tmp_path / "photos", files)
    assert run("--source", source, "--out", tmp_path / "out", "--size", 8, "--processes", 1) == 0
    out = capsys.readouterr().out
    assert "warning: 2 images are in more than one split" in out
    assert "to keep copies on one side, in another split than the published one: --split stratified" in out
