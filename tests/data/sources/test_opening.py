"""What data.root may be, and that a division stays as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.folder import ImageIndex, index_data_set
from signs_dist.data.sources import dividing
from signs_dist.data.sources.dividing import Opened
from signs_dist.data.sources.division_file import read_division, to_text
from signs_dist.data.sources.opening import is_usual_folder, open_roots
from signs_dist.errors import UserError
from tests.data.photo_files import write_files


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data/splits is relative to the working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def write(root: Path, *names: str) -> Path:
    """Files that differ, which is all that a division looks at."""
    return write_files(root, {name: f"{root.name}/{name}".encode() for name in names})


def classes(root: Path, **counts: int) -> Path:
    return write(root, *(f"{name}/p{number % 5}_{number}.jpg" for name in counts for number in range(counts[name])))


def opened(*roots: Path, copy: Path | None = None, **settings: Any) -> Opened:
    return open_roots(DataConfig.model_validate(settings), roots, copy=copy)


def sizes(found: Opened) -> dict[str, int]:
    return {split: len(index) for split, index in found.splits.items()}


def split_of(found: Opened) -> dict[str, str]:
    return {path: split for split, index in found.splits.items() for path in index.paths}


def the_file() -> Path:
    (path,) = Path("data/splits").glob("*.csv")
    return path


def same(first: Mapping[str, ImageIndex], second: Mapping[str, ImageIndex]) -> bool:
    rows = [
        {split: (index.paths, index.labels.tolist(), index.classes, index.root) for split, index in each.items()}
        for each in (first, second)
    ]
    return rows[0] == rows[1]


def test_class_folders_are_divided_and_the_division_is_written_down(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=20, dog=30)
    found = opened(root)
    assert sizes(found) == {"train": 40, "val": 5, "test": 5}
    assert found.splits["val"].count_per_class() == {"cat": 2, "dog": 3}
    assert found.notes == (
        "divided: train 80.0 %, val 10.0 %, test 10.0 % of the images, each class by itself, by data.split_seed=0; "
        f"written in {the_file()}",
    )
    assert read_division(the_file()) == split_of(found) == found.division
    assert the_file().name.startswith("photos-")
    assert split_of(opened(root)) == split_of(found)
    assert sizes(opened(root, split=(0.5, 0.5))) == {"train": 25, "val": 25}
    assert split_of(opened(root, split_seed=1)) != split_of(found)
    assert len(list(Path("data/splits").glob("*.csv"))) == 3


def test_labels_in_names_are_divided_too(tmp_path: Path) -> None:
    found = opened(write(tmp_path / "flat", *(f"{number % 2}_{number}.jpg" for number in range(40))))
    assert sizes(found) == {"train": 32, "val": 4, "test": 4}
    pets = write(tmp_path / "pets", *(f"{('cat', 'dog')[number % 2]}.{number}.jpg" for number in range(40)))
    found = opened(pets, label_pattern=r"^([a-z]+)\.")
    assert found.splits["train"].classes == ("cat", "dog")
    assert found.splits["test"].count_per_class() == {"cat": 2, "dog": 2}


def test_photos_that_are_added_are_divided_and_the_others_stay(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=20, dog=20)
    before = split_of(opened(root))
    write(root, *(f"cat/new{number}.jpg" for number in range(10)), *(f"owl/{number}.jpg" for number in range(4)))
    (root / "dog/p0_0.jpg").unlink()
    found = opened(root)
    after = split_of(found)
    assert {name: after[name] for name in before if name in after} == {
        name: split for name, split in before.items() if name != "dog/p0_0.jpg"
    }
    assert found.splits["val"].count_per_class() == {"cat": 3, "dog": 2, "owl": 1}
    assert f"14 images are new in {the_file().name}; the others stay where they were" in found.notes
    write(root, "dog/p0_0.jpg")
    assert split_of(opened(root))["dog/p0_0.jpg"] == before["dog/p0_0.jpg"]


def test_a_run_that_has_begun_keeps_its_images(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=20, dog=20)
    found = opened(root)
    assert found.division is not None
    copy = tmp_path / "division.csv"
    copy.write_text(to_text(found.division))
    write(root, "cat/new.jpg", "owl/new.jpg")
    the_file().unlink()
    again = opened(root, copy=copy)
    assert same(again.splits, found.splits)
    assert again.notes[-2:] == (
        f"divided as when the run began ({copy})",
        "2 images were added since, and not used by this run; a new run takes all",
    )
    root.rename(tmp_path / "moved")
    assert split_of(opened(tmp_path / "moved", copy=copy)) == split_of(found)
    with pytest.raises(UserError, match=r"none of the images of .*division.csv is in .*other"):
        opened(classes(tmp_path / "other", one=3, two=3), copy=copy)


def test_copies_stay_on_one_side(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=40, dog=40)
    for number in range(0, 40, 2):
        (root / f"cat/copy{number}.jpg").write_bytes((root / f"cat/p{number % 5}_{number}.jpg").read_bytes())
    found = opened(root)
    sides = split_of(found)
    assert all(sides[f"cat/copy{n}.jpg"] == sides[f"cat/p{n % 5}_{n}.jpg"] for n in range(0, 40, 2))
    assert "20 copies of images stay on the side of the original" in found.notes
    held_out = next(name for name, split in sides.items() if split == "val" and name.startswith("dog"))
    (root / "dog/later.jpg").write_bytes((root / held_out).read_bytes())
    assert split_of(opened(root))["dog/later.jpg"] == "val"


def test_groups_stay_on_one_side_and_the_shares_are_stated(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=50, dog=50)
    found = opened(root, group_pattern=r"/(p\d)_")
    sides = {(path.rpartition("/")[2][:2], split) for path, split in split_of(found).items()}
    assert len(sides) == 5
    assert found.notes[0].startswith(
        "divided: 5 groups, each on one side, by data.split_seed=0: train 80.0 %, val 20.0 %, test 0.0 % of the images "
        "(80/10/10 wanted); written in "
    )
    assert "test has no images: there are too few to divide. Without test: data.split=[0.8, 0.2]" in found.notes


def test_a_table_is_divided_by_its_groups(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=50, dog=50)
    lines = [f"{path.relative_to(tmp_path)},{path.parent.name},{path.name[:2]}" for path in root.rglob("*.jpg")]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,person", *lines]))
    found = opened(tmp_path / "t.csv", columns={"group": "person"}, split=(0.6, 0.2, 0.2))
    sides = {(Path(path).name[:2], split) for path, split in split_of(found).items()}
    assert len(sides) == 5
    assert sizes(found) == {"train": 60, "val": 20, "test": 20}


def test_train_and_test_without_val(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    classes(root / "Train", cat=18, dog=18)
    classes(root / "Testing", cat=3, dog=3)
    found = opened(root)
    assert sizes(found) == {"train": 32, "val": 4, "test": 6}
    assert all(path.startswith("Train/") for path in found.splits["val"].paths)
    assert found.division is not None
    assert set(found.division.values()) == {"train", "val"}
    assert sizes(opened(root, split=(0.5, 0.5))) == {"train": 18, "val": 18, "test": 6}


def test_train_alone_is_divided_in_three(tmp_path: Path) -> None:
    classes(tmp_path / "photos/train", cat=20, dog=20)
    assert sizes(opened(tmp_path / "photos")) == {"train": 32, "val": 4, "test": 4}


def test_several_roots_are_one_data_set(tmp_path: Path) -> None:
    one, two = classes(tmp_path / "one", cat=20, dog=20), classes(tmp_path / "two", cat=20, owl=10)
    found = opened(one, two)
    assert found.root == tmp_path
    assert found.splits["train"].classes == ("cat", "dog", "owl")
    cats = {split: index.count_per_class()["cat"] for split, index in found.splits.items()}
    assert cats == {"train": 32, "val": 4, "test": 4}
    assert "one/cat/p0_0.jpg" in split_of(found)
    assert split_of(opened(two, one)) == split_of(found)  # in any order


def test_the_usual_folder_is_read_as_before(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    write(root, *(f"{split}/{name}/{number}.jpg" for split in ("train", "val") for name in "ab" for number in range(3)))
    write(root, "metadata.csv", "train/metadata.csv", "extra/x.jpg")
    found = opened(root)
    assert same(found.splits, index_data_set(root))
    assert found.division is None
    assert "outside the splits, and not used: extra/" in found.notes
    assert not Path("data").exists()


def test_the_usual_folder_one_folder_down(tmp_path: Path) -> None:
    write(tmp_path / "top/set", *(f"{split}/{name}/1.jpg" for split in ("Train", "valid") for name in "ab"))
    found = opened(tmp_path / "top")
    assert found.root == tmp_path / "top/set"
    assert same(found.splits, index_data_set(tmp_path / "top/set"))
    assert found.notes == (f"read: {tmp_path}/top/set, which holds the splits",)


def test_images_below_a_folder_called_images(tmp_path: Path) -> None:
    write(tmp_path, *(f"{split}/images/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    found = opened(tmp_path)
    assert found.splits["train"].classes == ("a", "b")
    assert found.splits["val"].paths == ("val/images/a/1.jpg", "val/images/b/1.jpg")


def test_a_table_with_all_splits_needs_no_division(tmp_path: Path) -> None:
    write(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    (tmp_path / "t.csv").write_text("path,label,split\n1.jpg,a,train\n2.jpg,b,train\n3.jpg,a,val\n4.jpg,b,test\n")
    found = opened(tmp_path / "t.csv")
    assert found.notes[1:] == ("val has no image of class b", "test has no image of class a")
    assert sizes(found) == {"train": 2, "val": 1, "test": 1}
    assert found.division is None
    assert not Path("data").exists()


@pytest.mark.parametrize("place", ["top", "splits", "top with folders"])
def test_metadata_of_hugging_face(place: str, tmp_path: Path) -> None:
    root = tmp_path / "hub"
    if place == "top":
        write(root, *(f"{number}.png" for number in range(20)))
        lines = [f'{{"file_name": "{number}.png", "label": "{"ab"[number % 2]}"}}' for number in range(20)]
        (root / "metadata.jsonl").write_text("\n".join(lines))
        assert sizes(opened(root)) == {"train": 16, "val": 2, "test": 2}
        return
    names = [f"{split}/{number}.png" for split in ("train", "validation") for number in range(4)]
    write(root, *names)
    if place == "splits":
        for split in ("train", "validation"):
            rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(4))
            (root / split / "metadata.csv").write_text(f"file_name,label\n{rows}")
    else:
        rows = "".join(f"{name},{'ab'[number % 2]}\n" for number, name in enumerate(names))
        (root / "metadata.csv").write_text(f"file_name,label\n{rows}")
    found = opened(root)
    assert sizes(found) == {"train": 4, "val": 4}
    assert found.splits["val"].paths[0] == "validation/0.png"


def test_a_table_of_zeros_and_ones_in_each_split_as_roboflow_has_it(tmp_path: Path) -> None:
    root = write(tmp_path / "flow", *(f"{split}/{number}.jpg" for split in ("train", "valid") for number in range(2)))
    for split in ("train", "valid"):
        (root / split / "_classes.csv").write_text("filename, cat, dog\n0.jpg, 1, 0\n1.jpg, 0, 1\n")
    found = opened(root)
    assert sizes(found) == {"train": 2, "val": 2}
    assert found.splits["train"].classes == ("cat", "dog")


def test_metadata_beside_labels_in_names_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, *(f"{split}_signs/{label}_1.jpg" for split in ("train", "val") for label in (0, 1)))
    before = index_data_set(tmp_path)
    for folder in ("train_signs", "val_signs", "."):
        (tmp_path / folder / "metadata.csv").write_text("file_name,text\n0_1.jpg,a hand\n")
    assert same(opened(tmp_path).splits, before)


def test_metadata_without_classes_is_not_used(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=10, dog=10)
    (root / "metadata.csv").write_text("file_name,text\ncat/p0_0.jpg,a cat\n")
    assert "not used: metadata.csv, which has no column with classes" in opened(root).notes
    flat = write(tmp_path / "flat", "1.jpg")
    (flat / "metadata.csv").write_text("file_name,text\n1.jpg,a cat\n")
    with pytest.raises(UserError, match=r"metadata.csv: no column with the images' classes"):
        opened(flat)


def test_few_photos_of_a_class_are_told(tmp_path: Path) -> None:
    found = opened(classes(tmp_path / "photos", cat=30, dog=1, owl=2))
    assert found.splits["val"].count_per_class() == {"cat": 3, "dog": 0, "owl": 1}
    assert found.notes[1:] == (
        "val has no image of class dog, too few different images or groups of it",
        "test has no image of 2 classes: dog, owl",
    )


@pytest.mark.parametrize(
    ("counts", "settings", "words"),
    [
        ({"cat": 9}, {}, "all images are of the single class 'cat'. A classifier needs two"),
        ({"cat": 1, "dog": 1}, {}, "no class has two different images, one of them for val"),
        ({"cat": 9, "dog": 9}, {"group_pattern": "(cat|dog)"}, "no group can be val, because each has a class that no"),
    ],
)
def test_what_cannot_be_divided_is_told(
    counts: dict[str, int], settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        opened(classes(tmp_path / "photos", **counts), **settings)
    assert not list(Path("data/splits").glob("*.csv"))


def test_settings_of_a_division_are_refused_where_nothing_is_divided(tmp_path: Path) -> None:
    write(tmp_path / "a", *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    with pytest.raises(UserError, match=r"data.split divides images that are not split, and .*Delete data.split"):
        opened(tmp_path / "a", split=(0.8, 0.2))
    with pytest.raises(UserError, match=r"Delete data.group_pattern"):
        opened(tmp_path / "a", group_pattern="(a)")
    with pytest.raises(UserError, match=r"Delete data.split_seed"):
        opened(tmp_path / "a", split_seed=3)


def test_columns_are_refused_where_there_is_no_table(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=5, dog=5)
    with pytest.raises(
        UserError, match=r"columns.label is a column of a table, and .*photos has none. Delete data.col"
    ):
        opened(root, columns={"label": "kind"})
    with pytest.raises(UserError, match=r"data.columns.group is a .* data.group_pattern finds groups in paths"):
        opened(root, columns={"group": "person"})
    write(tmp_path / "a", *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in "ab"))
    with pytest.raises(UserError, match=r"data.columns.path is a column of a table"):
        opened(tmp_path / "a", columns={"path": "file"})


def test_roots_that_are_given_wrong(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=5, dog=5)
    (tmp_path / "link").symlink_to(root)
    with pytest.raises(UserError, match=r"photos is given twice. Give it once"):
        opened(root, root)
    with pytest.raises(UserError, match=r"link is given twice, also as .*photos"):
        opened(root, tmp_path / "link")
    with pytest.raises(UserError, match=r"photos/cat lies in .*photos, and its images would count twice"):
        opened(root, root / "cat")
    with pytest.raises(UserError, match="there is no folder"):
        opened(root, tmp_path / "gone")
    (tmp_path / "labels.csv").touch()
    with pytest.raises(UserError, match=r"there is no table .*label.csv. Did you mean .*labels.csv\?"):
        opened(tmp_path / "label.csv")
    with pytest.raises(UserError, match=r"is a text file, not a folder .*or a table of them as .csv"):
        opened(write(tmp_path, "t.txt") / "t.txt")
    with pytest.raises(UserError, match=r"such a file is not read. Save the table as one of .csv"):
        opened(write(tmp_path, "t.xlsx") / "t.xlsx")
    classes(tmp_path / "set/train", cat=5)
    classes(tmp_path / "set/val", cat=5)
    with pytest.raises(UserError, match=r"train is the folder of one split. Give the folder above, .*set"):
        opened(tmp_path / "set/train")
    with pytest.raises(UserError, match=r"has val images, but no train images|no training images"):
        opened(write(tmp_path / "no", "val/a/1.jpg", "val/b/1.jpg"))


def test_a_division_among_the_photos_is_refused(tmp_path: Path) -> None:
    root = classes(tmp_path / "photos", cat=5, dog=5)
    os.chdir(root)
    with pytest.raises(UserError, match=r"data.split_folder=data/splits lies in data.root=\., where it would be taken"):
        opened(Path())


def test_what_is_usual(tmp_path: Path) -> None:
    assert is_usual_folder(tmp_path, DataConfig())
    assert not is_usual_folder(tmp_path, DataConfig(label_pattern="(a)"))
    assert not is_usual_folder(tmp_path / "t.csv", DataConfig())
    (tmp_path / "metadata.csv").touch()
    assert not is_usual_folder(tmp_path, DataConfig())


def test_photos_that_are_there_are_not_compared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = classes(tmp_path / "photos", cat=10, dog=10)
    opened(root)
    monkeypatch.setattr(dividing, "find_copies", lambda *_: pytest.fail("read the photos again"))
    opened(root)
