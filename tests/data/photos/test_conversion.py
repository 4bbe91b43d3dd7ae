from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from signs_dist.console.screen import Screen
from signs_dist.data.photos import conversion
from signs_dist.data.photos.build_plan import BuildRequest, PlannedImage, plan_images
from signs_dist.data.photos.conversion import convert_all
from signs_dist.data.photos.sources import arrange, list_source
from signs_dist.errors import UserError
from tests.data.photo_files import encoded, jpeg, photo, write_files

FILES = {
    "train/a/1.png": encoded(photo(1, 60), "PNG"),
    "train/b/2.jpg": jpeg(2),
    "val/a/3.jpg": b"broken",
    "val/b/4.jpg": jpeg(4),
}


def planned(folder: Path) -> tuple[BuildRequest, list[PlannedImage]]:
    request = BuildRequest(write_files(folder / "photos", FILES), size=16, bad_images="skip", processes=1)
    plan = plan_images(arrange(list_source(request.source), request.source), None, seed=0, val_share=0.2)
    for image in plan:
        (folder / "part" / image.output).parent.mkdir(parents=True, exist_ok=True)
    return request, plan


def silent() -> Screen:
    return Screen(is_terminal=False, quiet=True, file=io.StringIO())


def test_images_become_small_square_jpegs_and_bad_ones_are_returned(tmp_path: Path) -> None:
    request, plan = planned(tmp_path)
    bad = convert_all(request, tmp_path / "part", plan, num_done=0, num_bad=0, screen=silent())
    assert [(file.path, file.reason.partition(" (")[0]) for file in bad] == [
        ("val/a/3.jpg", "not an image of a known format")
    ]
    written = sorted(path.relative_to(tmp_path / "part").as_posix() for path in (tmp_path / "part").rglob("*.jpg"))
    assert written == ["train/a/1.jpg", "train/b/2.jpg", "val/b/4.jpg"]
    with Image.open(tmp_path / "part/train/a/1.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (16, 16))


def test_with_stop_it_ends_after_some_bad_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, plan = planned(tmp_path)
    monkeypatch.setattr(conversion, "MAX_BAD_BEFORE_STOP", 2)
    monkeypatch.setattr(conversion, "run_batches", lambda *_, **__: (batch for batch in ([None], [BAD], [None])))
    stopping = replace(request, bad_images="stop")
    assert convert_all(stopping, tmp_path / "part", plan, num_done=0, num_bad=1, screen=silent()) == [BAD]


BAD = conversion.BadFile("val/a/3.jpg", "truncated")


def test_a_full_disk_says_how_to_continue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, plan = planned(tmp_path)

    def fail(*_: object, **__: object) -> object:
        yield [None]
        raise UserError("no space left.")

    monkeypatch.setattr(conversion, "run_batches", fail)
    with pytest.raises(UserError, match=r"no space left. 3 of 6 images are done. To continue, repeat the command."):
        convert_all(request, tmp_path / "part", plan, num_done=2, num_bad=0, screen=silent())
