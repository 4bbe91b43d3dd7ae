"""What `predict` takes as photos."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest

from signs_dist.errors import UserError
from signs_dist.inference.inputs import find_inputs, read_paths
from tests.data.photo_files import jpeg, write_files


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*given: str, stdin: bytes = b"") -> list[str]:
    return [str(path) for path in find_inputs(given, io.BytesIO(stdin))]


def test_files_and_folders(tmp_path: Path) -> None:
    mix = write_files(
        tmp_path / "mix", {"b.jpg": b"", "a": jpeg(1), ".x/c.jpg": b"", "notes.txt": b"", "@eaDir/a": b""}
    )
    write_files(tmp_path / "elsewhere", {"d.png": b""})
    (mix / "more").symlink_to(tmp_path / "elsewhere")
    one = write_files(tmp_path, {"one.txt": b""}) / "one.txt"
    found = find_inputs([str(one), str(mix)], io.BytesIO())
    assert list(found) == [one, mix / "a", mix / "b.jpg", mix / "more/d.png"]
    assert (found.num_photos, found.width) == (4, len(str(mix / "more/d.png")))
    assert (found.passed_over.litter.count, found.passed_over.not_images.count) == (2, 1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["*.jpg"], ["1.jpg", "[a].jpg"]),
        (["**/*.jpg"], ["1.jpg", "[a].jpg", "deep/2.jpg", "deep/er/3.jpg"]),
        (["?.jpg", "deep"], ["1.jpg", "deep/2.jpg", "deep/er/3.jpg"]),
        (["d*"], ["deep/2.jpg", "deep/er/3.jpg"]),
        (["[a].jpg"], ["[a].jpg"]),  # what exists under this name is meant, and not a.jpg
        (["deep/[12].jpg"], ["deep/2.jpg"]),
    ],
)
def test_patterns(folder: Path, given: list[str], expected: list[str]) -> None:
    write_files(folder, {"1.jpg": b"", "[a].jpg": b"", "deep/2.jpg": b"", "deep/er/3.jpg": b"", ".hidden.jpg": b""})
    assert paths(*given) == expected


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("none.jpg", "none.jpg: no such file or folder."),
        ("none/*.jpg", "none/*.jpg: no file or folder matches this pattern."),
        ("empty", "empty holds no photos."),
        ("litter", "holds no photos. Passed over: 1 file or folder of other programs"),
    ],
)
def test_what_is_not_there(folder: Path, given: str, told: str) -> None:
    (folder / "empty").mkdir()
    write_files(folder / "litter", {".DS_Store": b""})
    with pytest.raises(UserError) as caught:
        find_inputs([given], io.BytesIO())
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a\n1.jpg\0b.jpg\0", ["a\n1.jpg", "b.jpg"]),
        (b"a.jpg\0", ["a.jpg"]),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")]),
        (b"alone.jpg", ["alone.jpg"]),
        (b"x" * 70_000 + b"\ny\n", ["x" * 70_000, "y"]),
    ],
    ids=["lines", "windows", "nul", "one", "bytes", "no end", "long"],
)
def test_a_list_of_paths(text: bytes, expected: list[str]) -> None:
    assert [str(path) for path in read_paths(io.BytesIO(text))] == expected
    assert [str(path) for path in find_inputs(["-"], io.BytesIO(text))] == expected


@pytest.mark.parametrize("text", [b"", b"\n\n"])
def test_an_empty_list_is_told(text: bytes) -> None:
    with pytest.raises(UserError, match=r"standard input holds no paths\. Write one a line, as in: find photos"):
        list(read_paths(io.BytesIO(text)))


def test_standard_input_is_given_once(folder: Path) -> None:
    with pytest.raises(UserError, match="is given twice"):
        find_inputs(["-", "-"], io.BytesIO())
    write_files(folder, {"1.jpg": b""})
    assert find_inputs(["1.jpg", "-"], io.BytesIO(b"2.jpg")).num_photos is None
    assert paths("1.jpg", "-", stdin=b"2.jpg") == ["1.jpg", "2.jpg"]


def test_paths_are_read_as_they_arrive() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream:
        found = read_paths(stream)
        os.write(write, b"a.jpg\nb")
        assert next(found) == Path("a.jpg")  # though the writer goes on
        threading.Timer(0.05, lambda: (os.write(write, b".jpg\n"), os.close(write))).start()
        assert list(found) == [Path("b.jpg")]
