"""Lines are added whole, below a torn line, and a damaged file loses its damaged lines only."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from signs_dist.errors import UserError
from signs_dist.run_folder import lines
from signs_dist.run_folder.lines import append_line, describe_damage, parse, read_lines, read_raw_lines, to_line

GOOD: list[dict[str, Any]] = [{"number": 1}, {"number": 2}]


def put(path: Path, before: bytes, between: bytes = b"", after: bytes = b"") -> Path:
    path.write_bytes(before + b'{"number": 1}\n' + between + b'{"number": 2}\n' + after)
    return path


@pytest.mark.parametrize(
    ("name", "after"),
    [
        ("cut off", b'{"number": 3, "te'),
        ("cut off before its newline", b'{"number": 3}'),
        ("with NULs", b'{"number": 3, "te\0\0\0\0'),
        ("NULs alone", b"\0" * 4096),
        ("cut within a character", '{"name": "é'.encode()[:-1]),
        ("a blank without an end", b"  "),
    ],
)
def test_the_next_line_is_written_below_a_torn_one(tmp_path: Path, name: str, after: bytes) -> None:
    path = put(tmp_path / "a.jsonl", b"", after=after)
    append_line(path, {"number": 4})
    append_line(path, {"number": 5})
    kept = [{"number": 3}] if after == b'{"number": 3}' else []
    assert read_lines(path) == [*GOOD, *kept, {"number": 4}, {"number": 5}]


@pytest.mark.parametrize(
    ("between", "damaged"),
    [
        (b"\n\n \n", ""),
        (b"\r\n", ""),
        (b"nothing\n", "a.jsonl: line 2 cannot be read: omitted"),
        (b"[1]\n7\n\xff\xfe\nnull\n", "a.jsonl: lines 2, 3, 4 and 1 more cannot be read: omitted"),
        (b'{"number": NaN}\n', "a.jsonl: line 2 cannot be read: omitted"),
        (b'{"number": ' + b"9" * 5000 + b"}\n", "a.jsonl: line 2 cannot be read: omitted"),
        (b"[" * 100_000 + b"\n", "a.jsonl: line 2 cannot be read: omitted"),
        (b"\0\0\0\n", "a.jsonl: line 2 cannot be read: omitted"),
        (b"x" * 10_000_000 + b"\n", "a.jsonl: line 2 cannot be read: omitted"),
    ],
)
def test_other_lines_are_omitted_and_named(tmp_path: Path, between: bytes, damaged: str) -> None:
    path = put(tmp_path / "a.jsonl", b"", between)
    assert read_lines(path) == GOOD
    assert describe_damage(path) == damaged


def test_lines_of_windows_and_after_lost_blocks_are_read(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", b"\0\0\0", b"\r\n")
    path.write_bytes(path.read_bytes().replace(b"}\n", b"}\r\n"))
    assert read_lines(path) == GOOD
    assert [number for number, _ in read_raw_lines(path)] == [1, 3]


def test_a_character_that_ends_lines_elsewhere_is_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    odd = {"name": "a\u2028b\u2029c\x85d\x1ee\nf", "bytes": os.fsdecode(b"\xff")}
    append_line(path, odd)
    assert read_lines(path) == [odd]
    assert path.read_bytes().count(b"\n") == 1


def test_a_byte_that_is_not_utf8_costs_no_line(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", b'{"name": "\xff"}\n')
    assert read_lines(path) == [{"name": "\ufffd"}, *GOOD]


def test_a_long_line_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    append_line(path, {"text": "x" * 10_000_000})
    append_line(path, {"number": 1})
    assert [len(str(line)) > 100 for line in read_lines(path)] == [True, False]


def test_what_is_not_a_number_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_line(tmp_path / "a.jsonl", {"loss": float("nan")})
    assert not (tmp_path / "a.jsonl").exists()
    assert parse(to_line({"a": 1})) == {"a": 1}


def test_a_disk_that_becomes_full_within_a_line_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / "a.jsonl", b"")
    before, write = path.read_bytes(), os.write

    def full(descriptor: int, data: Any) -> int:
        if len(data) > 4:
            return write(descriptor, bytes(data[:4]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lines.os, "write", full)
    with pytest.raises(UserError, match=r"no space left while writing .*a\.jsonl"):
        append_line(path, {"n": 3})
    assert path.read_bytes() == before


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(UserError, match=f"{name} is not a file"):
            read_lines(tmp_path / name)
    with pytest.raises(UserError, match=r"cannot write .*folder: Is a directory"):
        append_line(tmp_path / "folder", {"number": 1})
    assert read_lines(tmp_path / "nothing") == []
    assert describe_damage(tmp_path / "nothing") == ""


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    children = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            for _ in range(50):
                append_line(path, {"number": number, "text": "x" * 300})
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    assert sorted(line["number"] for line in read_lines(path)) == sorted([0, 1, 2] * 50)
    assert all(json.loads(line) for line in path.read_text().splitlines())
