"""Checkpoints: what is read, what is refused, and what the digest of weights sees."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist import checkpoint
from signs_dist.errors import UserError
from signs_dist.models.weights import read_plain, read_weights


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def test_what_is_saved_reads_back_and_in_a_bare_torch(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weights = checkpoint.plain_weights(network())
    checkpoint.save(path, weights)
    bare = torch.load(path, weights_only=True)
    loaded = read_weights(path)
    for found in (bare, loaded):
        assert list(found) == list(weights)
        assert all(torch.equal(found[name], weights[name]) for name in weights)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_a_malicious_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"model": Evil(mark)}, tmp_path / "zip.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps({"model": Evil(mark)}))
    for name in ("zip.pt", "raw.pt"):
        with pytest.raises(UserError, match=f"{name} cannot be read as a checkpoint"):
            read_plain(tmp_path / name)
    assert not mark.exists()
    pickle.loads((tmp_path / "raw.pt").read_bytes())  # noqa: S301 - it would have run
    assert mark.exists()


def test_broken_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.pt"
    checkpoint.save(good, {"model": checkpoint.plain_weights(network()), "epoch": 1})
    content = good.read_bytes()
    broken: dict[str, bytes] = {"empty": b"", "text": b"these are no weights\n" * 20, "zip": b"PK\x03\x04" + b"\0" * 99}
    broken |= {f"cut{share}": content[: len(content) * share // 10] for share in range(1, 10)}
    for name, damaged in broken.items():
        path = tmp_path / f"{name}.pt"
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"{name}.pt cannot be read as a checkpoint: ."):
            read_plain(path)
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(UserError, match=r"folder.pt cannot be read as a checkpoint"):
        read_plain(tmp_path / "folder.pt")
    with pytest.raises(UserError, match=r"nowhere.pt: no such file\."):
        read_plain(tmp_path / "nowhere.pt")


def test_damage_never_ends_in_anything_but_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    value = {"model": checkpoint.plain_weights(network()), "epoch": 1, "name": "x"}
    contents = [b"some words, 1.5, [2]; (more)\n" * 9]
    for zipped in (True, False):
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
        contents.append(path.read_bytes())
    draw = random.Random(0)
    told: set[str] = set()
    for number in range(600):
        damaged = bytearray(contents[number % 3])
        for _ in range(draw.choice([1, 4, 64])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            read_weights(path)
        except UserError as error:
            told.add(str(error).split(":")[0])
    assert told
    assert all(str(path) in message for message in told)


@pytest.mark.parametrize("value", [[1, 2], "text", 3, torch.zeros(2), None])
def test_a_file_of_something_else_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UserError, match=f"a.pt holds a {type(value).__name__}, not a checkpoint"):
        read_plain(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "value", [{"epoch": 3}, {"model": 3}, {"model": {"a": 1}}, {"ema": {"decay": 0.9}}, {"ema": {"weights": [1]}}]
)
def test_a_file_without_weights_is_refused(tmp_path: Path, value: Any) -> None:
    torch.save(value, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a.pt holds no weights: a model.pt or a file of checkpoints/ is wanted\."):
        read_weights(tmp_path / "a.pt")


def test_a_checkpoint_gives_its_average_where_it_has_one(tmp_path: Path) -> None:
    last, average = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
    checkpoint.save(tmp_path / "plain.pt", {"model": last, "ema": None})
    checkpoint.save(tmp_path / "ema.pt", {"model": last, "ema": {"weights": average, "decay": 0.9}})
    assert read_weights(tmp_path / "plain.pt")["w"].tolist() == [0, 0]
    assert read_weights(tmp_path / "ema.pt")["w"].tolist() == [1, 1]


def test_weights_of_another_model_are_refused_and_nothing_is_copied() -> None:
    model, source = network(), Path("other.pt")
    before = checkpoint.weights_sha256(model.state_dict())
    own = checkpoint.plain_weights(network())
    for weights, told in [
        (checkpoint.plain_weights(network(4)), "other shapes: 0.weight is [4, 2], the model's [3, 2]"),
        ({name: own[name] for name in own if name != "2.bias"}, "missing: 2.bias"),
        (own | {"extra": torch.zeros(1)}, "unexpected: extra"),
        ({}, "missing: 0.weight, "),
    ]:
        with pytest.raises(UserError) as caught:
            checkpoint.put_weights(model, weights, source)
        assert str(caught.value).startswith("other.pt is of another model: ")
        assert told in str(caught.value)
        assert str(caught.value).endswith("Use the config that it was trained with.")
    assert checkpoint.weights_sha256(model.state_dict()) == before
    checkpoint.put_weights(model, own, source)
    assert checkpoint.weights_sha256(model.state_dict()) == checkpoint.weights_sha256(own)


def test_the_copy_of_weights_is_a_copy() -> None:
    model = network()
    weights = checkpoint.plain_weights(model)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert not torch.equal(weights["0.weight"], model.state_dict()["0.weight"])
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_the_digest_is_over_sorted_names_dtypes_shapes_and_bytes() -> None:
    weights = {"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(1.0)}
    expected = b"a\0torch.float32\0[]\0" + b"\x00\x00\x80\x3f" + b"b\0torch.int16\0[2]\0" + b"\x01\x00\x02\x00"
    assert checkpoint.weights_sha256(weights) == hashlib.sha256(expected).hexdigest()


def test_the_digest_ignores_order_and_memory_layout() -> None:
    weights = {"conv": torch.randn(4, 3, 2, 2), "bias": torch.randn(4), "n": torch.tensor(3), "none": torch.zeros(0)}
    digest = checkpoint.weights_sha256(weights)
    assert checkpoint.weights_sha256(dict(reversed(weights.items()))) == digest
    laid_out = weights | {"conv": weights["conv"].contiguous(memory_format=torch.channels_last)}
    assert checkpoint.weights_sha256(laid_out) == digest
    assert checkpoint.weights_sha256(weights | {"bias": nn.Parameter(weights["bias"])}) == digest


def test_the_digest_sees_every_change() -> None:
    weights = {"a": torch.arange(6, dtype=torch.float32), "b": torch.zeros(2, dtype=torch.bfloat16)}
    one_bit = weights["a"].clone()
    one_bit.view(torch.int32)[3] ^= 1
    changed = {
        "bit": weights | {"a": one_bit},
        "minus zero": weights | {"b": torch.tensor([0.0, -0.0], dtype=torch.bfloat16)},
        "dtype": weights | {"b": torch.zeros(2, dtype=torch.float16)},
        "shape": weights | {"a": weights["a"].reshape(2, 3)},
        "name": {"a": weights["a"], "c": weights["b"]},
        "more": weights | {"c": torch.zeros(0)},
        "swapped": {"a": weights["b"], "b": weights["a"]},
    }
    digests = {name: checkpoint.weights_sha256(value) for name, value in changed.items()}
    assert len({checkpoint.weights_sha256(weights), *digests.values()}) == 1 + len(changed)
