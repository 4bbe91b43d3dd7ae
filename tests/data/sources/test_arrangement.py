"""A table as the source of a build and of an audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.audit import audit
from signs_dist.data.build import build
from signs_dist.data.folder import index_data_set
from signs_dist.data.photos.build_plan import BuildRequest
from signs_dist.data.sources.arrangement import read_source
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, write_files
from tests.data.shards.tars import samples, write_tar


def write(folder: Path, num_photos: int = 10) -> Path:
    """A table in a folder, its images in another."""
    files = {f"images/{number} é.jpg": jpeg(number) for number in range(num_photos)}
    rows = "".join(f"../images/{number} é.jpg,{'ab'[number % 2]}\n" for number in range(num_photos))
    write_files(folder, files | {"lists/t.csv": f"path,label\n{rows}".encode()})
    return folder / "lists/t.csv"


def test_a_table_is_built_and_audited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = write(tmp_path)
    _, arrangement = read_source(table)
    assert arrangement.root == tmp_path
    assert [image.name for image in arrangement.images[:2]] == ["a/images/0 é.jpg", "a/images/2 é.jpg"]
    assert build(BuildRequest(table, size=16, processes=1)) == Path("data/16x16_t")
    splits = index_data_set(Path("data/16x16_t"))
    assert {split: index.count_per_class() for split, index in splits.items()} == {
        "train": {"a": 4, "b": 4},
        "val": {"a": 1, "b": 1},
    }
    assert audit(table, processes=1).counts == {"all": {"a": 5, "b": 5}}


def test_a_class_that_is_no_folder_is_told(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "t.csv").write_text("path,label\nimages/0 é.jpg,a/b\nimages/1 é.jpg,c\n")
    with pytest.raises(UserError, match=r"class a/b is no name of a folder.*train on the table itself: data.root="):
        read_source(tmp_path / "t.csv")


def test_a_folder_is_arranged_as_before(tmp_path: Path) -> None:
    write_files(tmp_path, {"cat/1.jpg": b"x", "dog/2.jpg": b"y"})
    files, arrangement = read_source(tmp_path)
    assert [file.path for file in files] == ["cat/1.jpg", "dog/2.jpg"]
    assert arrangement.root is None


def test_tar_shards_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members of one name in two shards are two images; a broken one is left out; shards are written again."""
    monkeypatch.chdir(tmp_path)
    for split, first in (("train", 0), ("train", 1), ("val", 2)):
        members = samples(("cat/1", 1), ("2", 0), ("v/3", 1), ("4", 0), first=10 * first)
        if first == 1:
            members = [(name, b"no image" if name == "2.png" else content) for name, content in members]
        write_tar(Path(f"tars/{split}-{first}.tar"), members)
    Path("tars/classes.txt").write_text("dog\ncat\n")
    files, arrangement = read_source(Path("tars"))
    assert len(files) == 12
    val = [image.name for image in arrangement.images if image.split == "val"]
    assert val == ["cat/1.png", "cat/v/3.png", "dog/2.png", "dog/4.png"]
    assert arrangement.images[0].name == "cat/train-0/cat/1.png"
    with pytest.raises(UserError, match=r"1 image of tars cannot be used.*\n.*train-1\.tar/2\.png"):
        build(BuildRequest(Path("tars"), size=16, processes=1))
    built = build(BuildRequest(Path("tars"), size=16, processes=1, bad_images="skip"))
    splits = index_data_set(built)
    assert {split: index.count_per_class() for split, index in splits.items()} == {
        "train": {"cat": 4, "dog": 3},
        "val": {"cat": 2, "dog": 2},
    }
    shards = build(BuildRequest(Path("tars"), size=16, processes=1, bad_images="skip", shards=True))
    assert sorted(path.name for path in shards.glob("*.tar")) == ["train-000000.tar", "val-000000.tar"]


def test_a_class_in_shards_that_is_no_folder_is_told(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_tar(tmp_path / f"{split}-0.tar", samples(("a", 0), ("b", 1)))
    (tmp_path / "classes.txt").write_text("a/b\nc\n")
    with pytest.raises(UserError, match=r"class a/b is no name of a folder.*train on the shards themselves"):
        read_source(tmp_path)
