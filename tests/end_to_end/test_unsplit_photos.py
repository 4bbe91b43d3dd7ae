"""Photos that are not split: one division on any number of processes and in each resume; every command reads it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.evaluate import main as evaluate
from signs_dist.predict import main as predict
from signs_dist.results.predictions import photo_path, predictions_path, read_predictions
from signs_dist.train import main as train
from tests.processes import run
from tests.sets import small_run, write_colour_set

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 photos in three class folders, and a table of them."""
    folder = tmp_path_factory.mktemp("photos")
    write_colour_set(folder, counts={"all": 8})
    for path in sorted((folder / "all_signs").iterdir()):
        label, _, name = path.name.partition("_")
        (folder / "set" / f"colour {label}").mkdir(parents=True, exist_ok=True)
        path.rename(folder / "set" / f"colour {label}" / name)
    lines = [f"set/{path.parent.name}/{path.name};{path.parent.name}" for path in folder.glob("set/*/*.jpg")]
    (folder / "table.csv").write_text("\n".join(["file;class", *sorted(lines)]))
    return folder


def settings(root: Path, cache: Path, *more: str, epochs: int = 1) -> list[str]:
    own = [f"data.root={root}", f"data.cache={cache}", "model.name=mlp", "model.args={}"]
    return [*small_run(root, epochs=epochs, global_batch=8), *own, "train.num_threads=1", "log.report=false", *more]


def division(run_dir: Path) -> str:
    return (run_dir / "division.csv").read_text()


def test_one_division_on_1_and_2_processes_and_in_a_resume(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(photos / "set", tmp_path / "set")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with arithmetic_kept():
        assert run_command(train, ["--run-dir", "run", *settings(root, tmp_path / "one/cache", "exact=true")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "divided: train 75.0 %, val 12.5 %, test 12.5 % of the images" in printed
    (written,) = Path("data/splits").glob("set-*.csv")
    assert f"written in {written}" in printed
    assert division(Path("run")) == written.read_text()

    # In a folder of its own, where nothing is written down yet: two processes decide, and decide alike.
    local = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", "--run-dir", "run"]
    ended = run([*local, *settings(root, tmp_path / "two/cache", "exact=true")], tmp_path / "two")
    assert ended.code == 0, ended.err
    assert division(tmp_path / "two/run") == division(Path("run"))
    hashes = [json.loads((tmp_path / one / "run/result.json").read_text())["weights_sha256"] for one in ("one", "two")]
    assert hashes[0] == hashes[1]

    # A photo is added: the run that is trained further keeps its images, and says so.
    shutil.copy(root / "colour 0/IMG_0000.jpg", root / "colour 0/added.jpg")
    more = settings(root, tmp_path / "one/cache", "exact=true", epochs=2)
    before = division(Path("run"))
    with arithmetic_kept():
        assert run_command(train, ["--run-dir", "run", *more, "--accept-change", "train.epochs"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 image was added since, and not used by this run" in printed
    assert division(Path("run")) == before
    assert json.loads(Path("run/result.json").read_text())["epochs_trained"] == 2

    # evaluate takes the images of the run, from any folder.
    monkeypatch.chdir(tmp_path)
    known = json.loads(Path("one/run/result.json").read_text())
    assert run_command(evaluate, ["one/run", "--json", "out.json", "--quiet"]) == 0
    told = json.loads(Path("out.json").read_text())
    assert (told["val_images"], told["val_accuracy"]) == (known["split_sizes"]["val"], known["val_accuracy"])
    assert not Path("data").exists()


def test_a_table_is_trained_on_where_it_lies(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = photos / "table.csv"
    assert run_command(train, ["--run-dir", "run", *settings(table, tmp_path / "cache")]) == 0
    assert "table.csv: path from file, label from class" in " ".join(capsys.readouterr().out.split())
    header_and_rows = read_predictions(predictions_path(Path("run"), "val"))
    assert header_and_rows is not None
    header, rows = header_and_rows
    paths = [photo_path(header, row.file) for row in rows]
    assert all(path is not None and path.is_file() for path in paths)  # the report shows these photos
    assert run_command(evaluate, ["run", "--split", "train", "--json", "out.json", "--quiet"]) == 0
    assert json.loads(Path("out.json").read_text())["train_images"] == division(Path("run")).count(",train\n")
    # A table without splits, which is not that of the run, is one set.
    shutil.copytree(photos / "set", tmp_path / "set")
    (tmp_path / "other.csv").write_text("path,label\nset/colour 0/IMG_0000.jpg,colour 0\n")
    assert run_command(evaluate, ["run", "--data", "other.csv", "--json", "out.json"]) == 0
    assert json.loads(Path("out.json").read_text())["all_images"] == 1
    assert "other.csv is not split: all its images are one set" in capsys.readouterr().out
    assert run_command(predict, ["run", str(photos / "set/colour 1/IMG_0001.jpg"), "--json", "p.json"]) == 0
