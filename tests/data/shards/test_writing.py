"""Shards that build writes: what webdataset reads from them, and that training gives what it gives from the folder."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from signs_dist.config.settings import DataConfig
from signs_dist.data.build import main as build
from signs_dist.data.folder import index_data_set
from signs_dist.data.other_sources import open_other_source
from signs_dist.data.sets import open_data_set
from signs_dist.data.shards import opening
from signs_dist.errors import UserError
from signs_dist.inference.scoring import score
from signs_dist.inference.trained_model import load_model
from signs_dist.training.fit import fit
from tests.sets import COLOURS
from tests.training.parts import make_config

CLASSES = ("wolf 1", "zebra", "été")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with awkward names, not split."""
    root = tmp_path_factory.mktemp("source") / "my photos"
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(10):
            noise = np.random.default_rng(10 * label + number).normal(0, 40, (16, 16, 3))
            pixels = (np.array(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(root / name / f"img.v1.{number}.png")
    return root


@pytest.fixture(scope="module")
def both(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same data set as a folder and as shards of few images."""
    folder = tmp_path_factory.mktemp("built")
    common = ["--source", str(photos), "--size", "16", "--quiet", "--processes", "1"]
    assert build([*common, "--out", str(folder / "plain")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signs_dist.data.shards.writing.MEGABYTE", 40_000)
        assert build([*common, "--out", str(folder / "shards"), "--shards", "--shard-megabytes", "1"]) == 0
    return folder / "plain", folder / "shards"


def test_what_build_leaves(both: tuple[Path, Path]) -> None:
    names = sorted(path.name for path in both[1].iterdir())
    shards = [name for name in names if name.endswith(".tar")]
    assert shards == ["train-000000.tar", "train-000001.tar", "train-000002.tar", "val-000000.tar"]
    assert names == sorted(["build.json", "classes.txt", *shards, *(f"{name}.index.json" for name in shards)])
    assert (both[1] / "classes.txt").read_text(encoding="utf-8").splitlines() == list(CLASSES)
    assert all((both[1] / name).stat().st_size <= 5 * tarfile.RECORDSIZE for name in shards)
    assert json.loads((both[1] / "build.json").read_text())["splits"]["train"]["images"] == 24


def test_the_index_is_that_of_the_folder(both: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "scan", lambda shard: pytest.fail("build has written the indexes"))
    plain = index_data_set(both[0])
    other = open_other_source(DataConfig(), [both[1]])
    assert other is not None
    for split, index in plain.items():
        own = other.splits[split]
        assert (own.classes, own.labels.tolist()) == (index.classes, index.labels.tolist())
        assert [own.reader.read(path) for path in own.paths] == [
            (index.root / path).read_bytes() for path in index.paths
        ]


@pytest.mark.filterwarnings("ignore")
def test_webdataset_reads_them_with_the_right_labels(both: tuple[Path, Path]) -> None:
    import webdataset

    shards = sorted(map(str, both[1].glob("train-*.tar")))
    data: Any = (
        webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil").to_tuple("jpg", "cls")
    )
    read = [(np.asarray(image), label) for image, label in data]
    index = index_data_set(both[0])["train"]
    assert [label for _, label in read] == index.labels.tolist()
    for (pixels, _), path in zip(read, index.paths, strict=True):
        assert np.array_equal(pixels, np.asarray(PIL.Image.open(both[0] / path)))


def test_equal_images_give_equal_shards(both: tuple[Path, Path], photos: Path, tmp_path: Path) -> None:
    build([*("--source", str(photos), "--size", "16", "--quiet", "--out", str(tmp_path / "again")), "--shards"])
    with tarfile.open(tmp_path / "again" / "train-000000.tar") as tar:
        names = tar.getnames()
        assert {(member.mtime, member.uid, member.uname) for member in tar.getmembers()} == {(0, 0, "")}
    assert names[:2] == ["wolf 1/img_v1_1.jpg", "wolf 1/img_v1_1.cls"]
    assert names[-1].startswith("été/img_v1_")
    assert (tmp_path / "again" / "val-000000.tar").read_bytes() == (both[1] / "val-000000.tar").read_bytes()


def test_a_repeated_build_is_recognised(both: tuple[Path, Path], photos: Path) -> None:
    again = ["--source", str(photos), "--size", "16", "--quiet", "--out"]
    assert build([*again, str(both[1]), "--shards", "--shard-megabytes", "1"]) == 0
    with pytest.raises(UserError, match="is already built with --shards, not without"):
        build([*again, str(both[1])])
    with pytest.raises(UserError, match="is already built without --shards, not with"):
        build([*again, str(both[0]), "--shards"])
    with pytest.raises(UserError, match="--shard-megabytes 1, not 2"):
        build([*again, str(both[1]), "--shards", "--shard-megabytes", "2"])
    with pytest.raises(UserError, match="--shard-megabytes 0 is not between 1 and"):
        build([*again, str(both[1]), "--shards", "--shard-megabytes", "0"])


@pytest.mark.parametrize("storage", ["packed", "files"])
def test_training_gives_the_same_weights_from_shards_and_from_the_folder(
    both: tuple[Path, Path], tmp_path: Path, storage: str
) -> None:
    settings = ["exact=true", "train.micro_batch=4", f"data.storage={storage}", "log.report=false"]
    runs = {}
    for root in both:
        config = make_config(tmp_path, f"data.root={root}", *settings)
        runs[root.name] = fit(config, run_dir=tmp_path / root.name, quiet=True)
    assert runs["shards"]["weights_sha256"] == runs["plain"]["weights_sha256"]
    assert runs["shards"]["val_confusion"] == runs["plain"]["val_confusion"]
    # Evaluated again: from the shards of the training, and from the folder.
    model = load_model(tmp_path / "shards")
    for root in (None, *both):
        assert score(model, root, split="val").accuracy == runs["shards"]["val_accuracy"]


def test_the_report_of_a_run_on_shards_is_written(both: tuple[Path, Path], tmp_path: Path) -> None:
    from signs_dist.report import main as report

    fit(make_config(tmp_path, f"data.root={both[1]}", "train.epochs=1"), run_dir=tmp_path / "run", quiet=True)
    assert report([str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "été" in page


def test_a_broken_image_in_a_shard_is_named(tmp_path: Path) -> None:
    from tests.data.shards.tars import samples, write_tar

    root = tmp_path / "set"
    for split in ("train", "val"):
        write_tar(root / f"{split}-0.tar", [*samples(("a", 0), ("b", 1)), ("c.jpg", b"no photo"), ("c.cls", b"1")])
    data = open_data_set(DataConfig(root=str(root), cache=str(tmp_path)), num_processes=1, report=lambda *_: None)
    from signs_dist.data.images import BadImageError
    from signs_dist.data.sets import open_split

    with pytest.raises(BadImageError, match=r"set/train-0\.tar/c\.jpg: not an image of a known format"):
        open_split(data.splits["train"], DataConfig(cache=str(tmp_path)), num_threads=1, report=lambda *_: None)
