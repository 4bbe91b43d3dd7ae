"""Photos in other layouts than folders of splits, through whole runs: resumed, stopped by a broken photo, compared."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from signs_dist.console.command import run_command
from signs_dist.data.build import main as build
from signs_dist.reporting.content import read_content
from signs_dist.reporting.split_view import view_split
from signs_dist.train import main as train
from tests.own_modules import module_writer
from tests.sets import write_colour_set

READER = """
from pathlib import Path

class Photos:
    def __init__(self, folder):
        self.folder = Path(folder)

    def images(self):
        for path in sorted(self.folder.glob("*/*.jpg")):
            yield f"{path.parent.name}/{path.name}", path.parent.name, None

    def read(self, name):
        return self.folder / name
"""


def write_classes(root: Path, *, seed: int = 0) -> Path:
    """24 photos in three class folders."""
    aside = root.parent / f"{root.name}-aside"
    write_colour_set(aside, counts={"all": 8})
    for path in sorted((aside / "all_signs").iterdir()):
        label, _, name = path.name.partition("_")
        (root / f"colour {label}").mkdir(parents=True, exist_ok=True)
        path.rename(root / f"colour {label}" / f"{seed}_{name}")
    return root


@pytest.fixture
def data_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Makes the photos of a layout in the current folder; returns the settings that name them."""
    monkeypatch.chdir(tmp_path)

    def make(layout: str) -> list[str]:
        if layout == "several":
            write_classes(tmp_path / "one")
            write_classes(tmp_path / "two", seed=1)
            return ["data.root=[one, two]"]
        write_classes(tmp_path / "photos")
        if layout == "reader":
            (tmp_path / "code").mkdir()
            module = module_writer(tmp_path / "code", monkeypatch)(READER)
            return [f"data.reader={module}:Photos", "data.reader_args.folder=photos"]
        if layout == "shards":
            command = ["--source", "photos", "--out", "shards", "--size", "16", "--shards", "--quiet"]
            assert run_command(build, [*command, "--val-share", "0.25"]) == 0
            return ["data.root=shards"]
        return ["data.root=photos"]

    return make


def settings(*more: str) -> list[str]:
    small = ["data.image_size=16", "model.name=mlp", "train.global_batch=8", "schedule.name=constant", "optim.lr=0.01"]
    return [*small, "train.num_threads=1", "log.report=false", *more]


def result_of(run_dir: str) -> dict[str, object]:
    value = json.loads((Path(run_dir) / "result.json").read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("layout", ["folder", "several", "shards"])
def test_a_run_that_is_trained_further_has_the_weights_of_a_long_one(
    data_of: Callable[[str], list[str]], layout: str
) -> None:
    data = data_of(layout)
    assert run_command(train, ["--run-dir", "long", *settings(*data, "train.epochs=2")]) == 0
    assert run_command(train, ["--run-dir", "run", *settings(*data, "train.epochs=1")]) == 0
    longer = settings(*data, "train.epochs=2")
    assert run_command(train, ["--run-dir", "run", *longer, "--accept-change", "train.epochs"]) == 0
    assert result_of("run")["epochs_trained"] == 2
    assert result_of("run")["weights_sha256"] == result_of("long")["weights_sha256"]
    view = view_split(read_content(Path("run")), "val")
    assert view is not None
    tiles = [*view.mistakes, *view.uncertain]
    assert len(tiles) == sum(map(sum, view.matrix or []))
    assert all((tile.picture or "").startswith("data:image/jpeg;base64,") for tile in tiles)


def break_one(layout: str) -> None:
    """Spoil the bytes of a photo, where training reads it."""
    if layout == "shards":
        (shard, *_) = sorted(Path("shards").rglob("*train*.tar"))
        times = shard.stat()
        with tarfile.open(shard) as tar:
            member = next(each for each in tar if each.name.endswith(".jpg"))
        with shard.open("r+b") as stream:
            stream.seek(member.offset_data)
            stream.write(b"no image" * (member.size // 8))
        os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
        return
    for path in Path("two" if layout == "several" else "photos").glob("*/*.jpg"):
        path.write_bytes(f"no image {path}".encode())


@pytest.mark.parametrize("storage", ["packed", "files"])
@pytest.mark.parametrize(
    ("layout", "advice"),
    [
        ("folder", "train without them, type: python -m signs_dist.inspect photos --write config.yaml"),
        ("several", "python -m signs_dist.inspect two --write usable.yaml. To train without them, give usable.csv in"),
        ("shards", "python -m signs_dist.data.build --source shards --shards --bad-images skip"),
        ("reader", "Mend what read gives for it in data.reader=users_own_"),
    ],
)
def test_a_broken_photo_is_told_with_what_to_do(
    data_of: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str], layout: str, advice: str, storage: str
) -> None:
    data = data_of(layout)
    break_one(layout)
    command = ["--run-dir", "run", *settings(*data, "train.epochs=1", f"data.storage={storage}", "data.num_workers=0")]
    assert run_command(train, command) == 2
    assert advice in " ".join(capsys.readouterr().err.split())
