"""Networks through torch.compile: names, buffers, gradients, and compilers that fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.compiling import Mode, compile_network, require_one_pass, try_compiled


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(144, 5)]
    return nn.Sequential(*layers)


def test_without_a_mode_nothing_is_compiled() -> None:
    assert compile_network(network(), False) is None


@pytest.mark.parametrize(
    ("mode", "name"), [(True, "default"), ("default", "default"), ("max-autotune", "max-autotune")]
)
def test_the_mode_is_torch_s(mode: bool | Mode, name: str) -> None:
    asked: list[dict[str, Any]] = []
    model = network()

    def compiler(given: nn.Module, **options: Any) -> nn.Module:
        assert given is model
        asked.append(options)
        return given

    assert (compile_network(model, mode, compiler) is model) == (name == "default")
    assert asked == [{"mode": name, "dynamic": False}]


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_logits_of_the_compilers_own_graphs_are_copies(mode: Mode) -> None:
    """A replay overwrites them, and hits of several steps are counted together."""
    memory = torch.zeros(2, 5, requires_grad=True)
    compute = compile_network(network(), mode, lambda model, **options: lambda images: memory)
    assert compute is not None
    logits = compute(torch.zeros(2, 3, 8, 8))
    with torch.no_grad():
        memory.fill_(7)
    assert logits.tolist() == [[0] * 5] * 2
    assert logits.requires_grad


def test_several_micro_batches_are_refused_where_the_compiler_makes_graphs() -> None:
    with pytest.raises(UserError, match=r"of 4 micro-batches. Type train.compile=default, or a larger train.micro"):
        require_one_pass("reduce-overhead", "cuda", 4)
    require_one_pass("reduce-overhead", "cuda", 1)
    require_one_pass("reduce-overhead", "cpu", 4)
    require_one_pass(True, "cuda", 4)


def test_a_trial_of_the_compiler_leaves_no_trace() -> None:
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    seen: list[bool] = []

    def compute(images: Tensor) -> Tensor:
        seen.append(model.training)
        logits: Tensor = model(images)
        return logits

    try_compiled(model, compute, torch.ones(2, 3, 8, 8), True)
    assert seen == [True]
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mode", [True, "max-autotune"])
def test_a_compiler_that_fails_is_told_in_one_line(mode: bool | Mode) -> None:
    def compute(images: Tensor) -> Tensor:
        raise RuntimeError("backend='inductor' raised:\nInvalidCxxCompiler: No working C++ compiler found\n")

    typed = "true" if mode is True else mode
    with pytest.raises(UserError) as raised:
        try_compiled(network(), compute, torch.ones(2, 3, 8, 8), mode)
    assert str(raised.value) == (
        f"train.compile={typed}: torch.compile fails for this network on this machine: backend='inductor' raised: "
        "InvalidCxxCompiler: No working C++ compiler found. Type train.compile=false"
    )


def test_an_unfinished_file_of_an_earlier_compilation_is_told_with_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/tmp/kernels of me")

    def compute(images: Tensor) -> Tensor:
        raise ImportError("/tmp/kernels of me/wq/kernel.main.so: file too short")

    with pytest.raises(UserError) as raised:
        try_compiled(network(), compute, torch.ones(2, 3, 8, 8), True)
    assert str(raised.value).endswith(
        "/tmp/kernels of me/wq/kernel.main.so: file too short. Type train.compile=false. Or remove /tmp/kernels of me, "
        "where a compilation that was cut short may have left it"
    )
