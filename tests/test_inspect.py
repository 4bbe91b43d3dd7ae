"""The command: what it prints, which files it writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.console.command import run_command
from signs_dist.data.sets import open_data_set
from signs_dist.inspect import main
from tests.data.photo_files import jpeg, write_files, write_zip
from tests.odd_photos import OddPhotos, write_odd_photos, write_table


def run(*arguments: object) -> int:
    return run_command(main, [*map(str, arguments), "--processes", "1"])


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> OddPhotos:
    return write_odd_photos(tmp_path_factory.mktemp("odd") / "my photos", num_files=240)


def plain_files(num_each: int = 12) -> dict[str, bytes]:
    return {f"{name}/{i}.jpg": jpeg(100 * ord(name) + i) for name in "ab" for i in range(num_each)}


def test_every_oddity_is_named(odd: OddPhotos, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(odd.root, "--all", "--json", tmp_path / "found.json") == 1
    out = capsys.readouterr().out
    for name in odd.broken:
        assert name in out
    for original, copy in odd.copies:
        assert " = ".join(sorted((original, copy))) in out
    for words in ("zebra: 4", "@eaDir/", "notes.txt", "stored with transparency", "turned by EXIF", "several frames"):
        assert words in out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["counts"] == {"all": odd.counts}


@pytest.mark.parametrize("is_table", [False, True])
def test_the_written_config_trains_on_what_can_be_used(
    odd: OddPhotos, tmp_path: Path, is_table: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_table(odd, tmp_path / "labels.csv") if is_table else odd.root
    assert run(source, "--write", "config.yaml", "--html", "page.html") == 0
    out = capsys.readouterr().out
    assert "wrote config.yaml and config.csv" in out
    assert "next: python -m signs_dist.train --config config.yaml" in out
    config = load_config("config.yaml")
    opened = open_data_set(config.data, num_processes=1, report=lambda *_: None)
    paths = [path for index in opened.splits.values() for path in index.paths]
    assert len(paths) == 240 - len(odd.broken)
    assert opened.classes == tuple(sorted(odd.counts))
    side_of = {Path(path).name: split for split, index in opened.splits.items() for path in index.paths}
    assert all(side_of[Path(one).name] == side_of[Path(other).name] for one, other in odd.copies)
    assert run(source, "--write", "config.yaml") == 2
    assert "config.yaml exists already" in capsys.readouterr().err


def test_plain_photos_are_trained_on_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_files(tmp_path / "photos", plain_files())
    assert run(root, "--write", tmp_path / "c.yaml") == 0
    assert load_config(tmp_path / "c.yaml").data.root == str(root)
    assert not (tmp_path / "c.csv").exists()
    assert run(root, "--quiet") == 0
    assert capsys.readouterr().out.count("problem") == 1  # in the count of the first run


def test_settings_say_how_classes_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"ann_{name}_{i}.jpg": jpeg(100 * ord(name) + i) for name in "ab" for i in range(4)}
    root = write_files(tmp_path / "photos", files)
    assert run(root, r"data.label_pattern=_([ab])_", "--write", tmp_path / "c.yaml") == 0
    assert "classes from data.label_pattern" in capsys.readouterr().out
    assert load_config(tmp_path / "c.yaml").data.label_pattern == "_([ab])_"
    assert run(root, "train.epochs=3") == 2
    assert "train.epochs is not read here" in capsys.readouterr().err


def test_a_zip_is_looked_at_and_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_zip(tmp_path / "photos.zip", plain_files(3))
    assert run(source) == 0
    assert "6 photos of 2 classes can be used" in capsys.readouterr().out
    assert run(source, "--write", tmp_path / "c.yaml") == 2
    assert "python -m signs_dist.data.build --source" in capsys.readouterr().err


def test_no_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "none") == 2
    assert run(tmp_path) == 2
    assert "there is no zip or folder" in capsys.readouterr().err
