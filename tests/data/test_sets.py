from __future__ import annotations

import functools
import hashlib
import pickle
import re
import shutil
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from signs_dist.config.settings import AugmentConfig, DataConfig
from signs_dist.data import sets
from signs_dist.data.batches import Batch, FileBatches, PackedBatches
from signs_dist.data.folder import ImageIndex, index_split
from signs_dist.data.images import BadImageError
from signs_dist.data.kept_listing import KeptListings
from signs_dist.data.packed import cache_key
from signs_dist.data.plan import BatchKey
from signs_dist.data.sets import DEFAULT_ROOT, choose_data_roots, choose_resize, open_data_set, open_split
from signs_dist.errors import UserError
from tests.data.shards.tars import samples, write_tar
from tests.sets import write_colour_set


class Reports(list[tuple[str, int, int]]):
    """Remembers what was reported."""

    def __call__(self, what: str, done: int, total: int) -> None:
        self.append((what, done, total))


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data/64x64_SIGNS and data/cache are relative to the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """In place of drawing hands: what was asked to be drawn."""
    calls: list[dict[str, Any]] = []

    def default_root(image_size: int, counts: Mapping[str, int], seed: int) -> Path:
        return tmp_path / f"drawn-{image_size}-{counts['train']}-{seed}"

    def write_synthetic_set(
        root: Path,
        *,
        image_size: int,
        counts: Mapping[str, int],
        seed: int,
        num_processes: int,
        on_progress: Callable[[int, int], None],
    ) -> None:
        calls.append({"image_size": image_size, "counts": dict(counts), "seed": seed, "num_processes": num_processes})
        if not root.exists():
            write_colour_set(root, counts={"train": 2, "val": 1, "test": 1})
            on_progress(12, 12)

    fake: Any = types.ModuleType("signs_dist.data.synthetic")
    fake.default_root, fake.write_synthetic_set = default_root, write_synthetic_set
    monkeypatch.setitem(sys.modules, "signs_dist.data.synthetic", fake)
    return calls


def refuse_to_draw(*_: object, **__: object) -> Path:
    raise AssertionError("photos were there, and yet hands are drawn")


@pytest.mark.parametrize(
    ("given", "default_exists", "roots"),
    [
        (None, False, ()),
        (None, True, (DEFAULT_ROOT,)),
        ("photos", False, (Path("photos"),)),
        ("photos", True, (Path("photos"),)),
        ("missing", True, (Path("missing"),)),
        ("~/photos", True, (Path.home() / "photos",)),
        ("~nobody-of-that-name/photos", True, (Path("~nobody-of-that-name/photos"),)),
        (("a", "~/b"), True, (Path("a"), Path.home() / "b")),
    ],
)
def test_which_folders_are_read(
    given: str | tuple[str, ...] | None, default_exists: bool, roots: tuple[Path, ...]
) -> None:
    assert choose_data_roots(given, default_exists=default_exists) == roots


def test_without_photos_the_drawn_set_is_used_and_named_synthetic(drawn: list[dict[str, Any]]) -> None:
    config = DataConfig.model_validate({"image_size": 32, "synthetic": {"train": 20, "val": 5, "test": 6, "seed": 3}})
    reports = Reports()
    data = open_data_set(config, num_processes=2, report=reports)
    assert (data.name, data.classes) == ("synthetic", ("0", "1", "2"))
    assert {name: len(index) for name, index in data.splits.items()} == {"train": 6, "val": 3, "test": 3}
    counts = {"train": 20, "val": 5, "test": 6}
    assert drawn == [{"image_size": 32, "counts": counts, "seed": 3, "num_processes": 2}]
    assert reports == [("drawing synthetic hands", 12, 12)]


def test_the_default_photos_are_used_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "prepare_synthetic", refuse_to_draw)
    write_colour_set(DEFAULT_ROOT, counts={"train": 2, "val": 1})
    data = open_data_set(DataConfig(), num_processes=1, report=Reports())
    assert data.name == "data/64x64_SIGNS"
    assert list(data.splits) == ["train", "val"]


@pytest.mark.parametrize("kind", ["missing", "empty", "a file"])
def test_a_folder_that_is_given_is_never_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.setattr(sets, "prepare_synthetic", refuse_to_draw)
    write_colour_set(DEFAULT_ROOT, counts={"train": 2, "val": 1})
    given = tmp_path / "my photos"
    if kind == "empty":
        given.mkdir()
    if kind == "a file":
        given.touch()
    with pytest.raises(UserError, match=str(given)):
        open_data_set(DataConfig(root=str(given)), num_processes=1, report=Reports())


def test_given_photos_go_before_the_default(tmp_path: Path) -> None:
    write_colour_set(DEFAULT_ROOT, counts={"train": 2, "val": 1})
    write_colour_set(tmp_path / "mine", counts={"train": 3, "val": 1}, num_classes=2)
    data = open_data_set(DataConfig(root="mine"), num_processes=1, report=Reports())
    assert (data.name, len(data.splits["train"])) == ("mine", 6)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"synthetic": {"train": 40}}, "data.synthetic is read where hands are drawn, and data/64x64_SIGNS exists"),
        ({"columns": {"label": "kind"}}, "data.columns.label is a column of a table, and data/64x64_SIGNS has none"),
        ({"root": "tars", "columns": {"path": "file"}}, "data.columns.path is a column of a table, and tars has none"),
        (
            {"root": "tars", "label_pattern": "(.)"},
            "tars holds tar shards, whose members tell it. Delete data.label_pat",
        ),
        ({"root": "tars", "split": [0.8, 0.2]}, "data.split divides images that are not split, and tars has"),
    ],
)
def test_settings_that_these_data_do_not_need_are_refused(settings: dict[str, Any], told: str) -> None:
    write_colour_set(DEFAULT_ROOT, counts={"train": 2, "val": 1})
    for split in ("train", "val"):
        write_tar(Path(f"tars/{split}-0.tar"), samples(("a", 0), ("b", 1)))
    with pytest.raises(UserError, match=re.escape(told)):
        open_data_set(DataConfig.model_validate(settings), num_processes=1, report=Reports())


def test_settings_of_a_division_are_refused_where_hands_are_drawn() -> None:
    with pytest.raises(UserError, match=r"data.split divides images that are not split, and the drawn set has"):
        open_data_set(DataConfig(split=(0.8, 0.2)), num_processes=1, report=Reports())


def a_split(name: str) -> ImageIndex:
    root = Path(name)
    return index_split(root if root.exists() else write_colour_set(root, counts={"train": 3}), "train")


def opened(index: ImageIndex, **settings: Any) -> tuple[Dataset[Batch], str]:
    return open_split(index, DataConfig(image_size=16, **settings), num_threads=1, report=Reports())


def test_a_split_is_packed_into_the_cache_and_reported() -> None:
    index, reports = a_split("photos"), Reports()
    config = DataConfig(image_size=16, cache="elsewhere/cache")
    source, _ = open_split(index, config, num_threads=2, report=reports)
    assert isinstance(source, PackedBatches)
    assert reports[-1] == ("packing train images", 9, 9)
    assert any(Path("elsewhere/cache").glob("train-16-*/pixels.npy"))


def test_storage_files_packs_nothing_and_gives_the_same_batch() -> None:
    index = a_split("photos")
    source, _ = opened(index, storage="files")
    assert isinstance(source, FileBatches)
    assert not Path("data").exists()
    key = BatchKey(0, 0, np.array([8, 0]))
    assert torch.equal(source[key].images, opened(index)[0][key].images)


@pytest.mark.parametrize(
    ("wanted", "exact", "chosen"),
    [
        ("auto", True, "pillow"),
        ("auto", False, "torch"),
        *((wanted, exact, wanted) for wanted in ("pillow", "torch") for exact in (True, False)),
    ],
)
def test_who_resizes_the_images_of_files(wanted: Any, exact: bool, chosen: str) -> None:
    assert choose_resize(wanted, exact=exact) == chosen
    config = DataConfig(image_size=8, storage="files", resize=wanted)
    source, _ = open_split(a_split("photos"), config, num_threads=1, report=Reports(), exact=exact)
    assert isinstance(source, FileBatches)
    assert source.resize == chosen


def test_crops_of_files_are_for_training_images_only() -> None:
    index, augment = a_split("photos"), AugmentConfig(crop_from="file", crop_scale=(0.1, 0.5))
    config = DataConfig(image_size=8, storage="files")
    for given, crops in ((augment, True), (None, False), (AugmentConfig(crop_scale=(0.1, 0.5)), False)):
        source, _ = open_split(index, config, num_threads=1, report=Reports(), augment=given)
        assert isinstance(source, FileBatches)
        assert (source.crop is not None) is crops


@pytest.mark.slow  # it imports torchvision
def test_torchvision_transforms_come_from_the_config_and_the_seed() -> None:
    index, key = a_split("photos"), BatchKey(0, 0, np.arange(9))
    augment = AugmentConfig(backend="torchvision", transforms=({"RandomErasing": {"p": 1.0, "value": "random"}},))
    config = DataConfig(image_size=16)
    batches = [
        open_split(index, config, num_threads=1, report=Reports(), augment=augment, seed=seed)[0][key].images
        for seed in (0, 0, 1)
    ]
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], opened(index)[0][key].images)
    plain = open_split(index, config, num_threads=1, report=Reports(), augment=AugmentConfig())[0][key].images
    assert torch.equal(plain, opened(index)[0][key].images)  # the batch backend works later, on the device


@pytest.mark.parametrize("storage", ["packed", "files"])
def test_fingerprints_are_equal_across_copies(storage: str) -> None:
    index = a_split("photos")
    shutil.copytree("photos", "copy of photos")
    assert opened(index, storage=storage)[1] == opened(a_split("copy of photos"), storage=storage)[1]


def test_the_fingerprint_of_files_is_that_of_earlier_versions() -> None:
    """A run that began with another version resumes."""
    write_colour_set(Path("photos"), counts={"train": 3, "val": 1})
    Path("photos/train_signs/0_it's \u00e9.jpg").write_bytes(b"x")
    index = index_split(Path("photos"), "train")
    sizes = [str((index.root / path).stat().st_size) for path in index.paths]
    described = repr((index.classes, index.labels.tolist(), list(index.paths), sizes))
    assert open_split(index, DataConfig(storage="files"), num_threads=1, report=Reports())[1] == (
        hashlib.sha256(described.encode()).hexdigest()
    )


@pytest.mark.parametrize("many_files", [1, 10_000])
def test_a_kept_listing_gives_the_same_images(many_files: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write_colour_set(Path("photos"), counts={"train": 3, "val": 1})
    monkeypatch.setattr(sets, "_NUM_AT_ONCE", 2)
    monkeypatch.setattr(sets, "KeptListings", functools.partial(KeptListings, many_files=many_files))

    def opened() -> tuple[ImageIndex, str, list[int]]:
        config = DataConfig(root="photos", image_size=16, storage="files")
        data = open_data_set(config, num_processes=1, report=Reports())
        batches, fingerprint = open_split(data.splits["train"], config, num_threads=1, report=Reports())
        samples = np.array([8, 0, 4])
        copied = pickle.loads(pickle.dumps(batches))  # noqa: S301  # as a loader worker that is not forked has it
        for batch in (batches[BatchKey(0, 0, samples)], copied[BatchKey(0, 0, samples)]):
            assert batch.labels.tolist() == [2, 0, 1]
        return data.splits["train"], fingerprint, batch.images.sum(dim=(1, 2, 3)).tolist()

    plain = index_split(Path("photos"), "train")
    first, second = opened(), opened()
    for index, fingerprint, sums in (first, second):
        assert (list(index.paths), index.labels.tolist()) == (list(plain.paths), plain.labels.tolist())
        assert list(index.all_stamps()) == [plain.reader.stamp(path) for path in plain.paths]
        assert cache_key(index) == cache_key(plain)
        assert (fingerprint, sums) == first[1:]
        assert fingerprint == open_split(plain, DataConfig(storage="files"), num_threads=1, report=Reports())[1]
    assert len(list(Path("data/cache").glob("listings/*.listing"))) == (2 if many_files == 1 else 0)
    with Path("photos/train_signs/0_IMG_0000.jpg").open("ab") as stream:
        stream.write(b"\0")
    assert opened()[1] != first[1]


def test_a_link_to_nothing_among_photos_is_named_when_they_are_listed_with_sizes() -> None:
    write_colour_set(Path("photos"), counts={"train": 3, "val": 1})
    Path("photos/train_signs/0_IMG_gone.jpg").symlink_to("nowhere")
    config = DataConfig(root="photos", storage="files")
    data = open_data_set(config, num_processes=1, report=Reports())
    with pytest.raises(BadImageError, match="0_IMG_gone"):
        open_split(data.splits["train"], config, num_threads=1, report=Reports())


def test_a_packed_fingerprint_changes_with_one_pixel_a_name_or_a_label() -> None:
    fingerprints = [opened(a_split("photos"))[1]]
    shutil.copytree("photos", "lossless")
    for path in Path("lossless/train_signs").iterdir():
        with Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()
    fingerprints.append(opened(a_split("lossless"))[1])  # the same pixels under other names
    pixel = Path("lossless/train_signs/1_IMG_0001.png")
    with Image.open(pixel) as image:
        red, green, blue = image.getpixel((3, 4))  # type: ignore[misc]
        image.putpixel((3, 4), (red, green, blue ^ 1))
        image.save(pixel)
    fingerprints.append(opened(a_split("lossless"))[1])
    pixel.rename(pixel.with_name("2_IMG_0001a.png"))
    fingerprints.append(opened(a_split("lossless"))[1])
    assert len(set(fingerprints)) == 4


@pytest.mark.parametrize("storage", ["packed", "files"])
def test_a_photo_that_went_since_it_was_indexed_is_named(storage: str) -> None:
    index = a_split("photos")
    (index.root / index.paths[4]).unlink()
    with pytest.raises(UserError, match=r"cannot read .*1_IMG_0001\.jpg: No such file"):
        opened(index, storage=storage)


def test_a_broken_photo_is_named() -> None:
    index = a_split("photos")
    (index.root / index.paths[4]).write_bytes(b"no image")
    with pytest.raises(BadImageError, match=r"1_IMG_0001\.jpg"):
        opened(index)


@pytest.mark.parametrize("storage", ["packed", "files"])
def test_the_limit_on_pixels_is_that_of_the_config(storage: str) -> None:
    index = a_split("photos")
    key = BatchKey(0, 0, np.array([0]))
    with pytest.raises(BadImageError, match=r"16 x 16 pixels, more than 0\.0001 megapixels; .*data.max_megapixels=1"):
        opened(index, storage=storage, max_megapixels=0.0001)[0][key]
    assert opened(index, storage=storage, max_megapixels=0.0003)[0][key].images.shape == (1, 3, 16, 16)


@pytest.mark.parametrize(("record", "size"), [("{}", None), ('{"size": 96}', 96)])
def test_the_size_of_the_stored_images_is_known(record: str, size: int | None) -> None:
    write_colour_set(Path("photos"), counts={"train": 2, "val": 1})
    Path("photos/build.json").write_text(record)
    assert open_data_set(DataConfig(root="photos"), num_processes=1, report=Reports()).stored_size == size
