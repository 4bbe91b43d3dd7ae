from __future__ import annotations

from pathlib import Path

import pytest

from signs_dist.data.photos.part_folder import move_into_place, part_folder_of, prepare_part_folder
from signs_dist.errors import UserError
from tests.data.photo_files import content_of, jpeg

PLAN = {"train/a.jpg": "a.png, 3 bytes", "train/b.jpg": "b.png, 4 bytes", "val/c.jpg": "c.png, 5 bytes"}


def test_only_images_of_the_same_plan_are_kept(tmp_path: Path) -> None:
    part = part_folder_of(tmp_path / "set")
    assert part == tmp_path / ".set.part"
    assert prepare_part_folder(part, PLAN) == set()
    for name in PLAN:
        (part / name).write_bytes(jpeg(1))
    (part / "train/b.jpg").write_bytes(b"\0" * 100)  # as a power cut leaves it
    assert prepare_part_folder(part, PLAN | {"val/c.jpg": "c.png, 6 bytes"}) == {"train/a.jpg"}
    assert sorted(content_of(part)) == ["plan.json", "train/a.jpg"]


def test_the_output_appears_by_one_rename(tmp_path: Path) -> None:
    out = tmp_path / "set"
    part = part_folder_of(out)
    prepare_part_folder(part, PLAN)
    (part / "train/a.jpg").write_bytes(jpeg(1))
    move_into_place(part, out)
    assert sorted(content_of(out)) == ["train/a.jpg"]
    assert [path.name for path in out.iterdir()] == ["train"]  # without the plan and without empty folders
    assert not part.exists()


def test_an_output_that_another_program_made_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "set"
    part = part_folder_of(out)
    prepare_part_folder(part, PLAN)
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"was made by another program meanwhile. Remove it and repeat"):
        move_into_place(part, out)
    assert content_of(out) == {"thesis.txt": b"mine"}
