from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from signs_dist.config.settings import DataConfig
from signs_dist.data.dataset import SignsDataset
from signs_dist.data.images import BadImageError
from signs_dist.data.sets import open_data_set
from signs_dist.errors import UserError
from tests.data.photo_files import jpeg, signs_files, write_files
from tests.data.shards.tars import samples, write_tar


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


def test_dataset_of_photos_that_are_not_split_is_divided_as_training_divides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(10)]
    write_files(tmp_path / "photos", {name: name.encode() for name in names})
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"photos/{name},{name[:3]}\n" for name in names))
    for root in ("photos", "t.csv"):
        splits = {split: SignsDataset(root, split) for split in ("train", "val", "test")}
        assert {split: len(data) for split, data in splits.items()} == {"train": 16, "val": 2, "test": 2}
        trained_on = open_data_set(DataConfig(root=root), num_processes=1, report=lambda *_: None)
        for split, data in splits.items():
            index = trained_on.splits[split]
            assert [path for path, _ in data.samples] == [str(index.root / path) for path in index.paths]
            assert data.labels.tolist() == index.labels.tolist()
            assert all(Path(path).is_file() for path, _ in data.samples)
    (tmp_path / "s.csv").write_text(
        "path,label,split\nphotos/cat/1.jpg,a,train\nphotos/dog/1.jpg,b,train\nphotos/dog/2.jpg,b,val\n"
    )
    with pytest.raises(UserError, match=r"s.csv has no split test. Choose the split train or val"):
        SignsDataset("s.csv", "test")


def test_dataset_of_tar_shards(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-000000.tar", samples(("a", 0), ("b", 1)))
    write_tar(tmp_path / "val-000000.tar", samples(("c", 1), ("d", 0)))
    val = SignsDataset(tmp_path, "val")
    assert (val.classes, val.labels.tolist(), val.path(1)) == (("0", "1"), [1, 0], tmp_path / "val-000000.tar/d.png")
    images = [image[:, 0, 0].mul(255).round().tolist() for image, _ in DataLoader(val, batch_size=None, num_workers=1)]
    assert images == [[0, 1, 7], [1, 0, 7]]
    with pytest.raises(UserError, match=r"has no split test\. Choose the split train or val"):
        SignsDataset(tmp_path, "test")
