from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import create_model
from signs_dist.models import torchvision_models as subject
from signs_dist.models.on_meta import EmptyOnMeta
from signs_dist.models.trainable import head_names


def build(name: str, num_classes: int = 6, image_size: int = 64, **values: Any) -> nn.Module:
    config = ModelConfig(name=f"torchvision:{name}", **values)
    return create_model(config, num_classes=num_classes, image_size=image_size)


@pytest.mark.slow
def test_every_classifier_gets_a_head_for_our_classes() -> None:
    """All of torchvision's names, without allocating their weights."""
    assert len(subject.names()) >= 80
    for name in subject.names():
        with EmptyOnMeta():
            model = subject._construct(name, num_classes=6, image_size=224, args={}).to("meta").eval()
        assert model(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 6), name
        head = model.get_submodule(head_names(model)[0])
        assert isinstance(head, nn.Linear | nn.Conv2d), name
        assert head.weight.shape[0] == 6, name


def test_the_empty_build_is_the_real_one_without_its_numbers() -> None:
    with EmptyOnMeta():
        empty = subject._construct("regnet_x_400mf", num_classes=6, image_size=64, args={})
    real = build("regnet_x_400mf")
    shapes = [{key: tensor.shape for key, tensor in model.state_dict().items()} for model in (empty, real)]
    assert shapes[0] == shapes[1]
    assert all(parameter.is_meta for parameter in empty.parameters())


@pytest.mark.parametrize(
    "name",
    ["resnet18", "squeezenet1_1", "mobilenet_v3_small",
     *(pytest.param(name, marks=pytest.mark.slow) for name in ("densenet121", "vit_b_32", "googlenet", "swin_t"))],
)  # fmt: skip
def test_it_trains_a_step(name: str) -> None:
    torch.manual_seed(0)
    model = build(name).train()
    logits = model(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 6)
    nn.functional.cross_entropy(logits, torch.tensor([1, 2])).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_seed_alone_fixes_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial on empty weights does not move torch's generator, even where a network draws numbers for itself."""
    construct = subject._construct

    def drawing(*args: Any) -> nn.Module:
        torch.rand(1)
        return construct(*args)

    monkeypatch.setattr(subject, "_construct", drawing)
    torch.manual_seed(3)
    ours = build("squeezenet1_1")
    torch.manual_seed(3)
    torch.rand(1)
    theirs = torchvision.models.squeezenet1_1(num_classes=6)
    assert all(torch.equal(tensor, theirs.state_dict()[key]) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("name", "image_size", "end"),
    [
        ("inception_v3", 64, "Smallest legal size: 75."),
        ("alexnet", 32, "Smallest legal size: 63."),
        ("vit_b_16", 70, "Nearest legal sizes: 64 and 80."),
        ("vit_h_14", 64, "Nearest legal sizes: 56 and 70."),
    ],
)
def test_an_image_size_that_does_not_suit_gets_the_nearest_that_does(name: str, image_size: int, end: str) -> None:
    with pytest.raises(UserError) as caught:
        build(name, image_size=image_size)
    message = str(caught.value)
    assert message.startswith(f"data.image_size={image_size} does not suit torchvision:{name} (")
    assert message.endswith(end)


def test_arguments_reach_the_network_and_wrong_ones_are_named() -> None:
    assert build("mobilenet_v3_small", args={"dropout": 0.5}).get_submodule("classifier.2").p == 0.5
    with pytest.raises(UserError, match=r"model.args.drop is not an argument of .*alexnet. .* takes dropout=0.5."):
        build("alexnet", args={"drop": 0.5})
    with pytest.raises(UserError, match=r"torchvision:resnet18 cannot be built with .*'groups': 3.: BasicBlock"):
        build("resnet18", args={"groups": 3})


def test_a_wrong_weights_name_gets_the_legal_ones() -> None:
    with pytest.raises(UserError) as caught:
        build("resnet50", weights="IMAGENET")
    assert "Legal: a local file, IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT." in str(caught.value)


def test_a_failed_download_says_what_to_fetch_and_where_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*_: Any, **__: Any) -> None:
        raise URLError("Network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", no_network)
    with pytest.raises(UserError) as caught:
        build("squeezenet1_1", weights="DEFAULT")
    message = str(caught.value)
    assert "https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth" in message
    assert f"{tmp_path}/hub/checkpoints/squeezenet1_1-b8a52dc0.pth" in message
    assert "model.weights=FILE" in message


def downloaded_as(monkeypatch: pytest.MonkeyPatch, state: dict[str, torch.Tensor]) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)


def test_imagenet_weights_fill_all_but_the_head(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published = torchvision.models.squeezenet1_1().state_dict()
    downloaded_as(monkeypatch, published)
    model = build("squeezenet1_1", weights="IMAGENET1K_V1")
    own = model.state_dict()
    shared = [key for key in own if not key.startswith("classifier.1.")]
    assert len(shared) == len(own) - 2
    assert all(torch.equal(own[key], published[key]) for key in shared)
    assert own["classifier.1.weight"].shape[0] == 6
    assert "IMAGENET1K_V1 has 1000 classes, the data has 6: the head (classifier.1) is not loaded" in caplog.text


@pytest.mark.slow
def test_published_files_in_older_forms_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Auxiliary heads (GoogLeNet), older names (DenseNet), another image size (vision transformers)."""
    with_aux = torchvision.models.googlenet(aux_logits=True, init_weights=False).state_dict()
    downloaded_as(monkeypatch, with_aux)
    model = build("googlenet", weights="DEFAULT")
    assert torch.equal(model.state_dict()["conv1.conv.weight"], with_aux["conv1.conv.weight"])

    dense = torchvision.models.densenet121().state_dict()
    older = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key): value for key, value in dense.items()}
    assert older.keys() != dense.keys()
    older = {key: value for key, value in older.items() if not key.endswith("num_batches_tracked")}
    downloaded_as(monkeypatch, older)
    key = "features.denseblock1.denselayer1.norm1.weight"
    assert torch.equal(build("densenet121", weights="DEFAULT").state_dict()[key], dense[key])

    transformer = torchvision.models.vit_b_32().state_dict()  # for 224 pixels: 7 x 7 patches and the class token
    downloaded_as(monkeypatch, transformer)
    model = build("vit_b_32", weights="DEFAULT")
    assert transformer["encoder.pos_embedding"].shape == (1, 50, 768)
    assert model.state_dict()["encoder.pos_embedding"].shape == (1, 5, 768)
    assert torch.equal(model.state_dict()["class_token"], transformer["class_token"])
