from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.bad_images import advice_on, inspection_advised
from signs_dist.data.images import BadImageError
from signs_dist.data.readers import FolderReader


def test_the_command_is_for_where_the_image_is(tmp_path: Path) -> None:
    one, two, table = tmp_path / "one", tmp_path / "two", tmp_path / "table.csv"
    one.mkdir()
    two.mkdir()
    table.write_text("path,label\n")
    reader = FolderReader(tmp_path)
    alone = advice_on(str(one / "a.jpg"), [one], reader)
    assert alone is not None
    assert alone.endswith(f"train without them, type: python -m signs_dist.inspect {one} --write config.yaml")
    several = advice_on(str(two / "cat/a.jpg"), [one, two], reader)
    assert several is not None
    assert f"type: python -m signs_dist.inspect {two} --write usable.yaml. To train" in several
    assert several.endswith(f"give usable.csv in data.root instead of {two}")
    elsewhere = advice_on(str(tmp_path / "b.jpg"), [one, table], reader)
    assert elsewhere is not None
    assert f"signs_dist.inspect {table} --write" in elsewhere
    assert advice_on("a.jpg", [tmp_path / "gone"], reader) is None


def test_only_images_that_cannot_be_read_are_advised_on(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), inspection_advised([tmp_path], FolderReader(tmp_path)):
        raise OSError("disk")
    with (
        pytest.raises(BadImageError, match=r"a\.jpg: truncated\. Replace .* signs_dist\.inspect") as caught,
        inspection_advised([tmp_path], FolderReader(tmp_path)),
    ):
        raise BadImageError("a.jpg", "truncated")
    assert (caught.value.path, caught.value.reason) == ("a.jpg", "truncated")
