from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.other_sources import open_other_source
from signs_dist.data.shards import opening
from signs_dist.data.shards.opening import find_shards, index_shards, read_classes, split_of_shard
from signs_dist.errors import UserError
from tests.data.shards.tars import photo, samples, write_tar

PAIR = samples(("a", 0), ("b", 1))


def write(root: Path, *names: str) -> Path:
    for name in names:
        write_tar(root / name, PAIR)
    return root


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train-000000.tar", "train"),
        ("val_3.tar", "val"),
        ("validation-00001-of-00004.tar", "val"),
        ("imagenet1k-train-0012.tar", "train"),
        ("cifar.test.7.tar", "test"),
        ("shard-000000.tar", None),
        ("000000.tar", None),
        ("train-val-0.tar", None),
    ],
)
def test_the_split_in_a_name(name: str, expected: str | None) -> None:
    assert split_of_shard(name) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train-0.tar", "train-1.tar", "val-0.tar"], {"train": ["train-0.tar", "train-1.tar"], "val": ["val-0.tar"]}),
        (["train/s-0.tar", "valid/s-0.tar"], {"train": ["train/s-0.tar"], "val": ["valid/s-0.tar"]}),
        (["train/s-0.tar", "val-0.tar", "notes.tar"], {"train": ["train/s-0.tar"], "val": ["val-0.tar"]}),
    ],
)
def test_where_shards_lie(tmp_path: Path, names: list[str], expected: dict[str, list[str]]) -> None:
    found = find_shards(write(tmp_path, *names))
    assert {
        split: [path.relative_to(tmp_path).as_posix() for path in paths] for split, paths in found.items()
    } == expected


def test_folders_of_images_with_a_tar_beside_are_no_shards(tmp_path: Path) -> None:
    write(tmp_path, "train-old.tar", "train/cat/backup.tar", "train/photos.tar")
    (tmp_path / "train" / "1.jpg").write_bytes(photo((0, 0, 0)))
    assert find_shards(tmp_path) == {}
    assert find_shards(tmp_path / "absent") == {}
    write(tmp_path / "plain", "cat/1.tar", "photos.tar")
    assert find_shards(tmp_path / "plain") == {}
    write(tmp_path / "loose", "photos.tar")
    (tmp_path / "loose" / "1.jpg").write_bytes(photo((0, 0, 0)))
    assert find_shards(tmp_path / "loose") == {}


def test_tars_whose_names_tell_no_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the names of 000\.tar, 001\.tar tell no split. Call shards train-000000\.tar"
    ):
        find_shards(write(tmp_path, "000.tar", "001.tar"))


def test_packed_shards_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar.gz", PAIR, "w:gz")
    with pytest.raises(UserError, match=r"train-0\.tar\.gz is packed with gzip: .* Unpack it: gunzip train-0\.tar\.gz"):
        find_shards(tmp_path)


def index(root: Path, **options: object) -> dict[str, opening.ImageIndex]:
    return index_shards(root, find_shards(root), cache=root.parent / "cache")


def test_the_splits_of_shards(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_tar(root / "train-1.tar", samples(("z", 1), ("a", 0), first=2))
    write(root, "train-0.tar", "val-0.tar")
    (root / "classes.txt").write_text("wolf\nape\n")
    splits = index(root)
    train = splits["train"]
    assert train.paths == ("train-0.tar/a.png", "train-0.tar/b.png", "train-1.tar/z.png", "train-1.tar/a.png")
    assert (train.classes, train.labels.tolist()) == (("wolf", "ape"), [0, 1, 1, 0])
    assert train.reader.read(train.paths[2]) == photo((2, 1, 7))
    assert train.full_name(train.paths[0]) == f"{root}/train-0.tar/a.png"
    assert len(splits["val"]) == 2


def test_without_names_a_class_is_its_number(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for split in ("train", "val"):
        write_tar(root / f"{split}-0.tar", samples(("a", 10), ("b", 9)))
    assert index(root)["train"].classes == ("9", "10")
    assert index(root)["train"].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classes.txt", "one\ntwo words\n\n", ["one", "two words"]),
        ("classes.txt", "\ufeffone\r\ntwo\r\n", ["one", "two"]),
        ("classes.json", '["one", " two"]', ["one", " two"]),
        ("classes.json", '{"1": "two", "0": "one"}', ["one", "two"]),
        ("classes.json", '{"two": 1, "one": 0}', ["one", "two"]),
    ],
)
def test_names_of_classes(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_classes(tmp_path) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("classes.txt", "one\none\n", "one is there twice"),
        ("classes.txt", "one\n\ntwo\n", "line 2 is empty"),
        ("classes.json", "{", "cannot read the names of classes in"),
        ("classes.json", '{"0": "one", "2": "two"}', "its numbers are not 0, 1, 2 and so on"),
        ("classes.json", "3", "it is neither a list of names nor a mapping"),
    ],
)
def test_wrong_names_of_classes(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=expected):
        read_classes(tmp_path)


def test_a_number_without_a_name_is_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "set", "train-0.tar", "val-0.tar")
    (root / "classes.txt").write_text("only\n")
    with pytest.raises(
        UserError, match="images of class 1, and the file of classes has 1 names, for the classes 0 to 0"
    ):
        index(root)


def test_what_was_passed_over_is_told(tmp_path: Path) -> None:
    root = write(tmp_path / "set", "val-0.tar")
    write_tar(root / "train-0.tar", [*PAIR, ("a.json", b"{}"), ("b.json", b"{}"), ("c.cls", b"0")])
    (root / "classes.txt").write_text("one\ntwo\nthree\n")
    source = open_other_source(DataConfig(cache=str(tmp_path / "cache")), [root])
    assert source is not None
    assert source.notes == (
        "classes without an image in the shards, and not used: three",
        "passed over in the shards: 1 .cls without an image, 2 .json",
    )


def test_headers_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "set", "train-0.tar", "val-0.tar")
    scanned: list[str] = []
    scan = opening.scan
    monkeypatch.setattr(opening, "scan", lambda shard, *_: (scanned.append(shard.name), scan(shard))[1])
    first = index(root)
    assert sorted(scanned) == ["train-0.tar", "val-0.tar"]
    assert (root / "train-0.tar.index.json").is_file()
    second = index(root)
    assert len(scanned) == 2
    assert second["train"].paths == first["train"].paths
    write_tar(root / "train-0.tar", samples(("new", 0), ("b", 1)))
    os.utime(root / "train-0.tar", ns=(5, 5))
    assert index(root)["train"].paths == ("train-0.tar/new.png", "train-0.tar/b.png")
    assert scanned[2:] == ["train-0.tar"]


def test_the_index_of_a_folder_that_cannot_be_written_is_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "set", "train-0.tar", "val-0.tar")
    write_index = opening.write_index
    monkeypatch.setattr(opening, "write_index", lambda path, one: path.parent != root and write_index(path, one))
    index(root)
    assert not (root / "train-0.tar.index.json").exists()
    assert len(list((tmp_path / "cache" / "shards").glob("*-train-0.tar.index.json"))) == 1
    monkeypatch.setattr(opening, "scan", lambda shard, *_: pytest.fail("read again"))
    index(root)


def test_an_index_beside_may_come_from_another_program(tmp_path: Path) -> None:
    root = write(tmp_path / "set", "train-0.tar", "val-0.tar")
    (root / "train-0.tar.index.json").write_text(json.dumps({"shards": []}))
    assert len(index(root)["train"]) == 2
