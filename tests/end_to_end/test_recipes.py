"""The recipes of configs/, on the real photos where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.config.reading import load_config
from signs_dist.config.settings import AugmentConfig
from signs_dist.console.command import run_command
from signs_dist.models import create_model
from signs_dist.models.trainable import count_parameters
from signs_dist.train import main as train
from tests.conftest import REPOSITORY
from tests.sets import write_colour_set

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


def run(recipe: str, root: Path, tmp_path: Path, *more: str) -> dict[str, Any]:
    config = REPOSITORY / "configs" / f"{recipe}.yaml"
    places = ["--run-dir", str(tmp_path / "run"), f"data.root={root}", f"data.cache={tmp_path / 'cache'}"]
    assert run_command(train, ["--config", str(config), *places, *more]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.stem))
def test_every_recipe_can_be_read(config: Path) -> None:
    assert load_config(config).train.epochs >= 1


def test_cs230_is_the_published_recipe_to_the_letter() -> None:
    config = load_config(REPOSITORY / "configs" / "cs230.yaml")
    assert (config.optim.name, config.optim.lr, config.optim.weight_decay) == ("adam", 1e-3, 0)
    assert (config.train.global_batch, config.train.epochs, config.schedule.name) == (32, 10, "constant")
    assert (config.model.name, config.model.args) == ("signs_net", {"channels": 32, "dropout": 0.8})
    assert (config.data.mean, config.data.std, config.data.image_size) == ((0, 0, 0), (1, 1, 1), 64)
    nothing_else = dict.fromkeys(("rotate_degrees", "shift", "scale", "brightness", "contrast", "cutout"), 0)
    assert config.augment == AugmentConfig(flip=0.5, **nothing_else)  # all others are off by default
    assert (config.loss.name, config.loss.label_smoothing, config.ema.decay) == ("cross_entropy", 0, None)
    assert not config.evaluate.flip_average
    # 3·32·9+32 + 32·64·9+64 + 64·128·9+128 in convolutions, 2·(32+64+128) in their norms,
    # 8192·128+128 and 2·128 and 128·6+6 in the head.
    assert count_parameters(create_model(config.model, num_classes=6, image_size=64))[0] == 1_143_430


@pytest.mark.slow
def test_the_signs_recipe_reads_real_photos_after_a_few_epochs(real_photos: Path, tmp_path: Path) -> None:
    result = run("signs", real_photos, tmp_path, "train.epochs=12")
    assert result["split_sizes"] == {"train": 864, "val": 216}
    # Half of its epochs: 94 to 98 %. The bar of 99 % for all of them is for benchmarks/recipe_curve.py.
    assert result["val_accuracy"] > 0.85


@pytest.mark.slow
def test_the_published_recipe_runs_on_real_photos(real_photos: Path, tmp_path: Path) -> None:
    result = run("cs230", real_photos, tmp_path, "train.epochs=2", "train.num_threads=1")
    assert result["precision"] == "float32"
    assert result["num_parameters"] == 1_143_430
    assert result["val_accuracy"] > 1 / 6


def test_the_tutorial_recipe_learns(real_photos: Path, tmp_path: Path) -> None:
    assert run("tutorial", real_photos, tmp_path, "train.epochs=5")["val_accuracy"] > 0.3


def write_weights(path: Path, name: str) -> Path:
    """A file in the layout of the network's library, for 1,000 classes, with one number in each tensor."""
    library, _, architecture = name.partition(":")
    with torch.device("meta"):
        if library == "timm":
            import timm

            state = timm.create_model(architecture).state_dict()
        else:
            import torchvision

            state = torchvision.models.get_model(architecture).state_dict()
    torch.save({key: torch.full((), 0.01, dtype=value.dtype).expand(value.shape) for key, value in state.items()}, path)
    return path


def make_vgg_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision build VGG with the same layers and names, but few channels: each file has 537 MB less."""
    import torchvision

    vgg = torchvision.models.vgg

    class Narrow(vgg.VGG):
        def __init__(self, features: nn.Module, num_classes: int = 1000, dropout: float = 0.5, **others: Any) -> None:
            nn.Module.__init__(self)
            self.features = features
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            first, second, head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, num_classes)
            between = [nn.ReLU(True), nn.Dropout(dropout)]
            self.classifier = nn.Sequential(first, *between, second, *between, head)

    monkeypatch.setattr(vgg, "VGG", Narrow)
    monkeypatch.setitem(vgg.cfgs, "D", [8 if isinstance(width, int) else width for width in vgg.cfgs["D"]])


@pytest.mark.parametrize(
    ("recipe", "head"),
    [
        ("finetune", "fc"),
        ("finetune_resnet18", "fc"),
        ("finetune_vgg16", "classifier.6"),
        pytest.param("finetune_vit", "head", marks=pytest.mark.slow),
    ],
)
def test_finetuning_starts_from_a_file_of_weights_and_replaces_the_head(
    tmp_path: Path, recipe: str, head: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_vgg_narrow(monkeypatch)
    config = load_config(REPOSITORY / "configs" / f"{recipe}.yaml")
    if config.model.name.startswith("timm:"):
        pytest.importorskip("timm")
    weights = write_weights(tmp_path / "weights.pth", config.model.name)
    photos = write_colour_set(tmp_path / "photos", counts={"train": 4, "val": 2})
    short = ["schedule.warmup_epochs=0", "train.epoch_steps=1", "train.global_batch=8", "data.image_size=32"]
    thaw = ["model.thaw_after_epochs=1"] if config.model.thaw_after_epochs is not None else []
    num_epochs = 2 if thaw else 1
    result = run(recipe, photos, tmp_path, f"model.weights={weights}", f"train.epochs={num_epochs}", *short, *thaw)
    assert result["steps"] == num_epochs
    assert f"has 1000 classes, the data has 3: the head ({head}) is not loaded" in caplog.text
    trained = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    first = next(tensor for name, tensor in trained.items() if name.endswith("weight"))
    is_frozen = config.model.freeze == "backbone" and not thaw
    assert bool((first == 0.01).all()) == is_frozen
