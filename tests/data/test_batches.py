from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from signs_dist.data.batches import Batch, FileBatches, PackedBatches, Transform, build_transform
from signs_dist.data.file_crops import FileCrop
from signs_dist.data.folder import ImageIndex, index_split
from signs_dist.data.images import BadImageError
from signs_dist.data.packed import PackedSplit, open_packed
from signs_dist.data.plan import BatchKey
from signs_dist.errors import UserError
from tests.data.photo_files import photo
from tests.sets import write_colour_set

pytestmark = [
    # Python 3.12 and later warn of any fork in a process with threads; torch's loader forks.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    # More workers than cores are meant here.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]

RANDOM: list[dict[str, dict[str, Any]]] = [
    {"RandomHorizontalFlip": {"p": 0.5}},
    {"RandomRotation": {"degrees": 30}},
    {"ColorJitter": {"brightness": 0.5, "contrast": 0.5, "hue": 0.2}},
    {"RandomErasing": {"value": "random", "p": 0.5}},
]


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    return index_split(write_colour_set(tmp_path / "photos", counts={"train": 4}), "train")


def packed(index: ImageIndex, transform: Transform | None = None, seed: int = 0) -> PackedBatches:
    cache = index.root.parent / "cache"
    return PackedBatches(open_packed(index, 16, cache, num_threads=1), transform, seed)


def keys(epoch: int, *groups: list[int]) -> list[BatchKey]:
    return [BatchKey(epoch, step, np.array(samples)) for step, samples in enumerate(groups)]


def test_a_batch_is_what_it_says(index: ImageIndex) -> None:
    batch = packed(index)[BatchKey(7, 2, np.array([11, 0, 5]))]
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.tolist() == [2, 0, 1]
    assert batch.labels.dtype == torch.int64
    assert batch.samples.tolist() == [11, 0, 5]
    assert (batch.epoch, batch.step) == (7, 2)
    # The colours of classes 2, 0 and 1 (see tests/sets.py): the strongest channel gives them away.
    assert batch.images.float().mean(dim=(2, 3)).argmax(1).tolist() == [2, 0, 1]


def test_files_and_packed_give_the_same(index: ImageIndex) -> None:
    [key] = keys(0, [3, 1, 4, 1, 5])
    for one, other in ((packed(index), FileBatches(index, 16)), (packed(index), packed(index))):
        assert all(np.array_equal(a, b) for a, b in zip(one[key], other[key], strict=True))
        assert len(one) == len(other) == 12


def test_writing_into_a_batch_does_not_change_the_next(index: ImageIndex) -> None:
    data, [key] = packed(index), keys(0, [1, 2])
    before = data[key].images.clone()
    data[key].images.zero_()
    data[key].labels.zero_()
    assert torch.equal(data[key].images, before)
    assert data[key].labels.tolist() == [0, 0]
    assert data.split.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def fetched(data: PackedBatches | FileBatches, epoch: int, groups: list[list[int]], num_workers: int) -> Tensor:
    """All images of an epoch, by sample number."""
    sampler: Any = keys(epoch, *groups)
    loader: DataLoader[Batch] = DataLoader(
        data, sampler=sampler, batch_size=None, num_workers=num_workers, collate_fn=lambda batch: batch
    )
    batches = list(loader)
    return torch.cat([batch.images for batch in batches])[torch.cat([batch.samples for batch in batches]).argsort()]


def test_a_samples_transform_does_not_depend_on_workers_batches_or_storage(index: ImageIndex) -> None:
    transform = build_transform(RANDOM, 16)
    pairs, alone = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]], [[n] for n in range(11, -1, -1)]
    data = packed(index, transform, seed=1)
    expected = fetched(data, 3, pairs, 0)
    for num_workers, groups in ((1, pairs), (3, pairs), (0, alone), (3, [list(range(12))])):
        assert torch.equal(fetched(data, 3, groups, num_workers), expected), (num_workers, groups)
    assert torch.equal(fetched(FileBatches(index, 16, transform, seed=1), 3, alone, 0), expected)


def test_a_transform_differs_by_sample_epoch_and_seed(index: ImageIndex) -> None:
    transform = build_transform([{"RandomErasing": {"value": "random", "p": 1.0}}], 16)
    results = [
        packed(index, transform, seed)[BatchKey(epoch, 0, np.array([sample, sample + 4]))].images.flatten().tolist()
        for seed, epoch, sample in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (0, 0, 1))
    ]
    assert len({tuple(result) for result in results}) == 4


def test_a_transform_leaves_the_global_random_numbers_alone(index: ImageIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    data = packed(index, build_transform(RANDOM, 16))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def refuse(seed: int) -> None:
        raise AssertionError("this also seeds the GPUs, whose generators are not set back")

    monkeypatch.setattr(torch, "manual_seed", refuse)
    _ = data[keys(0, [0, 1])[0]]
    assert torch.equal(torch.rand(3), expected)


def test_a_photo_that_breaks_after_indexing_is_named(index: ImageIndex) -> None:
    (index.root / index.paths[5]).write_bytes(b"")
    data = FileBatches(index, 16)
    with pytest.raises(BadImageError, match=r"1_IMG_0001\.jpg: the file has 0 bytes"):
        _ = data[keys(0, [4, 5])[0]]
    assert data[keys(0, [4, 6])[0]].labels.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"RandomRotatoin": {"degrees": 3}}, r"RandomRotatoin is not in .*v2. Did you mean RandomRotation\?"),
        ({"Image": {}}, "Image is not in"),
        ({"InterpolationMode": {"value": "bilinear"}}, "InterpolationMode is not in"),
        ({"Zzzzzz": {}}, r"Zzzzzz is not in torchvision.transforms.v2.$"),
        ({"RandomRotation": {"degree": 3}}, r"has no argument degree; it has: degrees, .* Did you mean degrees\?"),
        ({"RandomRotation": {}}, "missing 1 required positional argument: 'degrees'"),
        ({"RandomHorizontalFlip": {"p": 2}}, "RandomHorizontalFlip.*p"),
        ({"ColorJitter": {"brightness": "much"}}, "ColorJitter.*brightness=much should be a single number"),
        ({"LinearTransformation": {"transformation_matrix": 1, "mean_vector": 2}}, "has no attribute 'size'"),
        ({"Normalize": {"mean": [0.5], "std": [0.5]}}, "cannot be applied to an image: .*float tensor"),
        ({"RandomCrop": {"size": 8}}, r"must end in an image of \[3, 16, 16\], not \[3, 8, 8\]"),
        ({"Grayscale": {}}, r"must end in an image of \[3, 16, 16\], not \[1, 16, 16\]"),
        ({"ToPILImage": {}}, r"must end in an image of \[3, 16, 16\], not Image"),
        # Grows three images in ten: a single trial would mostly miss it.
        ({"RandomZoomOut": {"p": 0.3, "side_range": [2, 2]}}, r"must end in an image .*not \[3, 32, 32\]"),
    ],
)
def test_wrong_transforms_are_refused(entry: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match="augment.transforms.*" + message):
        build_transform([entry], 16)


def test_a_transform_that_changes_the_size_once_in_a_blue_moon_is_named_when_it_does(index: ImageIndex) -> None:
    def grow(image: Tensor) -> Tensor:
        return image if torch.rand(()) < 0.5 else image.repeat(1, 2, 1)

    with pytest.raises(UserError, match=r"must end in an image of \[3, 16, 16\], not \[3, 32, 16\]"):
        _ = packed(index, grow)[keys(0, list(range(12)))[0]]


def test_transforms_run_in_the_order_that_is_given() -> None:
    pad_then_crop = [{"Pad": {"padding": 4, "fill": 255}}, {"CenterCrop": {"size": 8}}, {"Resize": {"size": 16}}]
    assert build_transform(pad_then_crop, 16)(torch.zeros(3, 16, 16, dtype=torch.uint8)).max() == 0
    crop_then_pad = [{"CenterCrop": {"size": 8}}, {"Pad": {"padding": 4, "fill": 255}}]
    assert build_transform(crop_then_pad, 16)(torch.zeros(3, 16, 16, dtype=torch.uint8)).max() == 255


@pytest.mark.parametrize(
    "entry",
    [
        {"RandAugment": {"num_ops": 3, "magnitude": 15}},
        {"TrivialAugmentWide": {}},
        {"RandomErasing": {"p": 0.5, "value": "random"}},
        {"RandomResizedCrop": {"size": 16, "scale": [0.08, 1.0]}},
        {"AugMix": {}},
    ],
    ids=lambda entry: next(iter(entry)),
)
def test_torchvisions_policies_draw_by_seed_epoch_and_sample(entry: dict[str, dict[str, Any]]) -> None:
    one = np.random.default_rng(0).integers(256, size=(1, 16, 16, 3), dtype=np.uint8)
    split = PackedSplit(one.repeat(12, axis=0), np.zeros(12, np.int64), ("a",), "")  # 12 times the same photo

    def images(seed: int, epoch: int, samples: list[int]) -> Tensor:
        return PackedBatches(split, build_transform([entry], 16), seed)[BatchKey(epoch, 0, np.array(samples))].images

    whole = images(0, 0, list(range(12)))
    assert len({tuple(image.flatten().tolist()) for image in whole}) > 4
    assert torch.equal(images(0, 0, [7, 3]), whole[[7, 3]])  # in any batch, as on any process
    assert not torch.equal(images(0, 1, list(range(12))), whole)
    assert not torch.equal(images(1, 0, list(range(12))), whole)


def test_a_crop_of_a_file_is_resized_from_its_full_size_and_mirrored(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "train" / "a"
    folder.mkdir(parents=True)
    photo(1).resize((90, 60)).save(folder / "one.png")
    index = index_split(tmp_path / "photos", "train")
    crop = FileCrop((0.3, 0.6), (0.75, 1.33), flip=0.5)
    data = FileBatches(index, 16, seed=3, crop=crop)
    whole = torch.from_numpy(np.array(photo(1).resize((90, 60)))).permute(2, 0, 1)[None].float()
    mirrors = set()
    for epoch in range(8):
        [part] = crop.draw(3, epoch, np.array([0]))
        left, top, right, bottom = part.draw(90, 60)
        expected = torch.nn.functional.interpolate(
            whole[..., top:bottom, left:right], size=(16, 16), mode="bilinear", antialias=True
        )
        images = data[BatchKey(epoch, 0, np.array([0]))].images
        assert (images.float() - (expected.flip(3) if part.mirrored else expected)).abs().max() <= 1
        mirrors.add(part.mirrored)
    assert mirrors == {False, True}


def test_torch_resizes_as_pillow_does_within_a_level(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "train" / "a"
    folder.mkdir(parents=True)
    photo(2, 70).save(folder / "one.jpg")
    index = index_split(tmp_path / "photos", "train")
    pillow, vectors = (
        FileBatches(index, 32, resize=resize)[BatchKey(0, 0, np.array([0]))].images.int()
        for resize in ("pillow", "torch")
    )
    assert (pillow - vectors).abs().max() <= 1
    assert torch.equal(pillow, FileBatches(index, 32)[BatchKey(0, 0, np.array([0]))].images.int())
