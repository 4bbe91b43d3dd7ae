"""What an exact run trains: which changes of config, data and code it sees, and which it does not."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from signs_dist.distributed.exactness import arithmetic_kept
from signs_dist.run_folder.subject import Subject
from signs_dist.training.subject_of_run import find_subject
from tests.training.parts import make_prepared, make_process, shown

EXACT = ("exact=true", "train.micro_batch=4", "train.precision=float32")


def subject(folder: Path, *settings: str) -> Subject:
    process = make_process()
    with arithmetic_kept():
        return find_subject(make_prepared(folder, *EXACT, *settings, process=process), process)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("subject")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Subject:
    return subject(folder)


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("optim.lr=0.03", ["config"]),
        ("seed=1", ["config"]),
        ("train.epochs=3", ["config"]),
        ("train.micro_batch=8", ["config"]),
        ("train.precision=bfloat16", ["config"]),
        ("ema.decay=0.9", ["config"]),
        ("evaluate.batch=2", ["config"]),  # the numbers of the validation
        ("train.shard_optimizer=true", []),
        ("checkpoint.keep_every_epochs=1", []),
        ("log.every_steps=1", []),
        ("data.storage=device", []),  # the same weights as packed
    ],
)
def test_settings_count_that_change_weights_or_numbers(
    folder: Path, plain: Subject, setting: str, parts: list[str]
) -> None:
    assert plain.differences(subject(folder, setting)) == parts


def test_what_the_machine_chooses_counts_as_if_it_were_set(folder: Path, plain: Subject) -> None:
    assert subject(folder, "train.precision=float32").config == plain.config


def flip_bit(photo: Path) -> None:
    content = bytearray(photo.read_bytes())
    content[-1] ^= 1  # after the last pixel
    photo.write_bytes(content)


def change_pixel(photo: Path) -> None:
    with Image.open(photo) as image:
        pixels = np.asarray(image).copy()
    pixels[:4] ^= 64
    Image.fromarray(pixels).save(photo, quality=95)


@pytest.mark.parametrize(("storage", "change"), [("packed", change_pixel), ("files", flip_bit)])
def test_a_photo_that_was_changed_is_other_data(tmp_path: Path, storage: str, change: Callable[[Path], None]) -> None:
    settings = (f"data.storage={storage}", "augment.backend=none")
    before = subject(tmp_path, *settings)
    assert subject(tmp_path, *settings) == before
    change(sorted((tmp_path / "colours").rglob("*.jpg"))[3])
    assert before.differences(subject(tmp_path, *settings)) == ["data"]


@pytest.mark.parametrize("storage", ["packed", "files"])
def test_photos_elsewhere_are_the_same_data(tmp_path: Path, storage: str) -> None:
    one = subject(tmp_path / "one", f"data.storage={storage}")
    assert subject(tmp_path / "two", f"data.storage={storage}") == one


def test_reading_many_photos_is_told(tmp_path: Path) -> None:
    process = make_process(quiet=False)
    with arithmetic_kept():
        find_subject(make_prepared(tmp_path, *EXACT, "data.storage=files", process=process), process)
    assert "reading train photos: 36/36 images" in shown(process)


def test_ones_own_code_counts_with_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "chain_net.py": "import chain_layers as l\n\ndef build(num_classes, image_size): return l.make(num_classes)\n",
        "chain_layers.py": (
            "from torch import nn\n\n\ndef make(n): return nn.Sequential(nn.Flatten(), nn.Linear(768, n))\n"
        ),
        "chain_other.py": "",
    }
    found: list[Subject] = []

    def look() -> None:
        for name in files:
            sys.modules.pop(name.removesuffix(".py"), None)
        __import__("chain_other")
        found.append(subject(tmp_path, "model.name=chain_net:build"))

    def change(name: str) -> Callable[[], object]:
        return lambda: (tmp_path / name).write_text(files[name] + "# changed\n")

    for name, text in files.items():
        (tmp_path / name).write_text(text)
    for action in (lambda: None, change("chain_other.py"), change("chain_layers.py"), change("chain_net.py")):
        action()
        look()
    for name in files:
        sys.modules.pop(name.removesuffix(".py"), None)
    parts = [one.differences(other) for one, other in itertools.pairwise(found)]
    assert parts == [[], ["code"], ["code"]]
