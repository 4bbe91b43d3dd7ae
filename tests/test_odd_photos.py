from __future__ import annotations

from pathlib import Path

from signs_dist.data.images import BadImageError, load_rgb
from tests.odd_photos import NUM_BROKEN, NUM_COPIES, NUM_SMALL_CLASS, SMALL_CLASS, write_odd_photos, write_table


def test_it_is_what_it_says(tmp_path: Path) -> None:
    photos = write_odd_photos(tmp_path / "my photos", num_files=240)
    assert len(set(photos.files)) == 240
    assert photos.counts[SMALL_CLASS] == NUM_SMALL_CLASS
    assert (len(photos.broken), len(photos.copies)) == (NUM_BROKEN, NUM_COPIES)
    assert sum(photos.counts.values()) == 240 - NUM_BROKEN == len(photos.formats)
    unreadable = []
    for name in photos.files:
        try:
            load_rgb(photos.root / name, name=name, size=16)
        except BadImageError:
            unreadable.append(name)
    assert sorted(unreadable) == sorted(photos.broken)
    for original, copy in photos.copies:
        assert (photos.root / original).read_bytes() == (photos.root / copy).read_bytes()
    lines = write_table(photos, tmp_path / "photos.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "path,label"
    assert len(lines) == 241
