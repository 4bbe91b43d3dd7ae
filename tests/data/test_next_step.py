from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.data.next_step import find_stored_size, next_lines


@pytest.mark.parametrize(
    ("size", "num_train", "line"),
    [
        (64, 1440, "train on it: python -m signs_dist.train data.root=data/x"),
        (96, 1440, "train on it: python -m signs_dist.train data.root=data/x data.image_size=96"),
        (4096, 1440, "train on it: python -m signs_dist.train data.root=data/x data.image_size=2048"),
        (64, 96, "train on it: python -m signs_dist.train data.root=data/x train.epochs=300 optim.lr=0.02"),
    ],
)
def test_the_line_that_trains_on_a_set(size: int, num_train: int, line: str) -> None:
    lines = next_lines(Path("data/x"), size, num_train)
    assert lines[-1] == line
    assert [text.startswith("few photos: from 96 photos") for text in lines[:-1]] == ([True] if num_train == 96 else [])


def test_what_is_printed_can_be_typed() -> None:
    words = shlex.split(next_lines(Path("data/64x64_my [new] photos: 2"), 96, 20)[-1])
    config = load_config(None, words[words.index("signs_dist.train") + 1 :])
    assert config.data.root == "data/64x64_my [new] photos: 2"
    assert (config.data.image_size, config.train.global_batch) == (96, 16)


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [
        ("build.json", '{"size": 96}', 96),
        ("synthetic.json", '{"image_size": 128}', 128),
        ("build.json", "{}", None),
        ("build.json", "[]", None),
        ("build.json", "{", None),
        ("build.json", '{"size": "96"}', None),
        ("other.json", '{"size": 96}', None),
    ],
)
def test_the_size_of_the_images_of_a_set(tmp_path: Path, name: str, content: str, size: int | None) -> None:
    assert find_stored_size(tmp_path) is None
    (tmp_path / name).write_text(content)
    assert find_stored_size(tmp_path) == size
