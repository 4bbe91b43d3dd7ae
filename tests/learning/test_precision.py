"""Which arithmetic a device gets, as a table."""

from __future__ import annotations

import pytest
import torch

from signs_dist.errors import UserError
from signs_dist.learning.precision import Capability, choose_precision, find_capability

NEW_GPU, OLD_GPU = Capability("cuda", has_bfloat16=True), Capability("cuda", has_bfloat16=False)
NEW_CPU, OLD_CPU = Capability("cpu", has_bfloat16=True), Capability("cpu", has_bfloat16=False)


@pytest.mark.parametrize(
    ("requested", "capability", "expected"),
    [
        ("auto", NEW_CPU, "bfloat16"),
        ("auto", OLD_CPU, "float32"),
        ("auto", NEW_GPU, "bfloat16"),
        ("auto", OLD_GPU, "float16"),
        ("float32", NEW_CPU, "float32"),
        ("float32", NEW_GPU, "float32"),
        ("bfloat16", NEW_CPU, "bfloat16"),
        ("bfloat16", OLD_CPU, "bfloat16"),  # imitated, slowly; the same numbers
        ("bfloat16", NEW_GPU, "bfloat16"),
        ("float16", NEW_GPU, "float16"),
        ("float16", OLD_GPU, "float16"),
    ],
)
def test_precision_by_device(requested: str, capability: Capability, expected: str) -> None:
    precision = choose_precision(requested, capability)
    assert (precision.name, precision.device_type) == (expected, capability.device_type)


@pytest.mark.parametrize(
    ("requested", "capability", "told"),
    [
        ("float16", NEW_CPU, "train.precision=float16 needs a GPU. Type train.precision=auto, bfloat16 or float32."),
        (
            "bfloat16",
            OLD_GPU,
            "train.precision=bfloat16: this GPU has no bfloat16 arithmetic. Type train.precision=auto.",
        ),
    ],
)
def test_what_a_device_cannot_is_refused(requested: str, capability: Capability, told: str) -> None:
    with pytest.raises(UserError) as caught:
        choose_precision(requested, capability)
    assert str(caught.value) == told


@pytest.mark.parametrize(("requested", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_computes_in_it(requested: str, dtype: torch.dtype) -> None:
    precision = choose_precision(requested, NEW_CPU)
    with precision.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == dtype
    assert not precision.scaler().is_enabled()


@pytest.mark.parametrize(("major", "has_bfloat16"), [(7, False), (8, True), (9, True)])
def test_gpus_by_compute_capability(monkeypatch: pytest.MonkeyPatch, major: int, has_bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 5))
    assert find_capability(torch.device("cuda", 0)) == Capability("cuda", has_bfloat16)


@pytest.mark.parametrize(
    ("reported", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True, "avx512_bf16": False}, False)],
)
def test_cpus_by_their_instructions(monkeypatch: pytest.MonkeyPatch, reported: dict[str, bool], expected: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: reported, raising=False)
    assert find_capability(torch.device("cpu")) == Capability("cpu", expected)
