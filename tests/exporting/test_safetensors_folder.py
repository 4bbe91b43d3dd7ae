"""The weights alone, and the lines that load them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from signs_dist.config.settings import ModelConfig
from signs_dist.exporting.safetensors_folder import classify_lines, load_lines, packages, use_lines, write
from signs_dist.inference.export_files import find_export
from signs_dist.inference.export_record import ExportRecord, Preprocessing, read_record
from signs_dist.inference.exported_model import read_exported_model
from signs_dist.models import create_model
from tests.inference.exports import make_record


def record_of(network: str, **args: object) -> ExportRecord:
    outside = Preprocessing(image_size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), is_inside=False)
    return make_record(format="safetensors", network=network, network_args=args, preprocessing=outside)


@pytest.mark.parametrize(
    ("network", "args", "lines"),
    [
        (
            "torchvision:resnet18",
            {},
            [
                "import safetensors.torch, torch, torchvision",
                'network = torchvision.models.get_model("resnet18", weights=None, num_classes=3).eval()',
                'network.load_state_dict(safetensors.torch.load_file("model.safetensors"))',
            ],
        ),
        (
            "torchvision:vit_b_16",
            {"dropout": 0.1},
            [
                "import safetensors.torch, torch, torchvision",
                'network = torchvision.models.get_model("vit_b_16", weights=None, num_classes=3, image_size=32, '
                "dropout=0.1).eval()",
                'network.load_state_dict(safetensors.torch.load_file("model.safetensors"))',
            ],
        ),
        (
            "timm:resnet18",
            {},
            [
                "import timm, timm.data, torch",
                'network = timm.create_model("local-dir:.", pretrained=True).eval()',
                "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))",
            ],
        ),
    ],
)
def test_the_lines_that_load_it(tmp_path: Path, network: str, args: dict[str, object], lines: list[str]) -> None:
    record = record_of(network, **args)
    assert load_lines(record, tmp_path) == lines
    compile("\n".join([*lines, *use_lines(record), *classify_lines(record)]), "lines", "exec")
    assert packages(record)[0] == "torch"


def test_a_network_of_torchvision_is_read_back(tmp_path: Path) -> None:
    record = record_of("torchvision:squeezenet1_1")
    network = create_model(ModelConfig(name=record.network), num_classes=3, image_size=32).eval()
    write(tmp_path, network, record)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "config.json"}
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert read_record(file.metadata()["signs_dist"], "model.safetensors") == record
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["label_names"]) == (record.network, ["zero", "one", "two"])
    place = find_export(tmp_path)
    assert place is not None
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)))
    with torch.inference_mode():
        expected = network((images / 255 - mean) / std)
    torch.testing.assert_close(read_exported_model(place, torch.device("cpu"))(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_fixed"), [("resnet10t", False), ("test_vit", True)])
def test_a_network_of_timm_has_the_form_of_its_hub(
    tmp_path: Path, name: str, is_fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm
    import timm.data
    from torchvision.transforms import Resize

    record = record_of(f"timm:{name}")
    network = create_model(ModelConfig(name=record.network), num_classes=3, image_size=32).eval()
    write(tmp_path, network, record)
    monkeypatch.chdir(tmp_path)
    loaded = timm.create_model("local-dir:.", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(images), network(images))
    assert loaded.pretrained_cfg["fixed_input_size"] == is_fixed
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(loaded))
    assert next(step.size for step in transform.transforms if isinstance(step, Resize)) == (32, 32)
    place = find_export(tmp_path)
    assert place is not None
    assert read_exported_model(place, torch.device("cpu")).classes == ("zero", "one", "two")
