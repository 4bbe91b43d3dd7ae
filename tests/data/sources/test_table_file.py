"""Tables as programs write them, and the messages on those that cannot be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from signs_dist.data.sources import table_file
from signs_dist.data.sources.table_file import Table, is_table_name, read_table
from signs_dist.errors import UserError


def choose(columns: Sequence[str]) -> Mapping[str, str]:
    return {"path": columns[0], "label": columns[1]}


def read(tmp_path: Path, content: bytes | str, name: str = "t.csv") -> Table:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, choose)


TWO = {"path": ["a.jpg", "é/b.jpg"], "label": ["cat", "dog"]}


@pytest.mark.parametrize(
    ("content", "name", "places"),
    [
        ("path,label\na.jpg,cat\né/b.jpg,dog\n", "t.csv", [2, 3]),
        ("path,label\r\na.jpg,cat\r\né/b.jpg,dog", "t.csv", [2, 3]),
        ("\n\npath,label\n\na.jpg , cat\n\n,\né/b.jpg,dog\n\n", "t.csv", [5, 8]),
        ("path;label\na.jpg;cat\né/b.jpg;dog\n", "t.csv", [2, 3]),
        ("path\tlabel\na.jpg\tcat\né/b.jpg\tdog\n", "t.tsv", [2, 3]),
        ("path|label\na.jpg|cat\né/b.jpg|dog\n", "T.CSV", [2, 3]),
        ('path,label\n"a.jpg","cat"\n"é/b.jpg","dog"\n', "t.csv", [2, 3]),
        ("path,label\na.jpg,cat\né/b.jpg,dog\n".encode("utf-8-sig"), "t.csv", [2, 3]),
        ("path\tlabel\na.jpg\tcat\né/b.jpg\tdog\n".encode("utf-16"), "t.csv", [2, 3]),
        ('{"path": "a.jpg", "label": "cat"}\n\n{"label": "dog", "path": "é/b.jpg", "x": [1]}\n', "t.jsonl", [1, 3]),
    ],
)
def test_tables_as_programs_write_them(content: bytes | str, name: str, places: list[int], tmp_path: Path) -> None:
    table = read(tmp_path, content, name)
    assert (table.cells, list(table.places)) == (TWO, places)


def test_a_field_over_two_lines_does_not_shift_the_lines_of_messages(tmp_path: Path) -> None:
    table = read(tmp_path, 'path,label,note\na,x,"two\nlines"\nb,y,\n')
    assert list(table.places) == [2, 4]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty. Write a line with names of columns, such as path,label"),
        (b"a.jpg,cat\nb.jpg,dog\n", r"t.csv:1: the first line is an image \(a.jpg, cat\).* Write path,label above it"),
        (b"path,label\na.jpg,cat,x\n", r't.csv:2: 3 fields, and line 1 names 2 columns \(path, label\).*"a,b"'),
        (b"path,label\na.jpg\n", r"t.csv:2: 1 field, and line 1 names 2 columns"),
        (b"path,path\na,b\n", "t.csv:1: two columns are called path. Rename one"),
        (b'path,label\na,b\n"a,b\nc,d\n', r"t.csv:3: .* Look for a quotation mark without its pair"),
        ("path,label\na,b\ncafé,x\n".encode("latin-1"), r"t.csv:3: not UTF-8 text. Save .* iconv -f WINDOWS-1252"),
    ],
)
def test_what_is_no_csv_is_told_with_its_line(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty. Write lines such as"),
        ('{"path": "a", "label": 1}\n{"path":\n', r"t.jsonl:2: not JSON \(.*Each line is one object"),
        ('["a", "b"]\n', r't.jsonl:1: \["a", "b"\] is no JSON object'),
        ('{"path": "a", "label": [1, 2]}\n', "t.jsonl:1: label holds list values, not text or numbers"),
    ],
)
def test_what_are_no_json_lines_is_told_with_its_line(content: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path, content, "t.jsonl")


def test_json_numbers_nulls_and_truth_are_text(tmp_path: Path) -> None:
    table = read(tmp_path, '{"path": 1, "label": 2}\n{"path": null, "label": true}\n{"label": 3.0}\n', "t.ndjson")
    assert table.cells == {"path": ["1", "", ""], "label": ["2", "True", "3.0"]}


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    columns = {"path": ["a.jpg", "é/b.jpg"], "label": ["cat", "dog"], "unread": [[1], [2]]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", choose)
    assert (table.cells, list(table.places), table.unit) == (TWO, [1, 2], "row")
    numbers = pyarrow.table({"path": ["a", "b"], "label": [1.0, float("nan")]})
    pyarrow.parquet.write_table(numbers, tmp_path / "n.parquet")
    assert read_table(tmp_path / "n.parquet", choose).cells["label"] == ["1.0", ""]
    pyarrow.parquet.write_table(pyarrow.table({"image": [{"bytes": b"x"}], "label": [1]}), tmp_path / "s.parquet")
    with pytest.raises(UserError, match=r"s.parquet, row 1: image holds dict values, not text"):
        read_table(tmp_path / "s.parquet", choose)
    with pytest.raises(UserError, match="is not a Parquet file that can be read"):
        read(tmp_path, "path,label", "wrong.parquet")

    def missing(extra: str, module: str, needed_by: str) -> None:
        raise UserError(f"{needed_by} needs {module}: pip install 'signs_dist[{extra}]'")

    monkeypatch.setattr(table_file, "require_extra", missing)
    with pytest.raises(UserError, match=r"t.parquet needs pyarrow: pip install 'signs_dist\[parquet\]'"):
        read_table(tmp_path / "t.parquet", choose)


def test_a_missing_table_and_names(tmp_path: Path) -> None:
    assert [is_table_name(Path(name)) for name in ("a.CSV", "b.parquet", "c.json")] == [True, True, False]
    (tmp_path / "t.csv").mkdir()
    with pytest.raises((UserError, OSError)):
        read_table(tmp_path / "t.csv", choose)
