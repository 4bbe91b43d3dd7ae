from __future__ import annotations

import logging
import socket
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import create_model, timm_models
from signs_dist.models.trainable import head_names
from tests.models.test_trial import fault_of

timm = pytest.importorskip("timm")


def build(name: str, num_classes: int = 6, image_size: int = 64, **values: Any) -> nn.Module:
    config = ModelConfig(name=f"timm:{name}", **values)
    return create_model(config, num_classes=num_classes, image_size=image_size)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("test_resnet", ("fc",)),
        ("test_vit", ("head",)),
        ("test_convnext", ("head.fc",)),
        ("test_efficientnet", ("classifier",)),
        pytest.param("deit_tiny_distilled_patch16_224", ("head", "head_dist"), marks=pytest.mark.slow),
    ],
)
def test_networks_get_a_head_for_our_classes_and_freezing_leaves_it_trainable(name: str, heads: tuple[str]) -> None:
    model = build(name, freeze="backbone")
    assert head_names(model) == heads
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable == {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 6)


def test_the_seed_alone_fixes_the_weights() -> None:
    torch.manual_seed(3)
    ours = build("test_vit")
    torch.manual_seed(3)
    theirs = timm.create_model("test_vit", num_classes=6, img_size=64)
    assert all(torch.equal(tensor, theirs.state_dict()[key]) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("name", "image_size", "end"),
    [
        ("test_vit", 70, "Nearest legal sizes: 64 and 80."),
        ("test_vit", 12, "Nearest legal size: 16."),
        pytest.param("vit_tiny_r_s16_p8_224", 50, "Nearest legal size", marks=pytest.mark.slow),
    ],
)
def test_an_image_size_that_does_not_suit_gets_the_nearest_that_does(name: str, image_size: int, end: str) -> None:
    with pytest.raises(UserError) as caught:
        build(name, image_size=image_size)
    assert str(caught.value).startswith(f"data.image_size={image_size} does not suit timm:{name} (")
    assert end in str(caught.value)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "test_vit",
            {"depht": 3},
            r"model.args.depht is not an argument of timm:test_vit. timm:test_vit takes .*drop_",
        ),
        ("test_vit", {"img_size": 32}, "model.args.img_size is not an argument"),
        ("test_vit", {"pretrained": True}, "model.args.pretrained is not an argument"),
        ("test_vit", {"num_heads": 7}, "timm:test_vit cannot be built with model.args={'num_heads': 7}: "),
        ("test_maxvit", {"features_only": True}, "model.args.features_only is not an argument"),
    ],
)
def test_wrong_arguments_are_named(name: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, args=args)


def test_arguments_reach_the_network() -> None:
    assert build("test_resnet", args={"drop_rate": 0.25}).drop_rate == 0.25  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:vit_tiny_patch16_223", "Did you mean timm:vit_tiny_patch16_224 or "),
        ("timm:resnet18.a1_in1k", "type model.name=timm:resnet18 model.weights=a1_in1k. "),
        ("timm:qqqqqqqq", "timm:NAME (such as timm:vit_tiny_patch16_224)"),
    ],
)
def test_a_wrong_name_gets_the_nearest(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        create_model(ModelConfig(name=name), num_classes=6, image_size=64)
    assert f"model.name={name} is not a network." in str(caught.value)
    assert message in str(caught.value)


def test_without_timm_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        UserError, match=r"^model.name=timm:resnet18 needs timm, which is not installed. Type: pip inst"
    ):
        build("resnet18")


def test_a_wrong_weights_name_gets_the_legal_ones() -> None:
    with pytest.raises(UserError) as caught:
        build("test_vit", weights="IMAGENET")
    assert "is neither a file nor weights of timm:test_vit. Legal: a local file, r160_in1k, DEFAULT." in str(
        caught.value
    )


@pytest.mark.parametrize("weights", ["DEFAULT", "r160_in1k"])
def test_a_failed_download_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        build("test_vit", weights=weights)
    message = str(caught.value)
    assert message.startswith(f"downloading the weights {weights} of timm:test_vit failed: ")
    assert "Download the file model.safetensors of https://huggingface.co/timm/test_vit.r160_in1k on a" in message
    assert message.endswith("and type model.weights=FILE.")


def test_without_a_network_a_download_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    asked = []

    def look_up(host: str, *_: object) -> None:
        asked.append(host)
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(UserError, match=r"failed: .*type model.weights=FILE"):
        build("test_vit", weights="DEFAULT")
    assert asked == ["huggingface.co"]  # once, and not for each file again and again
    assert constants.HF_HUB_OFFLINE is False


def test_behind_a_proxy_the_download_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://proxy:3128"})
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert timm_models._is_host_known("https://huggingface.co")


def test_published_weights_fill_all_but_the_head(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = timm.create_model
    published = real("test_vit", img_size=64)
    asked = []

    def create(name: str, pretrained: bool = False, **values: Any) -> nn.Module:
        asked.append((name, pretrained, values))
        return published if pretrained else real(name, **values)

    monkeypatch.setattr(timm, "create_model", create)
    model = build("test_vit", weights="DEFAULT")
    assert ("test_vit.r160_in1k", True, {"img_size": 64}) in asked
    own, given = model.state_dict(), published.state_dict()
    assert all(torch.equal(own[key], given[key]) for key in own if not key.startswith("head."))
    assert "DEFAULT has 1000 classes, the data has 6: the head (head) is not loaded" in caplog.text


def test_a_file_for_another_image_size_gets_its_positions_fitted(tmp_path: Path) -> None:
    larger = timm.create_model("test_vit", num_classes=6, img_size=160)
    torch.save(larger.state_dict(), tmp_path / "vit.pth")
    model = build("test_vit", weights=str(tmp_path / "vit.pth"))
    assert larger.state_dict()["pos_embed"].shape[1] > model.state_dict()["pos_embed"].shape[1]
    assert torch.equal(model.state_dict()["cls_token"], larger.state_dict()["cls_token"])


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_networks_of_timm_are_accepted_in_exact_mode(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    torch.manual_seed(0)
    model = create_model(ModelConfig(name=f"timm:{name}"), num_classes=3, image_size=32)
    assert fault_of(model, side=32, num_images=2) == ""
