from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from signs_dist.data.dataset import SignsDataset
from signs_dist.data.images import BadImageError
from tests.data.photo_files import jpeg, signs_files, write_files


@pytest.fixture
def small_set(tmp_path: Path) -> Path:
    files = signs_files(12, 3, top="")
    return write_files(tmp_path, files | {f"val_signs/{i % 3}_v{i}.jpg": jpeg(50 + i) for i in range(6)})


def test_dataset_items(small_set: Path) -> None:
    data = SignsDataset(small_set, "val")
    image, label = data[1]
    assert (image.shape, image.dtype, label) == ((3, 40, 40), torch.float32, 0)
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    assert (data.classes, data.class_to_idx["2"], len(data), len(list(data))) == (("0", "1", "2"), 2, 6, 6)
    assert data.samples[-1] == (str(small_set / "val_signs/2_v5.jpg"), 2)
    assert data.path(-1) == small_set / "val_signs/2_v5.jpg"
    assert SignsDataset(small_set, image_size=16)[0][0].shape == (3, 16, 16)
    assert SignsDataset(small_set, transform=lambda image: image.size)[0] == ((40, 40), 0)


def test_dataset_of_val_alone_keeps_the_labels_of_train(small_set: Path) -> None:
    for path in (small_set / "val_signs").glob("0_*"):
        path.unlink()
    assert SignsDataset(small_set, "val").labels.tolist() == [1, 1, 2, 2]


def test_dataset_names_a_broken_image(small_set: Path) -> None:
    (small_set / "val_signs/0_v0.jpg").write_bytes(b"")
    with pytest.raises(BadImageError, match=r"val_signs/0_v0.jpg: the file has 0 bytes"):
        SignsDataset(small_set, "val")[0]


def test_dataset_in_loader_workers(small_set: Path) -> None:
    loader = torch.utils.data.DataLoader(SignsDataset(small_set, "train"), batch_size=5, num_workers=2)
    labels = torch.cat([batch for _, batch in loader])
    assert labels.tolist() == SignsDataset(small_set, "train").labels.tolist()


def test_dataset_keeps_odd_names(tmp_path: Path) -> None:
    odd = os.fsdecode(b"1_\xff.jpg")
    write_files(tmp_path, {"train/0_Ünï (1).jpg": jpeg(1), f"train/{odd}": jpeg(2)})
    data = SignsDataset(tmp_path)
    assert [data.path(index).name for index in range(2)] == ["0_Ünï (1).jpg", odd]
    assert data[1][1] == 1


def test_dataset_holds_no_python_object_per_image(tmp_path: Path) -> None:
    write_files(tmp_path, {f"train/{i % 2}_{i}.jpg": b"" for i in range(200)})
    held = vars(SignsDataset(tmp_path)).values()
    assert not [value for value in held if isinstance(value, (list, tuple, dict)) and len(value) >= 200]
