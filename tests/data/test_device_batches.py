from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from signs_dist.config.settings import DataConfig
from signs_dist.data import device_batches
from signs_dist.data.batches import Batch, PackedBatches
from signs_dist.data.device_batches import (
    DeviceBatches,
    bytes_that_fit,
    describe_bytes,
    find_free_bytes,
    require_room_on_device,
)
from signs_dist.data.folder import index_split
from signs_dist.data.loader import EvaluationLoader, TrainLoader, choose_loader_settings
from signs_dist.data.packed import PackedSplit, open_packed
from signs_dist.data.plan import BatchKey, EpochPlan, Shard
from signs_dist.errors import UserError
from tests.sets import write_colour_set

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)
HERE = choose_loader_settings(DataConfig(storage="device"), usable_cores=8, on_gpu=True, per_sample_work=False)


@pytest.fixture
def split(tmp_path: Path) -> PackedSplit:
    index = index_split(write_colour_set(tmp_path / "photos", counts={"train": 7}), "train")
    return open_packed(index, 16, tmp_path / "cache", num_threads=1)


def same(one: Batch, other: Batch) -> bool:
    tensors = ((one.images, other.images), (one.labels, other.labels), (one.samples, other.samples))
    return one[3:] == other[3:] and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("samples", [[11, 0, 5], [3, 3, 20], [4]])
def test_a_batch_has_the_bits_and_the_memory_order_of_a_packed_one(split: PackedSplit, samples: list[int]) -> None:
    key = BatchKey(7, 2, np.array(samples, np.int64))
    found, expected = DeviceBatches(split, CPU)[key], PackedBatches(split)[key]
    assert same(found, expected)
    assert found.images.stride() == expected.images.stride()
    assert len(DeviceBatches(split, CPU)) == len(split.labels) == 21


def test_pixels_are_copied_piece_by_piece(split: PackedSplit, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = DeviceBatches(split, CPU).pixels
    for piece_bytes in (1, 3 * 16 * 16 * 4, 10**9):  # 1 image, 4 images and a rest, all
        monkeypatch.setattr(device_batches, "_PIECE_BYTES", piece_bytes)
        assert torch.equal(DeviceBatches(split, CPU).pixels, whole)
    assert whole.numpy().tobytes() == split.pixels.tobytes()


def test_writing_into_a_batch_does_not_change_the_next(split: PackedSplit) -> None:
    data, key = DeviceBatches(split, CPU), BatchKey(0, 0, np.array([1, 2]))
    before = data[key].images.clone()
    data[key].images.zero_()
    data[key].labels.fill_(2)
    assert torch.equal(data[key].images, before)
    assert data[key].labels.tolist() == [0, 0]


def test_the_pack_is_read_once(split: PackedSplit) -> None:
    data, key = DeviceBatches(split, CPU), BatchKey(0, 0, np.array([1, 2]))
    expected = data[key].images.clone()
    file = Path(split.pixels.filename)  # type: ignore[attr-defined]
    file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(data[key].images, expected)


def test_the_plan_decides_what_a_loader_gives(split: PackedSplit) -> None:
    plan, shards = EpochPlan(21, 6, seed=4, micro_batch=2), [Shard(index, 2) for index in range(2)]
    for shard in shards:
        loaders = [TrainLoader(data, plan, shard, HERE) for data in (DeviceBatches(split, CPU), PackedBatches(split))]
        for found, expected in zip(*(loader.epoch(3, 1) for loader in loaders), strict=True):
            assert same(found, expected)
        loaders = [
            EvaluationLoader(data, 21, 4, shard, HERE) for data in (DeviceBatches(split, CPU), PackedBatches(split))
        ]
        for found, expected in zip(*loaders, strict=True):
            assert same(found, expected)


def test_nothing_is_left_to_workers_and_page_locked_memory() -> None:
    assert (HERE.num_workers, HERE.pin_memory) == (0, False)
    assert HERE.timeout_seconds == DataConfig().timeout_seconds


@pytest.mark.parametrize(
    ("num_images", "side", "device", "free_bytes", "num_sharing", "told"),
    [
        (1080, 64, GPU, 10**10, 1, ""),
        (1080, 64, GPU, 2 * 1080 * 3 * 64 * 64, 1, ""),
        (1080, 64, GPU, None, 1, ""),
        (1080, 64, CPU, 4 * 1080 * 3 * 64 * 64, 2, ""),
        (
            *(1080, 64, GPU, 2 * 1080 * 3 * 64 * 64 - 2, 1),
            "data.storage=device needs 13 MB for 1,080 images of 64 x 64. 27 MB are free on cuda:1, of which images "
            "may take 13 MB: the rest is kept for weights and activations. Type data.storage=packed, or a smaller "
            "data.image_size.",
        ),
        (
            *(1_281_167, 224, GPU, 79 * 10**9, 1),
            "data.storage=device needs 193 GB for 1,281,167 images of 224 x 224. 79.0 GB are free on cuda:1, of which "
            "images may take 39.5 GB: ",
        ),
        (
            *(1_281_167, 64, CPU, 30 * 10**9, 4),
            "data.storage=device needs 15.7 GB in each of 4 processes for 1,281,167 images of 64 x 64. 30.0 GB are "
            "free in the memory of this machine, of which images may take 15.0 GB: ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_type(
    num_images: int, side: int, device: torch.device, free_bytes: int | None, num_sharing: int, told: str
) -> None:
    def require() -> None:
        require_room_on_device(num_images, side, device, free_bytes, num_sharing=num_sharing)

    if not told:
        require()
        return
    with pytest.raises(UserError, match=f"^{re.escape(told)}"):
        require()


def test_free_memory_of_the_machine(tmp_path: Path) -> None:
    found = find_free_bytes(CPU)
    assert found is None or found > 2**20
    meminfo = tmp_path / "meminfo"
    assert device_batches._read_available(meminfo) is None
    meminfo.write_text("MemTotal:       16316412 kB\nMemFree:          123 kB\nMemAvailable:    2000 kB\n")
    assert device_batches._read_available(meminfo) == 2_048_000
    meminfo.write_text("MemTotal:       16316412 kB\n")
    assert device_batches._read_available(meminfo) is None


@pytest.mark.parametrize(
    ("device", "free_bytes", "expected"),
    [(GPU, 10**10, 13_271_040), (GPU, 2 * 13_271_040, 13_271_040), (GPU, 10**7, None), (CPU, 10**10, None)],
)
def test_what_fits_on_a_gpu(
    device: torch.device, free_bytes: int, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_batches, "find_free_bytes", lambda device: free_bytes)
    assert bytes_that_fit(1080, 64, device) == expected


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0.0 MB"), (1_230_000, "1.2 MB"), (9_960_000, "10 MB"), (13_271_040, "13 MB"), (99_960_000_000, "100 GB")],
)
def test_bytes_in_words(num_bytes: int, text: str) -> None:
    assert describe_bytes(num_bytes) == text


def test_on_a_gpu_only_the_numbers_cross_from_page_locked_memory(
    split: PackedSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, crossings = DeviceBatches(split, CPU), []
    data.device = GPU

    def recorded(name: str) -> Callable[..., Tensor]:
        def act(tensor: Tensor, *arguments: object, **options: object) -> Tensor:
            crossings.append((name, tensor.dtype, tensor.numel(), *arguments, options))
            return tensor

        return act

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "pin_memory", recorded("pin"))
        patch.setattr(Tensor, "to", recorded("to"))
        data[BatchKey(0, 0, np.array([1, 2, 9]))]
    assert crossings == [
        ("pin", torch.int64, 3, {}),
        ("to", torch.int64, 3, GPU, {"non_blocking": True}),
    ]
