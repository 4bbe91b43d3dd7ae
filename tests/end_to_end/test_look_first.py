"""Photos as people have them, in three commands: look, train, predict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.extras import is_installed
from signs_dist.inspect import main as inspect
from signs_dist.predict import main as predict
from signs_dist.train import main as train
from tests.odd_photos import write_odd_photos

pytestmark = pytest.mark.slow
SHORT = [
    "data.image_size=16",
    "train.epochs=8",
    "train.global_batch=16",
    "model.name=signs_net",
    "model.args={channels: 8}",
]


def test_three_commands_from_a_folder_to_the_class_of_each_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = write_odd_photos(tmp_path / "my photos", num_files=400, has_heic=is_installed("pillow_heif"))
    assert run_command(inspect, ["my photos", "--write", "config.yaml", "--processes", "1", "--quiet", "--all"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in photos.broken)
    own = ["log.report=false", "optim.lr=0.05", "train.num_threads=1"]
    assert run_command(train, ["--config", "config.yaml", "--run-dir", "run", *SHORT, *own]) == 0
    result = json.loads(Path("run/result.json").read_text())
    assert sum(result["split_sizes"].values()) == 400 - len(photos.broken)
    assert result["val_accuracy"] > 0.7
    code = run_command(predict, ["run", "my photos", "--json", "out.json", "--bad-images", "skip"])
    assert code == 1  # the broken ones are named
    found = json.loads(Path("out.json").read_text())
    assert {Path(row["path"]).name for row in found["skipped"]} == {Path(name).name for name in photos.broken}
    right = [row["class"] == Path(row["path"]).parent.name for row in found["predictions"]]
    assert len(right) == len(photos.formats)
    assert sum(right) > 0.7 * len(right)
