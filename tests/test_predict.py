"""The command that predicts: what it prints and writes, and its exit code."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import shutil
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from signs_dist.console.command import run_command
from signs_dist.inference import predicting
from signs_dist.predict import main as predict
from tests.data.photo_files import encoded, photo
from tests.inference.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("trained"), "train.epochs=1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six photos, and a truncated one between them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        photo(number).save(folder / f"{number}.jpg")
    (folder / "3cut.jpg").write_bytes(encoded(photo(9, 300), "JPEG")[:3000])
    return folder


def typed(*arguments: object) -> int:
    return run_command(predict, [str(argument) for argument in arguments])


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_a_photo_that_cannot_be_read_has_a_row_a_count_and_exit_code_1(
    run: Path, photos: Path, tmp_path: Path, quiet: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    table, whole = tmp_path / "o.csv", tmp_path / "o.json"
    assert typed(run, photos, "--csv", table, "--json", whole, *quiet) == 1
    rows = rows_of(table)
    assert [Path(row["path"]).name for row in rows] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
        "3.jpg",
        "3cut.jpg",
        "4.jpg",
        "5.jpg",
    ]
    assert [bool(row["error"]) for row in rows] == [False] * 4 + [True] + [False] * 2
    assert rows[4]["error"].startswith("truncated")
    assert (rows[4]["class"], rows[4]["probability"]) == ("", "")
    content = json.loads(whole.read_text())
    assert (len(content["predictions"]), [Path(row["path"]).name for row in content["skipped"]]) == (6, ["3cut.jpg"])
    told = capsys.readouterr()
    assert told.err.splitlines()[0] == "1 of 7 photos has no prediction:"
    assert f"{photos / '3cut.jpg'}: truncated" in told.err
    assert told.out == "" if quiet else "skipped: truncated" in told.out


def test_a_thousand_photos_that_cannot_be_read_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(40):
        (tmp_path / f"{number:02d}.jpg").write_bytes(b"")
    assert typed(run, tmp_path, "--quiet") == 1
    told = capsys.readouterr().err
    assert told.splitlines()[0] == "40 of 40 photos have no prediction:"
    assert "the file has 0 bytes: 40 images, such as" in told
    assert len(told.splitlines()) == 2


def test_all_photos_read_is_exit_code_0(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "3cut.jpg").unlink()
    assert typed(run, photos, "--bad-images", "skip", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_photo_that_cannot_be_read_stops_it_with_words_about_predicting(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    stop = ("--bad-images", "stop")
    assert typed(run, tmp_path / "notes.txt", photos, "--csv", tmp_path / "o.csv", *stop) == 2
    told = capsys.readouterr().err
    assert "notes.txt: not an image of a known format" in told
    assert "omit --bad-images stop" in told
    assert "data set" not in told
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize("name", ["photo", "photo.dat", "photo.JPG_large", "photo.jpg.txt", "-1.jpg", "a b'c.png"])
def test_a_photo_that_is_given_directly_may_have_any_name(run: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(photo(1), "JPEG"))
    assert typed(run, tmp_path / name, "--quiet") == 0


@pytest.mark.parametrize("flag", ["--json", "--jsonl", "--csv"])
@pytest.mark.parametrize(
    "place", ["/proc/x", "/proc/none/x", "{photos}", "{photos}/1.jpg/x", "{photos}/1.jpg", "/dev/null/x"]
)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    run: Path,
    photos: Path,
    place: str,
    flag: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signs_dist.inference.trained_model.load_model", lambda *_, **__: pytest.fail("it began"))
    before = {path: path.read_bytes() for path in photos.iterdir()}
    target = place.format(photos=photos)
    assert typed(run, photos, flag, target) == 2
    assert f"error: cannot write {target}: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photos.iterdir()} == before


def test_folders_above_an_output_are_made(run: Path, photos: Path, tmp_path: Path) -> None:
    assert typed(run, photos / "0.jpg", "--csv", tmp_path / "new/deep/o.csv", "--quiet") == 0
    assert len(rows_of(tmp_path / "new/deep/o.csv")) == 1


def test_one_file_for_both_outputs_is_refused(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(run, photos, "--csv", tmp_path / "o", "--json", tmp_path / "o") == 2
    assert "--json and --csv name the same file" in capsys.readouterr().err


def test_an_output_may_be_a_device(run: Path, photos: Path) -> None:
    assert typed(run, photos / "0.jpg", "--csv", "/dev/null", "--quiet") == 0


@pytest.mark.parametrize("raw", [b"caf\xe9.jpg", b"\x1b[2J.jpg", b"a\nb.jpg", b"=1+1.jpg"])
def test_names_of_any_bytes(
    run: Path, tmp_path: Path, raw: bytes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(raw)).write_bytes(encoded(photo(1), "JPEG"))
    assert typed(run, os.fsdecode(raw), "--csv", "o.csv", "--json", "o.json") == 0
    (row,) = rows_of(Path("o.csv"))
    assert row["path"].isprintable()
    assert row["path"][0] != "="
    assert json.loads(Path("o.json").read_text(encoding="utf-8"))["predictions"][0]["path"] == os.fsdecode(raw)
    out = capsys.readouterr().out
    assert len(out.splitlines()) == 1
    assert out.strip().isprintable()


def test_weights_that_are_not_numbers_are_told(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(run, tmp_path / "run"))
    fill_with_nan(broken / "model.pt")
    assert typed(broken, photos / "0.jpg", "--csv", tmp_path / "o.csv") == 1
    assert "the network's output is not a finite number" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()


def fill_with_nan(path: Path) -> None:
    weights = torch.load(path, weights_only=True)
    torch.save(
        {name: value * float("nan") if value.is_floating_point() else value for name, value in weights.items()}, path
    )


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ([], 0, ""),
        (["--max-megapixels", "0.001"], 1, "40 x 40 pixels, more than 0.001 megapixels"),
        (["--max-megapixels", "0.002"], 0, ""),
        (["--max-megapixels", "0"], 2, "--max-megapixels 0 is not above 0"),
        (["--max-megapixels", "nan"], 2, "--max-megapixels nan is not above 0"),
        (["--top", "0"], 2, "--top 0: type 1 or more."),
        (["--batch", "-1"], 2, "--batch -1: type 1 or more."),
    ],
)
def test_the_limits_of_numbers(
    run: Path, photos: Path, flags: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(photos / "0.jpg") as image:
        assert image.size == (40, 40)
    assert typed(run, photos / "0.jpg", "--quiet", *flags) == code
    assert words in capsys.readouterr().err


def test_photos_are_given_in_every_way(
    run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"photos/5.jpg\nphotos/none.jpg\n")))
    assert typed(run, "photos/[01].jpg", "photos/2.jpg", "-", "--jsonl", "o.jsonl", "--batch", "2") == 1
    rows = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == [f"photos/{name}.jpg" for name in ("0", "1", "2", "5", "none")]
    assert rows[-1] == {"path": "photos/none.jpg", "error": "no such file or directory"}
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == [row["path"] for row in rows]
    assert "photos/none.jpg: no such file or directory" in told.err


@pytest.mark.parametrize(
    ("given", "stdin", "told"),
    [
        ("-", b"", "standard input holds no paths"),
        ("*.gif", b"", "*.gif: no file or folder matches this pattern"),
    ],
)
def test_no_photos_are_wrong_input(
    run: Path,
    tmp_path: Path,
    given: str,
    stdin: bytes,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
    assert typed(run, given, "--json", "o.json") == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_most_probable_classes(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(run, photos / "0.jpg", "--top", "9", "--csv", tmp_path / "o.csv") == 0
    (row,) = rows_of(tmp_path / "o.csv")
    assert list(row) == [
        "path",
        "class",
        "probability",
        "class_2",
        "probability_2",
        "class_3",
        "probability_3",
        "error",
    ]
    shown = capsys.readouterr().out.split()
    assert shown[1::3] == [row["class"], row["class_2"], row["class_3"]]


def test_json_lines_of_the_photos_before_a_broken_one_are_kept(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, table = tmp_path / "o.jsonl", tmp_path / "o.csv"
    arguments = (run, photos, "--bad-images", "stop", "--batch", "2", "--jsonl", lines, "--csv", table)
    assert typed(*arguments) == 2
    assert len(lines.read_text().splitlines()) == 4
    assert not table.exists()
    assert f"What was predicted before is in {lines}." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "code", "told"),
    [
        (signal.SIGINT, 130, "interrupted\n"),
        (signal.SIGTERM, 75, "stopped by SIGTERM: repeat the command\n"),
    ],
)
def test_a_signal_leaves_whole_lines_and_no_part_of_a_table(
    run: Path,
    photos: Path,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = itertools.count()
    describe = predicting._rows

    def signalled(*arguments: Any) -> Any:
        if next(calls) == 2:
            signal.raise_signal(number)
        return describe(*arguments)

    monkeypatch.setattr(predicting, "_rows", signalled)
    out = tmp_path / "out"
    files = [word for kind in ("json", "jsonl", "csv") for word in (f"--{kind}", out / f"o.{kind}")]
    assert typed(run, photos, *files, "--batch", "2", "--quiet") == code
    assert [path.name for path in out.iterdir()] == ["o.jsonl"]
    rows = [json.loads(line) for line in (out / "o.jsonl").read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert capsys.readouterr().err == told
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("photos")]


@pytest.mark.parametrize("place", ["signs_dist.inference.trained_model.read_model", "torch.set_num_threads"])
def test_a_signal_before_the_first_photo_leaves_nothing(
    run: Path,
    photos: Path,
    tmp_path: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(place, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert typed(run, photos, "--csv", tmp_path / "o.csv", "--jsonl", tmp_path / "o.jsonl") == 130
    assert capsys.readouterr() == ("", "interrupted\n")
    assert list(tmp_path.glob("o.*")) == list(tmp_path.glob(".o.*")) == []


@pytest.mark.parametrize("flag", ["--json", "--jsonl", "--csv"])
def test_a_full_disk_is_told_in_a_line(run: Path, photos: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(run, photos / "0.jpg", flag, "/dev/full", "--quiet") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: no space left while writing /dev/full: ")
    assert len(told.splitlines()) == 1


def test_results_are_not_kept_in_memory(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,500 photos, never more than the rows of two batches are there at the same time."""
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = 0

    class Row(dict[str, Any]):
        __hash__ = object.__hash__

    rows_of_batch = predicting._rows

    def noted(*arguments: Any) -> Iterator[Any]:
        nonlocal most
        for row in rows_of_batch(*arguments):
            kept = Row(row)
            alive.add(kept)
            most = max(most, len(alive))
            yield kept

    monkeypatch.setattr(predicting, "_rows", noted)
    listed = "\n".join([str(photos / "0.jpg")] * 1500).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    files = [word for kind in ("json", "jsonl", "csv") for word in (f"--{kind}", tmp_path / f"o.{kind}")]
    assert typed(run, "-", *files, "--batch", "50", "--quiet") == 0
    assert len(rows_of(tmp_path / "o.csv")) == 1500
    assert most <= 100
