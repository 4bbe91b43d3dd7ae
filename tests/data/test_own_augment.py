from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.own_augment import OwnAugmenter
from signs_dist.data.randomness import Stream, stream_key
from signs_dist.errors import UserError
from tests.own_modules import module_writer

SOURCE = """
import torch

kept = {}

def shade(strength=0.5):
    def change(images, keys):
        kept["keys"] = keys
        share = (keys % 1000).to(torch.float32) / 1000
        return images * (1 - strength * share)[:, None, None, None]
    return change

def noise():
    return lambda images, keys: images + torch.rand(len(images), 1, 1, 1)

def same():
    return lambda images, keys: images

def no_function():
    return 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return module_writer(tmp_path, monkeypatch)(SOURCE)


def make(name: str, seed: int = 7, **args: float) -> OwnAugmenter:
    return OwnAugmenter(AugmentConfig(backend=name, args=args), seed)


def test_keys_are_a_function_of_seed_epoch_and_sample(module: str) -> None:
    augment = make(f"{module}:shade", strength=1.0)
    images = torch.rand(3, 3, 8, 8)
    changed = augment(images, np.array([4, 9, 2]), 1)
    keys = __import__(module).kept["keys"]
    assert keys.dtype == torch.int64
    assert keys.tolist() == [stream_key(7, Stream.AUGMENT, 1, sample) for sample in (4, 9, 2)]
    assert torch.equal(augment(images[1:2], np.array([9]), 1)[0], changed[1])
    assert not torch.equal(augment(images, np.array([4, 9, 2]), 2), changed)
    assert not torch.equal(make(f"{module}:shade", seed=8)(images, np.array([4, 9, 2]), 1), changed)


def test_torch_s_generator_is_seeded(module: str) -> None:
    augment, images = make(f"{module}:noise"), torch.rand(2, 3, 8, 8)
    first = augment(images, np.array([0, 1]), 0)
    torch.rand(5)
    assert torch.equal(augment(images, np.array([0, 1]), 0), first)


def test_the_result_may_be_changed_in_place(module: str) -> None:
    images = torch.rand(2, 3, 8, 8)
    make(f"{module}:same")(images, np.array([0, 1]), 0).zero_()
    assert images.any()


def test_another_thing_than_a_function_is_refused(module: str) -> None:
    with pytest.raises(UserError, match=r"returns a int. It must return a function \(images, keys\)"):
        make(f"{module}:no_function")
