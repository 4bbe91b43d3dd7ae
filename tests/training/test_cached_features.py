"""model.cache_features: a frozen backbone computes each image once, and the head trains on what it gave."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.checkpointing.store import Cursor
from signs_dist.config.reading import load_config
from signs_dist.data.loader import EvaluationLoader
from signs_dist.errors import UserError
from signs_dist.learning.metrics import Score, to_host
from signs_dist.run_folder.digest import digest_path
from signs_dist.training.cached_features import require_same_features, with_features
from signs_dist.training.prepare import Prepared
from signs_dist.training.stepper import Stepper
from tests.training.parts import make_prepared, make_process

FROZEN = ("model.name=signs_net", "model.args={channels: 4, dropout: 0.4}", "model.freeze=backbone")
CACHED = (*FROZEN, "augment.backend=none", "model.cache_features=true")
EXACT = ("exact=true", "train.micro_batch=2")


def cached(folder: Path, *settings: str) -> Prepared:
    process = make_process()
    return with_features(make_prepared(folder, *CACHED, *settings, process=process), process)


def trained(prepared: Prepared) -> tuple[dict[str, Tensor], Score]:
    """The weights after an epoch, and the score on the validation images."""
    stepper = Stepper(prepared, make_process())
    for _ in stepper.steps(Cursor(0, 0)):
        pass
    score = Score.from_sums(to_host(stepper.evaluate("val").tensors()))
    return {name: value.clone() for name, value in prepared.model.state_dict().items()}, score


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache").glob("features-*.npy"))


@pytest.mark.parametrize("more", [(), EXACT, ("data.storage=files",)], ids=["fast", "exact", "files"])
def test_the_same_is_learned_as_from_the_images(tmp_path: Path, more: tuple[str, ...]) -> None:
    weights, score = trained(cached(tmp_path, *more))
    others = (*FROZEN, "augment.backend=none", *more)
    expected, expected_score = trained(make_prepared(tmp_path, *others))
    start = make_prepared(tmp_path, *others).model.state_dict()
    changed = {name for name, value in weights.items() if not torch.equal(value, start[name])}
    assert changed == {"head.weight", "head.bias"} or all(name.startswith("head") for name in changed)
    assert changed
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert score.num_correct == expected_score.num_correct
    assert score.num_images == 12


def test_features_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path)
    first = {file.name: file.stat().st_mtime_ns for file in files(tmp_path)}
    assert [name.split("-")[1] for name in first] == ["test", "train", "val"]

    def refuse(*arguments: Any) -> None:
        raise AssertionError("features are computed again")

    monkeypatch.setattr("signs_dist.training.cached_features.compute_features", refuse)
    cached(tmp_path)
    assert {file.name: file.stat().st_mtime_ns for file in files(tmp_path)} == first


@pytest.mark.parametrize("change", ["seed=1", "data.mean=[0.4, 0.4, 0.4]", "train.precision=bfloat16", "exact=true"])
def test_what_changes_the_features_makes_other_files(tmp_path: Path, change: str) -> None:
    cached(tmp_path, "train.micro_batch=2", "train.precision=float32")
    before = files(tmp_path)
    settings = {"train.micro_batch": "2", "train.precision": "float32"} | dict([change.split("=", 1)])
    cached(tmp_path, *(f"{name}={value}" for name, value in settings.items()))
    assert len(files(tmp_path)) == 2 * len(before) == 6


def test_other_code_of_the_users_network_makes_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters do not tell how it computes with them."""
    code = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Linear(3 * 16 * 16, 4)
        self.head = nn.Linear(4, num_classes)

    def forward(self, images):
        return self.head(self.body(images.flatten(1)).relu())
"""
    module = tmp_path / "net_of_features.py"
    monkeypatch.syspath_prepend(tmp_path)
    for text in (code, code.replace("relu", "sigmoid")):
        module.write_text(text)
        cached(tmp_path, "model.name=net_of_features:Net", "model.args={}")
        sys.modules.pop("net_of_features")
    assert len(files(tmp_path)) == 6


def test_the_head_alone_does_not_make_other_files(tmp_path: Path) -> None:
    cached(tmp_path)
    prepared = make_prepared(tmp_path, *CACHED)
    nn.init.zeros_(prepared.model.get_submodule("head").weight)  # type: ignore[arg-type]
    with_features(prepared, make_process())
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["empty", "one bit", "no digest"])
def test_a_damaged_file_is_computed_again(tmp_path: Path, damage: str) -> None:
    cached(tmp_path)
    file = files(tmp_path)[1]
    whole = file.read_bytes()
    if damage == "no digest":
        digest_path(file).unlink()
    else:
        file.write_bytes(b"" if damage == "empty" else whole[:-1] + bytes([whole[-1] ^ 1]))
    leftover = file.with_name(f".{file.name}.killed.part")
    leftover.write_bytes(b"half")
    cached(tmp_path)
    assert file.read_bytes() == whole
    assert not leftover.exists()


def test_an_error_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: nn.Module, images: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("signs_dist.training.cached_features.compute_features", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        cached(tmp_path)
    assert [
        path.name for path in (tmp_path / "cache").iterdir() if "features" in path.name and path.suffix != ".lock"
    ] == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = make_prepared(tmp_path, *CACHED)

    def full(*arguments: Any, **more: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("signs_dist.training.cached_features.tempfile.mkstemp", full)
    with pytest.raises(UserError, match=r"(?s)no space left.*Type: data.cache=FOLDER"):
        with_features(prepared, make_process())


def test_the_picture_of_training_images_shows_images(tmp_path: Path) -> None:
    stepper = Stepper(cached(tmp_path), make_process())
    batch, images, _ = stepper.first_images(4)
    assert batch.images.shape == images.shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("augment.backend=none",), "needs a backbone that does not change. Set model.freeze=backbone"),
        (("model.freeze=backbone",), "augmentation would have no effect. Set augment.backend=none"),
        (
            ("model.freeze=backbone", "augment.backend=none", "evaluate.flip_average=true"),
            "keeps the features of one view",
        ),
        (("model.freeze=backbone", "augment.backend=none", "evaluate.ten_crop=true"), "keeps the features of one view"),
        (("model.freeze=backbone", "augment.backend=none", "augment.mixup=0.2"), "no features of mixed images"),
        (
            ("model.freeze=backbone", "augment.backend=none", "train.progressive_sizes=[[0.5, 0.5]]"),
            r"images of one size. Set train.progressive_sizes=\[\]",
        ),
        (("model.freeze=backbone", "augment.backend=none", "data.storage=device"), "Set data.storage=packed, or model"),
        (("model.freeze=backbone", "model.thaw_after_epochs=2"), "a backbone that does not change"),
    ],
)
def test_settings_that_change_the_features_of_an_image_are_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(None, ["model.cache_features=true", *settings])


def test_processes_with_other_features_are_refused() -> None:
    require_same_features(["a", "a", "a"], Path("data/cache"))
    with pytest.raises(
        UserError, match=r"the features of rank 1, 3 differ from those of rank 0.*data.cache=data/cache"
    ):
        require_same_features(["a", "b", "a", "c"], Path("data/cache"))


def test_features_are_loaded_without_workers(tmp_path: Path) -> None:
    stepper = Stepper(cached(tmp_path, "data.storage=files", "data.num_workers=2"), make_process())
    loaders = [stepper.train_loader, *stepper.evaluation_loaders.values()]
    assert all(isinstance(loader, EvaluationLoader) for loader in loaders[1:])
    assert [loader._settings.num_workers for loader in loaders] == [0, 0, 0]
