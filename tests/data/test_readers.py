from __future__ import annotations

import os
from pathlib import Path

import pytest

from signs_dist.data.images import BadImageError
from signs_dist.data.readers import FolderReader
from signs_dist.errors import UserError


def test_a_stamp_changes_with_the_content_even_if_the_time_is_put_back(tmp_path: Path) -> None:
    photo = tmp_path / "cat" / "1.png"
    photo.parent.mkdir()
    photo.write_bytes(b"first")
    reader = FolderReader(tmp_path)
    before = reader.stamp("cat/1.png")
    status = photo.stat()

    photo.write_bytes(b"other")
    os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))

    after = reader.stamp("cat/1.png")
    assert before[0] == after[0] == 5
    assert before[1] != after[1]
    assert reader.read("cat/1.png") == photo


def test_a_photo_that_is_gone_and_a_link_to_nothing_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "dead.png").symlink_to(tmp_path / "nothing")
    reader = FolderReader(tmp_path)
    with pytest.raises(UserError, match="It was there when the run began"):
        reader.stamp("gone.png")
    with pytest.raises(BadImageError, match="a link that leads nowhere"):
        reader.stamp("dead.png")
