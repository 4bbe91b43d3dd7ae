from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.inference.unsplit import index_unsplit
from tests.data.photo_files import write_files


def test_photos_are_listed_with_the_labels_of_the_model(tmp_path: Path) -> None:
    photos = write_files(tmp_path, {"dog/1.jpg": b"x", "cat/deep/2.jpg": b"x", "cat/3.png": b"x"})
    index = index_unsplit(photos, ["cat", "dog", "owl"], Path("runs/a"))
    assert index is not None
    assert (index.split, index.paths) == ("all", ("cat/3.png", "cat/deep/2.jpg", "dog/1.jpg"))
    assert index.labels.tolist() == [0, 0, 1]
    assert index.count_per_class() == {"cat": 2, "dog": 1, "owl": 0}
    assert all((index.root / path).is_file() for path in index.paths)


def test_a_class_in_another_spelling_of_unicode_is_the_class_of_the_model(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "café")
    photos = write_files(tmp_path, {f"{decomposed}/1.jpg": b"x", "tea/2.jpg": b"x"})
    index = index_unsplit(photos, ["café", "tea"], Path("runs/a"))
    assert index is not None
    assert index.count_per_class() == {"café": 1, "tea": 1}


def test_what_is_passed_over_is_told(tmp_path: Path) -> None:
    photos = write_files(tmp_path, {"dog/1.jpg": b"x", "dog/notes.txt": b"x", "@eaDir/1.jpg": b"x"})
    (photos / "cat").mkdir()
    index = index_unsplit(photos, ["cat", "dog"], Path("runs/a"))
    assert index is not None
    assert index.remarks() == [
        "passed over: 1 file or folder of other programs (@eaDir/)",
        "passed over: 1 file without a readable image (dog/notes.txt)",
        "1 class folder without a file, and not used: cat",
    ]


def test_a_class_folder_without_a_photo_is_refused(tmp_path: Path) -> None:
    photos = write_files(tmp_path, {"dog/1.jpg": b"x", "cat/1.dng": b"x"})
    with pytest.raises(UserError, match="the class folder cat has files, but no image that can be read"):
        index_unsplit(photos, ["cat", "dog"], Path("runs/a"))


def test_a_photo_with_control_characters_in_its_name_is_refused_for_its_name(tmp_path: Path) -> None:
    photos = write_files(tmp_path, {"dog/1\n.jpg": b"x", "cat/2.jpg": b"x"})
    with pytest.raises(UserError, match=r"dog/1\\n.jpg: its name has control characters or is not UTF-8; rename it"):
        index_unsplit(photos, ["cat", "dog"], Path("runs/a"))


def test_a_folder_with_splits_is_left_to_others(tmp_path: Path) -> None:
    photos = write_files(tmp_path, {"set/train/dog/1.jpg": b"x", "set/val/dog/2.jpg": b"x"})
    assert index_unsplit(photos, ["dog"], Path("runs/a")) is None


def test_photos_without_a_class_are_refused_with_what_to_type(tmp_path: Path) -> None:
    photos = write_files(tmp_path / "my photos", {"1.jpg": b"x"})
    with pytest.raises(UserError, match=rf"To predict their classes: python -m signs_dist.predict runs/a '{photos}'"):
        index_unsplit(photos, ["dog"], Path("runs/a"))
