from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.sources import Arrangement, SourceReader, arrange, list_source, require_usable
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, write_files, write_zip

CAT_AND_DOG = [(None, "cat", "cat/a.png"), (None, "dog", "dog/b.png")]
CAT_TRAIN_DOG_VAL = [("train", "cat", "cat/a.png"), ("val", "dog", "dog/x/b.png")]


def arranged(*names: str) -> Arrangement:
    return arrange([SourceFile(name, 1, "") for name in names], Path("photos"))


@pytest.mark.parametrize(
    ("names", "layout", "found"),
    [
        (["train_signs/0_a.jpg", "test_signs/1_b.jpg"], "flat", [("train", "0", "0_a.jpg"), ("test", "1", "1_b.jpg")]),
        (["S/train/0_a.jpg", "S/val/1_b.jpg"], "flat", [("train", "0", "0_a.jpg"), ("val", "1", "1_b.jpg")]),
        (["train/cat/a.png", "val/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["cat/a.png", "dog/b.png"], "class_folders", CAT_AND_DOG),
        (["pets/cat/a.png", "pets/dog/b.png"], "class_folders", CAT_AND_DOG),
        (["0_a.png", "1_b.png"], "flat", [(None, "0", "0_a.png"), (None, "1", "1_b.png")]),
        (["all/0_a.png", "all/1_b.png"], "flat", [(None, "0", "0_a.png"), (None, "1", "1_b.png")]),
        (["train/cat/a.png", "valid/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["Training/cat/a.png", "DEV/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["seg_train/seg_train/cat/a.png", "seg_val/seg_val/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["a/seg_train/seg_train/cat/a.png", "a/val_set/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["a/b/train/cat/a.png", "a/b/holdout/dog/x/b.png"], "class_folders", CAT_TRAIN_DOG_VAL),
        (["home/me/pets/cat/a.png", "home/me/pets/dog/b.png"], "class_folders", CAT_AND_DOG),
    ],
)
def test_layouts(names: list[str], layout: str, found: list[tuple[str | None, str, str]]) -> None:
    arrangement = arranged(*names)
    assert arrangement.layout == layout
    assert [(image.split, image.class_name, image.name) for image in arrangement.images] == found


def test_bad_names_and_images_outside_are_told_apart() -> None:
    arrangement = arranged("train_signs/0_a.jpg", "train_signs/x.jpg", "train_signs/1_\udcff.jpg", "cover.jpg")
    assert [image.name for image in arrangement.images] == ["0_a.jpg"]
    assert [path for path, _ in arrangement.bad_names] == ["train_signs/1_\\udcff.jpg", "train_signs/x.jpg"]
    assert arrangement.outside == ("cover.jpg",)
    assert arranged("0_at 9.41\u202fPM.png").images  # the narrow space of macOS screenshots


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no images"),
        (["test_signs/0_a.jpg"], "has test_signs/ but no training images. Add a folder train/"),
        (["train/0_a.jpg", "train_signs/0_a.jpg"], "has both train/ and train_signs/ for train"),
        (["train/0_a.jpg", "train/cat/a.jpg"], "Use one layout"),
        (["a/train/0_a.jpg", "b/train/0_a.jpg"], "holds several data sets: a, b"),
    ],
)
def test_sources_that_are_no_data_set(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arranged(*names)


def test_side_files_are_passed_over(tmp_path: Path) -> None:
    names = ["train/0_a.jpg", "train/._0_a.jpg", "__MACOSX/train/0_a.jpg", "train/.DS_Store", "Thumbs.db", ".x/0_a.jpg"]
    files = dict.fromkeys(names, b"x")
    assert [file.path for file in list_source(write_files(tmp_path / "f", files))] == ["train/0_a.jpg"]
    assert [file.path for file in list_source(write_zip(tmp_path / "z.zip", files))] == ["train/0_a.jpg"]


def test_link_loop_and_dangling_link_in_a_folder(tmp_path: Path) -> None:
    write_files(tmp_path, {"train/cat/a.jpg": b"x"})
    (tmp_path / "train/cat/loop").symlink_to(tmp_path)
    (tmp_path / "train/cat/gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "train/cat/lost").symlink_to(tmp_path / "nowhere")
    files = list_source(tmp_path)
    assert sorted(file.path for file in files) == ["train/cat/a.jpg", "train/cat/gone.jpg"]
    assert [note.partition(" (")[2] for note in files.passed_over.notes()] == ["train/cat/lost)", "train/cat/loop)"]


def test_a_source_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no zip or folder .*none.zip. Give a folder .* or SIGNS.zip"):
        list_source(tmp_path / "none.zip")
    with pytest.raises(UserError, match=r"/dev/null is neither a zip nor a folder"):
        list_source(Path("/dev/null"))


def test_a_class_may_have_a_folder_called_test() -> None:
    arrangement = arranged("cat/a.png", "cat/test/b.png", "dog/c.png")
    assert [(image.split, image.class_name) for image in arrangement.images] == [
        (None, name) for name in ("cat", "cat", "dog")
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train/c/0.jpg", "val/c/0.jpg", "valid/c/0.jpg"], "has both val/ and valid/ for val. Keep one"),
        (
            ["f1/cat/0.jpg", "f1/dog/0.jpg", "f2/cat/0.jpg", "f2/dog/0.jpg"],
            "f1, f2 all hold the same folders cat, dog.* rename",
        ),
        (
            ["a/x/0.jpg", "a/y/0.jpg", "b/x/0.jpg", "b/y/0.jpg"],
            "put them into one folder called train, such as train/a/",
        ),
        (
            ["cat/train/0.jpg", "cat/val/1.jpg", "dog/train/2.jpg"],
            "class folders with splits in them .* train/cat/ and val/cat/",
        ),
        (
            ["train/0.jpg", "bus/1.jpg", "car/2.jpg"],
            "folder train/ has the name of a split.*bus/, car/.*photos/train/train/",
        ),
        (["test/0.jpg", "bus/1.jpg", "car/2.jpg"], "folder test/ has the name of a split"),
        (["val/0.jpg", "bus/1.jpg"], "folder val/ has the name of a split"),
        (["test/0.jpg", "val/1.jpg"], "folder test/ has the name of a split, .* beside it are val/"),
        (
            ["train/cat/0.jpg", "train/dog/1.jpg", "val/2.jpg"],
            "class folders for train .*, but none for val .val/2.jpg",
        ),
        (["pets/train/0.jpg", "pets/bus/1.jpg"], "photos/pets: the folder train/ has the name of a split"),
        (["ca\x1bt/0.jpg", "dog/0.jpg"], r"the class folder 'ca\\x1bt' has control characters"),
        (["train/ca\nt/0.jpg", "train/dog/0.jpg"], "has control characters in its name"),
        (["c" * 300 + "/0.jpg", "dog/0.jpg"], "has 300 bytes"),
    ],
)
def test_names_that_cannot_be_meant_so(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arranged(*names)


@pytest.mark.parametrize("folder", ["test/", "test/images/", "test/unknown/"])
def test_a_test_split_without_labels_is_not_used(folder: str) -> None:
    found = arranged("train/cat/0.jpg", "train/dog/1.jpg", "val/cat/2.jpg", f"{folder}3.jpg", f"{folder}4.jpg")
    assert found.splits() == ("train", "val")
    assert [note for note in found.notes if "not used" in note] == ["not used: test/, whose 2 images have no labels"]


def test_folders_within_classes_are_no_splits() -> None:
    assert len(arranged("cat/in/0.jpg", "cat/out/0.jpg", "dog/in/0.jpg", "dog/0.jpg").images) == 4
    assert len(arranged("cat/images/0.jpg", "dog/images/0.jpg").images) == 2
    assert len(arranged("train/a/x/0.jpg", "train/a/y/0.jpg", "train/b/x/0.jpg", "train/b/y/0.jpg").images) == 4


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_folders_without_photos_are_told_or_refused(kind: str, tmp_path: Path) -> None:
    files = {
        "train/cat/0.jpg": b"x",
        "train/dog/0.jpg": b"x",
        "train/bird/.DS_Store": b"",
        "train/fish/a.nef": b"II*\0",
    }
    files |= {"val/.gitkeep": b"", "extra/0.jpg": b"x", "docs/readme.md": b"x"}
    source = (
        write_files(tmp_path / "in", files)
        if kind == "folder"
        else write_zip(tmp_path / "in.zip", files | {"val/": b"", "train/bird/": b""})
    )
    arrangement = arrange(list_source(source), source)
    assert arrangement.outside == ("extra/0.jpg",)
    assert arrangement.notes[2:] == (
        "1 split folder without a file, and not used: val",
        "1 class folder without a file, and not used: train/bird",
    )
    with pytest.raises(UserError, match="the class folder train/fish has files, but no image that can be read"):
        require_usable(arrangement, source)


def test_the_folder_of_one_class_is_told(tmp_path: Path) -> None:
    arrangement = arranged(*(f"IMG_{number}.jpg" for number in range(980)))
    with pytest.raises(UserError, match=r"none of 980 has a label in its name \(IMG_0.jpg, .* and 977 more\)") as error:
        require_usable(arrangement, tmp_path)
    assert f"--source {tmp_path.parent}. Sort the photos into a folder for each class" in str(error.value)
    with pytest.raises(
        UserError, match=r"each class, such as cat/1.jpg, or let each name begin with its label"
    ) as error:
        require_usable(arranged("train/cat.0.jpg", "val/cat.1.jpg"), tmp_path)
    assert "--source" not in str(error.value)


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_one_class_in_two_spellings_is_one_folder_of_the_output() -> None:
    arrangement = arranged(f"train/{NFC}/b.jpg", f"train/{NFD}/a.jpg", "train/dog/c.jpg")
    assert [(image.class_name, image.name) for image in arrangement.images] == [
        (NFC, f"{NFC}/a.jpg"),
        (NFC, f"{NFC}/b.jpg"),
        ("dog", "dog/c.jpg"),
    ]
    assert arrangement.notes == (
        f"class {NFC}: folders with its name in two spellings (Unicode NFC and NFD) are one class",
    )
    assert {image.class_name for image in arranged(f"{NFD}/a.jpg", "dog/b.jpg").images} == {NFD, "dog"}


def test_photos_of_odd_suffixes_in_folders_and_zips(tmp_path: Path) -> None:
    files = {
        "cat/0.jfif": jpeg(0),
        "cat/1": jpeg(1),
        "dog/2.dat": jpeg(2),
        "dog/notes": b"hello",
        "dog/3.jpg.part": jpeg(3),
    }
    folder, zipped = write_files(tmp_path / "f", files), write_zip(tmp_path / "z.zip", files)
    for source in (folder, zipped):
        listing = list_source(source)
        assert sorted(file.path for file in listing) == ["cat/0.jfif", "cat/1", "dog/2.dat"]
        assert (listing.passed_over.litter.count, listing.passed_over.not_images.examples) == (1, ("dog/notes",))
    with SourceReader(zipped) as reader:
        assert reader.read("cat/1") == files["cat/1"]


def test_a_source_of_archives_only_is_told(tmp_path: Path) -> None:
    inner = write_zip(tmp_path / "inner.zip", {"cat/0.jpg": b"x"}).read_bytes()
    outer = write_zip(tmp_path / "outer.zip", {"part/inner.zip": inner})
    with pytest.raises(
        UserError, match=r"holds no images.*\(part/inner.zip\). Unpack part/inner.zip and give what is in it"
    ):
        arrange(list_source(outer), outer)


def test_a_link_called_train_makes_classes_of_folders_that_look_like_splits(tmp_path: Path) -> None:
    names = [f"{person}/{day}/0.jpg" for person in ("ann", "bob") for day in ("1", "2")]
    photos = write_files(tmp_path / "photos", dict.fromkeys(names, b"x"))
    with pytest.raises(UserError, match="all hold the same folders 1, 2"):
        arrange(list_source(photos), photos)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train").symlink_to(photos)
    arrangement = arrange(list_source(tmp_path / "set"), tmp_path / "set")
    assert {image.class_name for image in arrangement.images} == {"ann", "bob"}
    assert arrangement.splits() == ("train",)
