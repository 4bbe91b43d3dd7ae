"""A crafted checkpoint is passed over for the one before it, and renamed when the run resumes."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from signs_dist.checkpointing.store import read_content
from signs_dist.errors import UserError
from signs_dist.run_folder.digest import digest_path, file_sha256
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.falling_back import fall_back, set_broken_aside
from tests.training.parts import make_config, make_process, make_stepper
from tests.training.test_earlier_attempt import break_newest, cleanup, find, resume, save_after, saved

__all__ = ["cleanup"]  # a fixture


def craft(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change what a checkpoint holds, and give it the SHA-256 of its new bytes."""
    content = read_content(path)
    change(content)
    path.unlink()  # last.pt is the same file by another name
    torch.save(content, path)
    digest_path(path).write_text(f"{file_sha256(path)}  {path.name}\n")


def give_state_another_shape(content: dict[str, Any]) -> None:
    content["optimizer"]["state"][0]["momentum_buffer"] = torch.zeros(1)


def give_other_weights(content: dict[str, Any]) -> None:
    content["model"] = {name: torch.zeros(2) for name in content["model"]}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (give_state_another_shape, r"optimizer\.state\[0\]\.momentum_buffer is float32 \[1\]"),
        (give_other_weights, "model holds the weights of another model: other shapes: "),
        (lambda content: content.update(images=8 * 7), "56 images are not those of 0 epochs and 3 steps of 8"),
        (lambda content: content["model"].clear(), "model is a dict of 0"),
    ],
)
def test_a_crafted_checkpoint_is_passed_over(
    tmp_path: Path, cleanup: contextlib.ExitStack, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    made = saved(tmp_path)
    save_after(made, 1)
    newest = made.folder.checkpoints / "epoch-0001-step-000003.pt"
    craft(newest, change)
    earlier, config, stepper = find(tmp_path, cleanup), make_config(tmp_path), made.stepper
    earlier = fall_back(earlier, config, made.folder, stepper, (), make_process())
    assert earlier.path == made.folder.checkpoints / "epoch-0001-step-000002.pt"
    assert re.search(rf"{re.escape(str(newest))} is broken: {told}", earlier.notes[0])
    assert earlier.notes[1] == f"the checkpoint before it is whole: {earlier.path}"
    assert newest.exists()
    again = set_broken_aside(resume(earlier, tmp_path)[0], config, made.folder)
    assert again.notes[-1] == f"{newest.name} was renamed to {newest.name}.broken"
    assert not newest.exists()


def test_two_crafted_checkpoints_are_passed_over(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    for _ in range(2):
        save_after(made, 1)
    for step, change in ((3, give_state_another_shape), (4, give_other_weights)):
        craft(made.folder.checkpoints / f"epoch-0001-step-{step:06}.pt", change)
    earlier = fall_back(find(tmp_path, cleanup), make_config(tmp_path), made.folder, made.stepper, (), make_process())
    assert earlier.path == made.folder.checkpoints / "epoch-0001-step-000002.pt"
    assert [path.name for path, _ in earlier.broken] == [
        "epoch-0001-step-000004.pt",
        "epoch-0001-step-000003.pt",
    ]
    assert len(earlier.notes) == 3


def test_the_checkpoint_before_must_be_of_these_settings_too(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    save_after(made, 1)
    craft(made.folder.checkpoints / "epoch-0001-step-000003.pt", give_state_another_shape)
    craft(made.folder.checkpoints / "epoch-0001-step-000002.pt", lambda content: content["config"].update(seed=7))
    earlier = find(tmp_path, cleanup)
    with pytest.raises(UserError, match=r"000003\.pt is broken: .*\n.*\nthese settings differ .* seed: 7 → 0"):
        fall_back(earlier, make_config(tmp_path), made.folder, made.stepper, (), make_process())


def test_a_run_of_another_model_is_refused_and_renames_nothing(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    saved(tmp_path)
    earlier = find(tmp_path, cleanup, "model.name=signs_net", accepted={"model"})
    stepper, process = make_stepper(tmp_path, "model.name=signs_net")
    config, folder = make_config(tmp_path, "model.name=signs_net"), RunFolder(tmp_path / "run")
    assert fall_back(earlier, config, folder, stepper, {"model"}, process) == earlier
    assert not list(folder.checkpoints.glob("*.broken*"))


def test_a_name_that_says_another_place_is_broken(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    old = made.folder.checkpoints / "epoch-0001-step-000002.pt"
    copied = made.folder.checkpoints / "epoch-0002.pt"
    shutil.copyfile(old, copied)
    digest_path(copied).write_text(f"{file_sha256(copied)}  {copied.name}\n")
    earlier = find(tmp_path, cleanup)
    assert earlier.path == old
    assert earlier.notes[0] == f"{copied} is broken: its name says epoch 2, and it holds epoch 1, step 2."


def test_damaged_bytes_are_set_aside_when_the_run_resumes(tmp_path: Path, cleanup: contextlib.ExitStack) -> None:
    made = saved(tmp_path)
    break_newest(made)
    earlier, config = find(tmp_path, cleanup), make_config(tmp_path)
    assert fall_back(earlier, config, made.folder, made.stepper, (), make_process()) == earlier
    again = set_broken_aside(earlier, config, made.folder)
    assert again.notes[2] == "epoch-0001-step-000003.pt was renamed to epoch-0001-step-000003.pt.broken"
    assert (made.folder.checkpoints / "epoch-0001-step-000003.pt.broken").exists()
    silent = RunFolder(made.folder.path, is_writer=False)
    assert set_broken_aside(earlier, config, silent) == earlier  # another process renames
