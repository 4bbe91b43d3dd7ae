from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from signs_dist.config.reading import load_config
from signs_dist.data.cifar10 import RECORD_BYTES, TEST_FILE, TRAINING_FILES, read_binary
from signs_dist.errors import UserError
from signs_dist.training.fit import fit
from tests.processes import REPOSITORY

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def write_imitation(folder: Path, num_images: int = 10) -> Path:
    """A folder in the published form with few images a file; each has the red, green and blue of its class."""
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    for name in (*TRAINING_FILES, TEST_FILE):
        labels = np.arange(num_images) % len(NAMES)
        colours = np.stack([labels * 20, 255 - labels * 20, labels], axis=1)  # [N, 3]
        planes = np.repeat(colours, 1024, axis=1)
        np.concatenate([labels[:, None], planes], axis=1).astype(np.uint8).tofile(folder / name)
    return folder


def test_images_have_their_classes_splits_and_pixels(tmp_path: Path) -> None:
    reader = read_binary(str(write_imitation(tmp_path / "bin")), num_val=3)
    images = list(reader.images())
    assert len(images) == 60
    assert images[0] == ("data_batch_1/00000", "airplane", "train")
    assert images[46:50] == [
        ("data_batch_5/00006", "frog", "train"),
        *((f"data_batch_5/0000{place}", NAMES[place], "val") for place in (7, 8, 9)),
    ]
    assert images[51] == ("test_batch/00001", "automobile", "test")
    pixels = reader.read("data_batch_2/00003")
    assert (pixels.shape, pixels.dtype, pixels[0, 0].tolist()) == ((32, 32, 3), np.uint8, [60, 195, 3])


def test_rows_and_columns_keep_their_places(tmp_path: Path) -> None:
    folder = write_imitation(tmp_path / "bin")
    record = np.zeros(RECORD_BYTES, np.uint8)
    record[1 + 1024 + 32 * 5 + 7] = 200  # green, row 5, column 7
    (folder / TEST_FILE).write_bytes(record.tobytes())
    pixels = read_binary(str(folder), 1).read("test_batch/00000")
    assert np.argwhere(pixels).tolist() == [[5, 7, 1]]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_3.bin", None, r"data_batch_3.bin: no such file. .*tar xf cifar-10-binary.tar.gz"),
        ("batches.meta.txt", None, r"batches.meta.txt: no such file"),
        ("test_batch.bin", b"\0" * 3072, "has 3,072 bytes, which is not a whole number of records of 3,073 bytes"),
        ("test_batch.bin", b"", "has 0 bytes"),
        ("test_batch.bin", b"\x0a" + b"\0" * 3072, "has the class 10, and batches.meta.txt names 10"),
    ],
)
def test_another_folder_is_refused(tmp_path: Path, file: str, content: bytes | None, message: str) -> None:
    folder = write_imitation(tmp_path / "bin")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_binary(str(folder), 1)


@pytest.mark.parametrize("num_val", [0, 50])
def test_some_images_are_left_for_each_split(tmp_path: Path, num_val: int) -> None:
    with pytest.raises(UserError, match=f"num_val={num_val} of 50 training images. Give at least 1 and at most 49"):
        read_binary(str(write_imitation(tmp_path / "bin")), num_val)


def test_the_recipe_trains_on_it(tmp_path: Path) -> None:
    folder = write_imitation(tmp_path / "bin", num_images=20)
    settings = [f"data.reader_args={{folder: {folder}, num_val: 20}}", f"data.cache={tmp_path / 'cache'}"]
    small = ["model.args={width: 4}", "train.global_batch=16", "train.epochs=2", "log.report=false"]
    config = load_config(REPOSITORY / "configs" / "cifar10.yaml", [*settings, *small])
    result = fit(config, tmp_path / "run", quiet=True)
    assert result["split_sizes"] == {"train": 80, "val": 20, "test": 20}
    assert result["classes"] == list(NAMES)
