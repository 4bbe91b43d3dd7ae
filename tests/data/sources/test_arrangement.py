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


def test_tar_shards_are_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar", samples(("a", 0)))
    with pytest.raises(UserError, match=f"holds tar shards. Training reads them .* data.root={tmp_path}"):
        read_source(tmp_path)
