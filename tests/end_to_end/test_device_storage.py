"""Runs whose images are on the device. Without a GPU they are in the memory of the process, by the same code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.data.batches import PackedBatches
from signs_dist.evaluate import main as evaluate
from signs_dist.training.fit import fit
from tests.training.parts import make_config, make_prepared

ALL_CHANGES = (
    *("augment.mixup=0.4", "augment.cutmix=1", "augment.policy=randaugment", "augment.erase=0.3"),
    *("augment.erase_fill=noise", "augment.crop_scale=[0.5, 1]", "augment.cutout=0.2"),
    *("train.progressive_sizes=[[0.5, 0.5]]", "model.name=signs_fast", "data.order=balanced"),
)


@pytest.mark.slow  # each run starts a second process
def test_an_exact_run_has_the_bits_of_packed_images(tmp_path: Path) -> None:
    found = [
        fit(
            make_config(tmp_path, "exact=true", "train.micro_batch=4", *ALL_CHANGES, f"data.storage={storage}"),
            tmp_path / storage,
            quiet=True,
        )
        for storage in ("packed", "device")
    ]
    for name in ("weights_sha256", "val_loss", "val_confusion", "fingerprints"):
        assert found[0].get(name) == found[1].get(name), name
    files = ("predictions-val.jsonl", "training-images.png", "training-images.jsonl")
    for file in files:
        assert (tmp_path / "packed" / file).read_bytes() == (tmp_path / "device" / file).read_bytes(), file


def test_a_trained_model_is_evaluated_as_from_packed_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the images is not worth a copy of all of them, for which the machine may be too small."""
    monkeypatch.chdir(tmp_path)
    result = fit(make_config(tmp_path, "data.storage=device"), tmp_path / "run", quiet=True)
    opened: list[object] = []
    with monkeypatch.context() as patch:
        make = PackedBatches.__init__

        def recorded(self: PackedBatches, *arguments: object) -> None:
            opened.append(self)
            make(self, *arguments)  # type: ignore[arg-type]

        patch.setattr(PackedBatches, "__init__", recorded)
        assert evaluate(["run", "--split", "val", "--json", "score.json", "--quiet"]) == 0
    assert len(opened) == 1
    assert json.loads(Path("score.json").read_text())["val_confusion"] == result["val_confusion"]


def test_the_fingerprints_are_those_of_packed_images(tmp_path: Path) -> None:
    one, other = (make_prepared(tmp_path, f"data.storage={storage}") for storage in ("packed", "device"))
    assert one.fingerprints == other.fingerprints
    assert {type(source).__name__ for source in other.sources.values()} == {"DeviceBatches"}
