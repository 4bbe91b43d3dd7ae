from __future__ import annotations

import copy
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.config.settings import ModelConfig
from signs_dist.errors import UserError
from signs_dist.models import create_model


def build(num_classes: int = 6, name: str = "signs_net", **values: Any) -> nn.Module:
    config = ModelConfig(name=name, **values)
    return create_model(config, num_classes=num_classes, image_size=32)


@pytest.fixture
def trained() -> dict[str, Tensor]:
    """State dict of a signs_net for six classes that no fresh one equals."""
    torch.manual_seed(99)
    return {name: tensor + 1 for name, tensor in build().state_dict().items()}


def differing(model: nn.Module, state: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])]


PREFIXES = ("module.", "_orig_mod.", "module._orig_mod.", "model.", "backbone.", "module.model.backbone.")
KEYS = ("state_dict", "model", "model_state_dict", "net")


@pytest.mark.parametrize("form", ["plain", *PREFIXES, *KEYS])
def test_a_file_fills_the_model(tmp_path: Path, trained: dict[str, Tensor], form: str) -> None:
    content: Any = trained
    if form.endswith("."):
        content = {form + name: tensor for name, tensor in trained.items()}
    elif form != "plain":
        content = {form: trained, "epoch": 3}
    torch.save(content, tmp_path / "some weights.pt")
    model = build(weights=str(tmp_path / "some weights.pt"))
    assert differing(model, trained) == []


def test_a_file_for_other_classes_leaves_the_head_fresh_and_says_so(
    tmp_path: Path, trained: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.pt"
    torch.save(trained, path)
    model = build(num_classes=4, weights=str(path))
    assert differing(model, {**trained, **{f"head.{key}": torch.zeros(1) for key in ("weight", "bias")}}) == [
        "head.weight",
        "head.bias",
    ]
    assert caplog.messages == [
        f"{path} has 6 classes, the data has 4: the head (head) is not loaded and trains from new weights."
    ]


def test_the_average_of_the_weights_is_read_before_the_weights(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    other = {name: tensor + 1 for name, tensor in trained.items()}
    torch.save({"state_dict": other, "state_dict_ema": trained}, tmp_path / "model.pt")
    assert differing(build(weights=str(tmp_path / "model.pt")), trained) == []


def test_a_safetensors_file_fills_the_model(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({f"model.{name}": tensor for name, tensor in trained.items()}, tmp_path / "a.safetensors")
    assert differing(build(weights=str(tmp_path / "a.safetensors")), trained) == []


def test_without_safetensors_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(
        UserError, match=r"needs safetensors, which is not installed. Type: pip install 'signs_dist\[sa"
    ):
        build(weights=str(path))


def test_a_file_without_a_head_leaves_the_head_fresh_and_says_so(
    tmp_path: Path, trained: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.pt"
    torch.save({name: tensor for name, tensor in trained.items() if not name.startswith("head.")}, path)
    model = build(weights=str(path))
    assert differing(model, {**trained, "head.weight": torch.zeros(1), "head.bias": torch.zeros(1)}) == [
        "head.weight",
        "head.bias",
    ]
    assert caplog.messages == [f"{path} has no head for this network: the head (head) trains from new weights."]


def test_what_lies_beside_the_network_in_a_file_is_listed(
    tmp_path: Path, trained: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.pt"
    content = {f"model.{name}": tensor for name, tensor in trained.items()}
    torch.save({"state_dict": {**content, "loss.scale": torch.ones(1)}, "epoch": 3}, path)
    assert differing(build(weights=str(path)), trained) == []
    assert caplog.messages == [f"{path} also holds what this network has not: loss.scale."]


def test_the_same_classes_keep_the_head_and_say_nothing(
    tmp_path: Path, trained: dict[str, Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(trained, tmp_path / "model.pt")
    build(weights=str(tmp_path / "model.pt"))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), "missing: conv1.weight."),
        (lambda state: state.update(extra=torch.zeros(2)), "unexpected: extra."),
        (lambda state: state.update({"conv1.bias": torch.zeros(7)}),
         "other shapes: conv1.bias is [7], the model's [32]."),
        (lambda state: [state.pop(name) for name in list(state) if name.startswith("conv")],
         "missing: conv1.weight, conv1.bias, conv2.weight and 3 more."),
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_model_is_refused(
    tmp_path: Path, trained: dict[str, Tensor], change: Any, message: str
) -> None:
    state = copy.copy(trained)
    change(state)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(UserError) as caught:
        build(weights=str(tmp_path / "model.pt"))
    assert "is a checkpoint of another model. " + message in str(caught.value)


def test_one_network_s_weights_do_not_fit_another(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    torch.save(trained, tmp_path / "model.pt")
    with pytest.raises(UserError, match="is a checkpoint of another model"):
        build(name="mlp", weights=str(tmp_path / "model.pt"))


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("code in the file ran",))


def write_torn(path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.write_bytes(b""), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b"not a checkpoint"), "cannot be read as a checkpoint"),
        (write_torn, "cannot be read as a checkpoint"),
        (lambda path: path.mkdir(), "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(pickle.dumps(Harmful(), protocol=2)), "cannot be read as a checkpoint"),
        (lambda path: torch.save([1, 2], path), "holds a list, not a checkpoint"),
        (lambda path: torch.save({"accuracy": 0.9}, path), "holds no weights"),
        (lambda path: torch.save({}, path), "holds no weights"),
    ],
)
def test_a_file_that_is_no_state_dict(
    tmp_path: Path, write: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(UserError) as caught:
        build(weights=str(path))
    assert f"model.weights={path}" in str(caught.value)
    assert message in str(caught.value)
    assert capsys.readouterr().out == ""


def quantized() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of these tensors
        return torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.quint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update({"module.conv1.bias": torch.zeros(32)}), "both conv1.bias and module.conv1.bias"),
        (lambda state: state.update({"_orig_mod.conv1.bias": torch.zeros(32)}), "both conv1.bias and _orig_mod.conv1."),
        (lambda state: state.update({"conv1.bias": torch.zeros(32).to_sparse()}),
         "conv1.bias is not a dense tensor (sparse_coo)"),
        (lambda state: state.update({"conv1.weight": torch.zeros(32, 27).to_sparse_csr()}), "is not a dense tensor"),
        (lambda state: state.update({"conv1.bias": torch.nested.nested_tensor([torch.zeros(2)], layout=torch.jagged)}),
         "conv1.bias is nested"),
        (lambda state: state.update({"conv1.bias": torch.zeros(32, device="meta")}),
         "conv1.bias is on the meta device, without values"),
        (lambda state: state.update({"conv1.bias": quantized()}), "conv1.bias is quantized"),
        (lambda state: state.update({"conv1.bias": torch.zeros(32, dtype=torch.int64)}),
         "other types: conv1.bias is int64, the model's float32."),
        (lambda state: state.update({"conv1.bias": torch.zeros(32, dtype=torch.bool)}), "conv1.bias is bool"),
        (lambda state: state.update({"conv1.bias": torch.zeros(32, dtype=torch.complex64)}), "conv1.bias is complex64"),
        (lambda state: state.update({"head.bias": torch.zeros(())}), "other shapes: head.bias is [], the model's [6]"),
        (lambda state: state.update({"head.weight": torch.zeros(6, 3)}), "other shapes: head.weight is [6, 3]"),
        (lambda state: state.update({"conv1.bias": torch.zeros(1).expand(2**40)}), "other shapes: conv1.bias is [1099"),
        (lambda state: state.update({"conv1.bias": "x"}), "holds no weights"),
        (lambda state: state.update({7: torch.zeros(1)}), "holds no weights"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
def test_weights_that_would_be_read_as_others_are_refused(
    tmp_path: Path, trained: dict[str, Tensor], change: Any, message: str
) -> None:
    change(trained)
    torch.save(trained, tmp_path / "model.pt")
    with pytest.raises(UserError) as refused:
        build(weights=str(tmp_path / "model.pt"))
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"model.weights={tmp_path / 'model.pt'}")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_weights_are_converted(tmp_path: Path, trained: dict[str, Tensor], dtype: torch.dtype) -> None:
    torch.save({name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in trained.items()},
               tmp_path / "model.pt")  # fmt: skip
    model = build(weights=str(tmp_path / "model.pt"))
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in model.state_dict().values())


def test_the_weights_of_a_layout_with_gaps_are_read(tmp_path: Path, trained: dict[str, Tensor]) -> None:
    wide = {name: torch.stack([tensor, tensor + 1], dim=-1)[..., 0] for name, tensor in trained.items()}
    torch.save(wide, tmp_path / "model.pt")
    assert differing(build(weights=str(tmp_path / "model.pt")), trained) == []
