"""Tables with a column for each class."""

from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.config.data_settings import ColumnsConfig
from signs_dist.data.sources.one_hot import read_one_hot
from signs_dist.errors import UserError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "_classes.csv"
    path.write_text(text)
    return path


def test_the_class_is_the_column_with_a_one(tmp_path: Path) -> None:
    path = write(tmp_path, "filename, red fox, owl\na.jpg, 0, 1\nb.jpg, 1.0, 0.0\n")
    table = read_one_hot(path, ColumnsConfig())
    assert table is not None
    assert table.cells == {"path": ["a.jpg", "b.jpg"], "label": ["owl", "red fox"]}


@pytest.mark.parametrize("text", ["path,text\na.jpg,1\n", "path,x,y\na.jpg,1,0\nb.jpg,0,7\n"])
def test_other_columns_are_no_classes(text: str, tmp_path: Path) -> None:
    assert read_one_hot(write(tmp_path, text), ColumnsConfig()) is None


@pytest.mark.parametrize(
    ("row", "words"),
    [("b.jpg,1,1", "line 3: b.jpg has the classes cat, dog in"), ("b.jpg,0,0", "b.jpg has no class in the columns")],
)
def test_an_image_has_one_class(row: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read_one_hot(write(tmp_path, f"path,cat,dog\na.jpg,1,0\n{row}\n"), ColumnsConfig())
