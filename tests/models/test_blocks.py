from __future__ import annotations

import pytest
from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.models import create_model
from signs_dist.models.blocks import block_names, depth_by_parameter


def build(name: str, image_size: int = 64) -> nn.Module:
    return create_model(ModelConfig(name=name), num_classes=6, image_size=image_size)


RESNET = ["conv1", *(f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)), "fc"]
FAST = ["stem.0", "block1.0", "block2.0.0", "block2.1.0", "block3.0.0", "block3.1.0", "head"]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("torchvision:resnet18", RESNET),
        ("torchvision:vgg11", [*(f"features.{n}" for n in (0, 3, 6, 8, 11, 13, 16, 18)),
                               *(f"classifier.{n}" for n in (0, 3, 6))]),
        ("signs_fast", FAST),
        ("mlp", ["1", "3", "5"]),
    ],
)  # fmt: skip
def test_the_blocks_of_a_network(name: str, blocks: list[str]) -> None:
    assert block_names(build(name)) == blocks


class Wrapped(nn.Module):
    """A transformer's layers within an encoder, as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(nn.Linear(1, 8).weight[None])
        self.patches = nn.Conv2d(3, 8, 4)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleDict({f"layer_{n}": nn.TransformerEncoderLayer(8, 2, 16) for n in range(3)})
        self.encoder.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 2)


def test_the_layers_of_an_encoder_are_blocks_and_norms_belong_to_the_block_before() -> None:
    model = Wrapped()
    assert block_names(model) == ["patches", *(f"encoder.layers.layer_{n}" for n in range(3)), "head"]
    depths = depth_by_parameter(model)
    assert list(depths) == [name for name, _ in model.named_parameters()]
    names = ("token", "patches.bias", "encoder.layers.layer_0.norm1.weight", "encoder.norm.weight", "head.weight")
    assert [depths[name] for name in names] == [0, 0, 1, 3, 4]


def test_the_depths_of_a_resnet() -> None:
    depths = depth_by_parameter(build("torchvision:resnet18"))
    names = ("conv1.weight", "bn1.bias", "layer1.0.conv1.weight", "layer2.0.downsample.1.bias", "fc.weight")
    assert [depths[name] for name in names] == [0, 0, 1, 3, 9]


def test_networks_of_timm_say_their_depths_themselves() -> None:
    pytest.importorskip("timm")
    depths = depth_by_parameter(build("timm:test_vit"))
    blocks = sorted({name.split(".")[1] for name in depths if name.startswith("blocks.")}, key=int)
    names = ("pos_embed", "patch_embed.proj.weight", *(f"blocks.{n}.attn.qkv.weight" for n in blocks), "head.weight")
    assert [depths[name] for name in names] == [0, 0, *range(1, len(blocks) + 1), len(blocks) + 1]
