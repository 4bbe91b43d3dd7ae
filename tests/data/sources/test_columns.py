"""Which column is what."""

from __future__ import annotations

import pytest

from signs_dist.config.data_settings import ColumnsConfig
from signs_dist.data.sources.columns import MissingColumnError, choose_columns, group_hint
from signs_dist.errors import UserError


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["path", "label"], {"path": "path", "label": "label"}),
        (["id", "file_name", "label"], {"path": "file_name", "label": "label"}),
        (["image", "category", "subset"], {"path": "image", "label": "category", "split": "subset"}),
        (["Filename", "Class Name", "Split"], {"path": "Filename", "label": "Class Name", "split": "Split"}),
        (["IMAGE-PATH", "target", "fold"], {"path": "IMAGE-PATH", "label": "target"}),
        (["image_id", "image_path", "class"], {"path": "image_path", "label": "class"}),
        (["img", "y", "set"], {"path": "img", "label": "y", "split": "set"}),
        (["id", "breed"], {"path": "id", "label": "breed"}),
    ],
)
def test_usual_names(columns: list[str], expected: dict[str, str]) -> None:
    assert choose_columns(columns, ColumnsConfig(), "t.csv") == expected


def test_given_columns_win_and_empty_text_means_no_split() -> None:
    given = ColumnsConfig(path="b", label="species", split="", group="Person")
    chosen = choose_columns(["path", "b", "label", "species", "split", "person"], given, "t.csv")
    assert chosen == {"path": "b", "label": "species", "group": "person"}


@pytest.mark.parametrize(
    ("columns", "given", "words"),
    [
        (
            ["path", "name"],
            {},
            r"t.csv: no column with the images' classes, such as label, .* the columns path, na",
        ),
        (["id", "breed", "age"], {}, r"no column with the images' classes"),
        (["file_name", "text"], {}, r"no column with the images' classes"),
        (["a"], {}, r"no column with the images' paths, .* the single column a. Type data.columns.path=NAME"),
        (
            ["path", "label"],
            {"label": "lable"},
            r"data.columns.label=lable: t.csv has no such .*mean label",
        ),
    ],
)
def test_missing_columns_are_told(columns: list[str], given: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        choose_columns(columns, ColumnsConfig(**given), "t.csv")


def test_a_class_from_the_path_needs_no_column() -> None:
    assert choose_columns(["path"], ColumnsConfig(), "t.csv", needs_label=False) == {"path": "path"}
    with pytest.raises(MissingColumnError):
        choose_columns(["path"], ColumnsConfig(), "t.csv")


def test_a_column_that_looks_like_groups_is_told() -> None:
    chosen = {"path": "path", "label": "label"}
    assert "data.columns.group=Patient ID" in (group_hint(["path", "label", "Patient ID"], chosen) or "")
    assert group_hint(["path", "label", "age"], chosen) is None
    assert group_hint(["path", "label", "person"], chosen | {"group": "age"}) is None
