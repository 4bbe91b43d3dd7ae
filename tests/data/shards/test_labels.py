"""What tells the class of an image in a tar."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.other_sources import open_other_source
from signs_dist.data.shards.tar_index import read_index, scan
from signs_dist.errors import UserError
from tests.data.shards.tars import photo, write_tar

RED = photo((200, 0, 0))


def shard_of(folder: Path, *others: tuple[str, bytes], keys: tuple[str, ...] = ("1", "2")) -> Path:
    return write_tar(folder / "train-0.tar", [*((f"{key}.png", RED) for key in keys), *others])


def of_json(*values: Any) -> list[tuple[str, bytes]]:
    return [(f"{number}.json", json.dumps(value).encode()) for number, value in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("others", "label_key", "expected"),
    [
        (of_json({"label": 3, "width": 640}, {"label": 0, "width": 480}), None, [3, 0]),
        (of_json({"class": "cat"}, {"class": "red fox "}), None, ["cat", "red fox"]),
        (of_json({"label": 1, "kind": "cat"}, {"label": 1, "kind": "dog"}), "kind", ["cat", "dog"]),
        ([("1.cls", b"4"), ("2.cls", b"5"), *of_json({"label": 1}, {"label": 1})], None, [4, 5]),
        ([("1.cls", b"4"), ("2.cls", b"5"), *of_json({"label": 1}, {"label": "0"})], "label", [1, 0]),
        ([("1.txt", b"cat\n"), ("2.txt", b"12")], None, ["cat", 12]),
    ],
)
def test_the_classes(
    tmp_path: Path, others: list[tuple[str, bytes]], label_key: str | None, expected: list[Any]
) -> None:
    assert [image.label for image in scan(shard_of(tmp_path, *others), label_key).images] == expected


@pytest.mark.parametrize(
    ("others", "label_key", "message"),
    [
        (
            of_json({"width": 640}, {"label": 0}),
            None,
            "1.json has no label, class, target or a like key; it has width. Name the key with the class: data.columns",
        ),
        (of_json({"label": 1}, {"label": 2}), "kind", "1.json has no kind; it has label."),
        (
            of_json({"label": 1}, {"label": 1.5}),
            None,
            "2.json has label: 1.5, which is neither the number nor the name",
        ),
        (of_json({"label": True}, {"label": 1}), None, "1.json has label: true, which is neither"),
        (of_json({"label": [1, 2]}, {"label": 1}), None, "1.json has label: [1, 2], which is neither"),
        (of_json([3], {"label": 1}), None, '1.json holds no mapping such as {"label": 3}.'),
        ([("1.json", b"{"), ("2.json", b"{}")], None, "1.json cannot be read as JSON: Expecting"),
        (
            [("1.json", b"{}" + b" " * 2**20), ("2.json", b"{}")],
            None,
            "1.json cannot be read as JSON: it has 1,048,578",
        ),
        (
            [("1.txt", b"a photo of\na cat"), ("2.txt", b"dog")],
            None,
            "must hold the name or the number of a class in one",
        ),
        ([("1.txt", b""), ("2.txt", b"dog")], None, "1.txt holds ''"),
        ([("1.cls", b"1"), ("2.json", b"{}")], None, "1 images have no .cls, such as 2."),
        ([("1.cls", b"1"), ("2.cls", b"1")], "kind", "have no .json, such as 1, 2. A sample is KEY.jpg and KEY.json."),
    ],
)
def test_what_tells_no_class(
    tmp_path: Path, others: list[tuple[str, bytes]], label_key: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        scan(shard_of(tmp_path, *others), label_key)


def test_a_data_set_with_names_in_json(tmp_path: Path) -> None:
    """The index is kept, and made again for another key."""
    values = [{"kind": kind, "age": age} for kind, age in (("cat", "old"), ("dog", "new"))]
    for split in ("train", "val"):
        members = [*((f"{number}.png", RED) for number in (1, 2)), *of_json(*values)]
        write_tar(tmp_path / f"{split}-0.tar", members)

    def classes(label_key: str) -> tuple[str, ...]:
        config = DataConfig.model_validate({"root": str(tmp_path), "columns": {"label": label_key}})
        found = open_other_source(config, [tmp_path])
        assert found is not None
        return found.splits["train"].classes

    assert classes("kind") == ("cat", "dog")
    kept = read_index(tmp_path / "train-0.tar.index.json")
    assert kept is not None
    assert ([image.label for image in kept.images], kept.labels, kept.label_key) == (["cat", "dog"], ".json", "kind")
    assert classes("age") == ("new", "old")
    (tmp_path / "classes.txt").write_text("fish\ndog\ncat\n")  # the order of the labels
    assert classes("kind") == ("dog", "cat")
