"""Tensors on disk: what is read, what is refused, and what the hash of weights covers."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from signs_dist.checkpointing import tensors as saved
from signs_dist.errors import UserError
from signs_dist.learning.weight_average import WeightAverage
from signs_dist.models.weights import read_plain, read_weights


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 2))


def test_a_saved_file_reads_back_with_plain_torch(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    weights = saved.plain_weights(network())
    saved.save(path, weights)
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
    saved.save(good, {"model": saved.plain_weights(network()), "epoch": 1})
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


def test_every_damage_ends_in_a_message(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    value = {"model": saved.plain_weights(network()), "epoch": 1, "name": "x"}
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
    with pytest.raises(UserError, match=r"a.pt holds no weights\. Give a model.pt or a file of checkpoints/\."):
        read_weights(tmp_path / "a.pt")


def test_a_checkpoint_gives_its_average_where_it_has_one(tmp_path: Path) -> None:
    last, average = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
    saved.save(tmp_path / "plain.pt", {"model": last, "ema": None})
    saved.save(tmp_path / "ema.pt", {"model": last, "ema": {"weights": average, "decay": 0.9}})
    assert read_weights(tmp_path / "plain.pt")["w"].tolist() == [0, 0]
    assert read_weights(tmp_path / "ema.pt")["w"].tolist() == [1, 1]


def test_weights_of_another_model_are_refused_and_nothing_is_copied() -> None:
    model, source = network(), Path("other.pt")
    before = saved.weights_sha256(model.state_dict())
    own = saved.plain_weights(network())
    for weights, told in [
        (saved.plain_weights(network(4)), "other shapes: 0.weight is [4, 2], the model's [3, 2]"),
        ({name: own[name] for name in own if name != "2.bias"}, "missing: 2.bias"),
        (own | {"extra": torch.zeros(1)}, "unexpected: extra"),
        ({}, "missing: 0.weight, "),
    ]:
        with pytest.raises(UserError) as caught:
            saved.put_weights(model, weights, source)
        assert str(caught.value).startswith("other.pt holds the weights of another model: ")
        assert told in str(caught.value)
        assert str(caught.value).endswith("Use the config that it was trained with.")
    assert saved.weights_sha256(model.state_dict()) == before
    saved.put_weights(model, own, source)
    assert saved.weights_sha256(model.state_dict()) == saved.weights_sha256(own)


def test_the_copy_of_weights_is_a_copy() -> None:
    model = network()
    weights = saved.plain_weights(model)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert not torch.equal(weights["0.weight"], model.state_dict()["0.weight"])
    assert not any(tensor.requires_grad for tensor in weights.values())


def test_the_digest_is_over_sorted_names_dtypes_shapes_and_bytes() -> None:
    weights = {"b": torch.tensor([1, 2], dtype=torch.int16), "a": torch.tensor(1.0)}
    expected = b"a\0torch.float32\0[]\0" + b"\x00\x00\x80\x3f" + b"b\0torch.int16\0[2]\0" + b"\x01\x00\x02\x00"
    assert saved.weights_sha256(weights) == hashlib.sha256(expected).hexdigest()


def test_the_digest_ignores_order_and_memory_layout() -> None:
    weights = {"conv": torch.randn(4, 3, 2, 2), "bias": torch.randn(4), "n": torch.tensor(3), "none": torch.zeros(0)}
    digest = saved.weights_sha256(weights)
    assert saved.weights_sha256(dict(reversed(weights.items()))) == digest
    laid_out = weights | {"conv": weights["conv"].contiguous(memory_format=torch.channels_last)}
    assert saved.weights_sha256(laid_out) == digest
    assert saved.weights_sha256(weights | {"bias": nn.Parameter(weights["bias"])}) == digest


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
    digests = {name: saved.weights_sha256(value) for name, value in changed.items()}
    assert len({saved.weights_sha256(weights), *digests.values()}) == 1 + len(changed)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_an_optimizer_resumes_bit_for_bit_in_every_memory_layout(tmp_path: Path, kind: str, fused: bool) -> None:
    settings: dict[str, Any] = {"lr": 0.1, "fused": fused} | ({"momentum": 0.9} if kind == "SGD" else {})

    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model, getattr(torch.optim, kind)(model.parameters(), **settings)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
        torch.manual_seed(number)
        images = torch.randn(2, 3, 9, 9).to(memory_format=torch.channels_last)
        optimizer.zero_grad()
        model(images).square().sum().backward()
        optimizer.step()

    model, optimizer = build()
    for number in range(3):
        step(model, optimizer, number)
    content = {"model": saved.plain_weights(model), "optimizer": saved.Copier().copy(optimizer.state_dict())}
    saved.save(tmp_path / "c.pt", content)
    other, other_optimizer = build()
    read = read_plain(tmp_path / "c.pt")
    saved.put_weights(other, read["model"], tmp_path / "c.pt")
    saved.put_optimizer(other_optimizer, read["optimizer"], tmp_path / "c.pt")
    for number in range(3, 6):
        step(model, optimizer, number)
        step(other, other_optimizer, number)
    assert saved.weights_sha256(other.state_dict()) == saved.weights_sha256(model.state_dict())


def test_an_optimizer_keeps_its_own_settings_and_takes_the_rate() -> None:
    model = network()
    before = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    now = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=True)
    saved.put_optimizer(now, before.state_dict(), Path("c.pt"))
    assert now.param_groups[0]["lr"] == 0.3
    assert now.param_groups[0]["foreach"] is True


def test_an_optimizer_of_another_model_is_refused() -> None:
    before = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.3)
    now = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(UserError, match=r"c\.pt holds an optimizer of other parameters"):
        saved.put_optimizer(now, before.state_dict(), Path("c.pt"))


def test_entries_of_a_file_that_share_memory_are_taken_apart() -> None:
    model = network()
    before = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before.step()
    crafted = before.state_dict()
    count = crafted["state"][0]["step"]
    for state in crafted["state"].values():
        state["step"] = count
    now = torch.optim.Adam(model.parameters())
    saved.put_optimizer(now, crafted, Path("c.pt"))
    now.step()
    assert {float(state["step"]) for state in now.state.values()} == {2.0}


def test_a_copy_shares_nothing_with_what_trains_on() -> None:
    tensor = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    copier = saved.Copier()
    copy = copier.copy({"a": [tensor, (1, tensor)], "b": "text"})
    tensor.zero_()
    assert copy["a"][0].is_contiguous()
    assert copy["a"][0].sum() == copy["a"][1][1].sum() == 120
    assert (copy["a"][1][0], copy["b"]) == (1, "text")
    # The next copy takes the same memory, where it fits.
    again = copier.copy({"a": [tensor, (2, torch.ones(3))], "b": tensor})
    assert again["a"][0].data_ptr() == copy["a"][0].data_ptr()
    assert again["a"][0].sum() == 0
    assert torch.equal(again["a"][1][1], torch.ones(3))
    assert again["b"].data_ptr() != again["a"][0].data_ptr()


def test_writing_hashes_the_bytes_and_reports_quarters(tmp_path: Path) -> None:
    value = {"w": torch.arange(3_000_000), "v": torch.ones(5), "text": "ü"}
    places = []
    with (tmp_path / "c.pt").open("wb", buffering=0) as file:
        written = saved.write_to(file, value, lambda number: places.append((number, file.tell())))
    data = (tmp_path / "c.pt").read_bytes()
    assert written == saved.Written(len(data), hashlib.sha256(data).hexdigest())
    assert [number for number, _ in places] == [1, 2, 3, 4]
    assert all(place >= len(data) * number / 4 - 1000 for number, place in places)
    read = torch.load(tmp_path / "c.pt", weights_only=True)
    assert torch.equal(read["w"], value["w"])  # type: ignore[arg-type]
    assert read["text"] == "ü"


def test_the_first_error_of_the_disk_comes_through_with_the_bytes_needed(tmp_path: Path) -> None:
    value = {"w": torch.arange(3_000_000)}

    class Full(io.RawIOBase):
        num_bytes = 0

        def write(self, data: Any) -> int:
            self.num_bytes += len(data)
            if self.num_bytes > 5_000_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return len(data)

    with pytest.raises(OSError, match="No space left") as caught:
        saved.write_to(Full(), value)
    saved.save(tmp_path / "c.pt", value)
    assert vars(caught.value)["num_bytes"] == (tmp_path / "c.pt").stat().st_size


@pytest.fixture(scope="module")
def _one_process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled_in_part(model: nn.Module) -> nn.Module:
    return nn.Sequential(torch.compile(model[0]), *model[1:])  # type: ignore[index, arg-type]


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda model: model,
    "dp": nn.DataParallel,
    "ddp": nn.parallel.DistributedDataParallel,
    "compiled": torch.compile,  # type: ignore[dict-item]
    "compiled ddp": lambda model: torch.compile(nn.parallel.DistributedDataParallel(model)),  # type: ignore[return-value]
    "ddp of compiled": lambda model: nn.parallel.DistributedDataParallel(torch.compile(model)),  # type: ignore[arg-type]
    "compiled in part": compiled_in_part,
}


@pytest.mark.usefixtures("_one_process_group")
@pytest.mark.parametrize("before", WRAPPERS)
@pytest.mark.parametrize("now", WRAPPERS)
def test_weights_saved_under_one_wrapper_load_under_every_other(tmp_path: Path, before: str, now: str) -> None:
    torch.manual_seed(1)
    plain = network()
    torch.manual_seed(2)
    other = network()
    saved_model, average = WRAPPERS[before](plain), WeightAverage(WRAPPERS[before](plain), 0.9)
    content = {"model": saved.plain_weights(saved_model), "ema": saved.Copier().copy(average.state_dict())}
    saved.save(tmp_path / "c.pt", content)
    read = torch.load(tmp_path / "c.pt", weights_only=True)
    assert list(read["model"]) == list(read["ema"]["weights"]) == list(plain.state_dict())
    wrapped = WRAPPERS[now](other)
    saved.put_weights(wrapped, read["model"], tmp_path / "c.pt")
    assert saved.weights_sha256(other.state_dict()) == saved.weights_sha256(plain.state_dict())
    their_average = WeightAverage(wrapped, 0.9)
    their_average.load_state_dict(read["ema"])
    assert saved.weights_sha256(their_average.weights()) == saved.weights_sha256(plain.state_dict())
    del read["model"]["0.weight"]
    with pytest.raises(UserError, match=r"another model: missing: 0\.weight"):  # strictly
        saved.put_weights(wrapped, read["model"], tmp_path / "c.pt")


def test_the_digest_of_a_network_is_that_of_its_state_dict_whatever_wraps_it() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    expected = saved.weights_sha256(network.state_dict())
    assert saved.weights_sha256(network) == expected
    assert saved.weights_sha256(nn.DataParallel(network, [])) == expected
    with torch.no_grad():
        network[0].bias[1] += 1  # type: ignore[index, operator]
    assert saved.weights_sha256(network) != expected
