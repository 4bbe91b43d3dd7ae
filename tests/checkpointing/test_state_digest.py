"""The digest of a state: a function of its numbers, whatever their layout, and changed by each bit."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from signs_dist.checkpointing.state_digest import PARTS, PassingState, parts_sha256, sha256_of_parts, state_sha256
from signs_dist.checkpointing.streamed import StreamedTensor
from signs_dist.checkpointing.tensors import save, write_to
from signs_dist.models.weights import read_plain
from tests.checkpointing.contents import make_content
from tests.checkpointing.test_streamed import streamed


def make_state() -> dict[str, Any]:
    shape = (3, 4, 2, 5)
    kernel = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    group = {"lr": 0.1, "betas": (0.9, 0.999), "foreach": None, "fused": None, "params": [0, 1]}
    state = {
        0: {"step": torch.tensor(7.0), "exp_avg": kernel / 3, "exp_avg_sq": kernel**2},
        1: {"step": torch.tensor(7.0), "exp_avg": torch.full((4,), 0.5), "exp_avg_sq": torch.ones(4)},
    }
    weights = {"conv.weight": kernel, "bn.bias": torch.zeros(4), "bn.num_batches_tracked": torch.tensor(9)}
    return make_content(
        2,
        3,
        model=weights,
        ema={"num_updates": 7, "weights": {name: each.clone() for name, each in weights.items()}},
        optimizer={"state": state, "param_groups": [group]},
    )


def turned(tensor: Tensor) -> Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def reversed_in_memory(tensor: Tensor) -> Tensor:
    order = tuple(range(tensor.dim()))[::-1]
    return tensor.permute(order).contiguous().permute(order)


def flip(tensor: Tensor, place: int = -1) -> None:
    """Flip the lowest bit of a number."""
    bytes_of = tensor.view(-1).view(torch.uint8)
    bytes_of[place * tensor.element_size()] ^= 1


def as_streamed(state: dict[str, Any], layout: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The content as a sharded run has it: average and optimizer arrive in pieces."""

    def pieces(tensor: Tensor) -> Tensor | StreamedTensor:
        if tensor.dim() == 0:
            return tensor
        laid = layout(tensor).clone(memory_format=torch.preserve_format)
        return streamed(laid, *[cut for cut in (1, 17, 58) if cut < laid.numel()])

    optimizer, average = state["optimizer"], state["ema"]
    entries = {n: {name: pieces(each) for name, each in of.items()} for n, of in optimizer["state"].items()}
    groups = [{**group, "foreach": False} for group in optimizer["param_groups"]]
    weights = {name: pieces(each) for name, each in average["weights"].items()}
    return {**state, "ema": {**average, "weights": weights}, "optimizer": {"state": entries, "param_groups": groups}}


@pytest.mark.parametrize("layout", [turned, lambda tensor: tensor, reversed_in_memory])
def test_pieces_in_any_layout_give_the_digest_of_the_whole(layout: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    state = make_state()
    expected = parts_sha256(state)
    passing = PassingState(as_streamed(state, layout))
    with (tmp_path / "a.pt").open("wb", buffering=0) as file:
        write_to(file, passing.content)
    assert passing.parts_sha256() == expected
    assert parts_sha256(read_plain(tmp_path / "a.pt")) == expected
    save(tmp_path / "b.pt", state)
    assert state_sha256(read_plain(tmp_path / "b.pt")) == sha256_of_parts(expected)


def test_pieces_that_nobody_wrote_are_taken_for_the_digest() -> None:
    state = make_state()
    passing = PassingState(as_streamed(state, turned))
    taken = iter(passing.content["ema"]["weights"]["conv.weight"].parts())
    next(taken)  # a save that failed after its first piece
    assert passing.parts_sha256() == parts_sha256(state)


def test_pieces_that_do_not_arrive_are_told() -> None:
    short = StreamedTensor((4,), (1,), torch.float32, lambda: iter([torch.zeros(3)]))
    passing = PassingState(make_content(1, ema={"num_updates": 1, "weights": {"w": short}}))
    with pytest.raises(RuntimeError, match="12 bytes arrived of a tensor of 16"):
        passing.parts_sha256()


def test_the_layout_and_the_kind_of_a_number_do_not_count() -> None:
    state = make_state()
    other = copy.deepcopy(state)
    other["model"]["conv.weight"] = turned(other["model"]["conv.weight"])
    other["model"] = dict(reversed(other["model"].items()))
    other["optimizer"]["state"][0]["step"] = 7
    other["optimizer"]["param_groups"][0] |= {"betas": [0.9, 0.999], "fused": True}
    other |= {"saved_at": 3.0, "train_seconds": 9.0, "run": {}, "best": None, "sums": None}
    assert parts_sha256(other) == parts_sha256(state)
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    assert state_sha256(torch.load(stream, weights_only=True)) == state_sha256(state)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("model", lambda state: flip(state["model"]["conv.weight"])),
        ("model", lambda state: flip(state["model"]["bn.num_batches_tracked"])),
        ("model", lambda state: state["model"].update(more=torch.zeros(1))),
        ("model", lambda state: state["model"].update({"bn.bias": torch.zeros(2, 2)})),
        ("model", lambda state: state["model"].update({"bn.bias": torch.zeros(4, dtype=torch.float64)})),
        ("model", lambda state: state["model"].update({"bn.bias": -torch.zeros(4)})),
        ("ema", lambda state: flip(state["ema"]["weights"]["bn.bias"])),
        ("ema", lambda state: state["ema"].update(num_updates=8)),
        ("ema", lambda state: state.update(ema=None)),
        ("optimizer", lambda state: flip(state["optimizer"]["state"][0]["exp_avg"])),
        ("optimizer", lambda state: flip(state["optimizer"]["state"][1]["step"])),
        ("optimizer", lambda state: state["optimizer"]["state"][1].pop("exp_avg")),
        ("optimizer", lambda state: state["optimizer"]["param_groups"][0].update(lr=0.1 + 2e-17)),
        ("optimizer", lambda state: state["optimizer"]["param_groups"][0].update(betas=(0.9, 0.99))),
        ("scaler", lambda state: state.update(scaler={"scale": 2.0})),
        ("place", lambda state: state["cursor"].update(step=2)),
        ("place", lambda state: state.update(images=state["images"] + 1)),
    ],
)
def test_each_bit_changes_the_digest_of_its_part(part: str, change: Callable[[dict[str, Any]], object]) -> None:
    state = make_state()
    before = parts_sha256(state), state_sha256(state)
    change(state)
    now = parts_sha256(state)
    assert [name for name in PARTS if now[name] != before[0][name]] == [part]
    assert state_sha256(state) != before[1]


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        state_sha256(make_content(1, scaler={"scale": b"3"}))
