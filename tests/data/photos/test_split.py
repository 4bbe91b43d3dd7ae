from __future__ import annotations

import random
from pathlib import Path

from signs_dist.data.photos.split import published_split


def test_published_split_is_the_published_folders(real_photos: Path) -> None:
    train = {path.name for path in (real_photos / "train_signs").iterdir()}
    val = {path.name for path in (real_photos / "val_signs").iterdir()}
    names = list(train | val)
    random.Random(1).shuffle(names)
    assert published_split(names) == (sorted(train), sorted(val))
    assert len(val) == 216
    assert published_split(names, seed=231)[1] != sorted(val)


def test_split_by_another_share() -> None:
    train, val = published_split([str(number) for number in range(10)], val_share=0.5)
    assert (len(train), len(val), len({*train, *val})) == (5, 5, 10)
