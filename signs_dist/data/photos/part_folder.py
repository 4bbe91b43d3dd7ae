"""The folder in which a build collects its images until all are done, beside the output folder.

Each image is written aside and renamed, so that every image in the folder is complete. `plan.json` records what each
image was made from (file, size, checksum or time, settings). A repeated build keeps the images with the same record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from signs_dist.errors import UserError
from signs_dist.files import explained, write_json

PLAN_NAME = "plan.json"


def part_folder_of(out: Path) -> Path:
    """The part folder of `out`: on the same disk, so that a rename turns it into the output."""
    return out.parent / f".{out.name}.part"


def prepare_part_folder(part: Path, plan: Mapping[str, str]) -> set[str]:
    """Make the part folder fit the plan, and return the paths of the images that are done.

    Args:
        part: the folder; created if missing. Images that do not fit the plan are removed.
        plan: path of each image below `part` → what it is made from.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        part.mkdir(parents=True, exist_ok=True)
        before = _read_plan(part / PLAN_NAME)
        done = set()
        for folder, _, names in os.walk(part):
            for name in names:
                path = Path(folder, name)
                relative = path.relative_to(part).as_posix()
                if relative in plan and before.get(relative) == plan[relative] and _is_whole_jpeg(path):
                    done.add(relative)
                elif relative != PLAN_NAME:
                    path.unlink()
        write_json(part / PLAN_NAME, dict(plan))
        for folder_name in {str(Path(relative).parent) for relative in plan}:
            (part / folder_name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explained(error, part) from error
    return done


def move_into_place(part: Path, out: Path) -> None:
    """Turn the part folder into the output by one rename.

    Raises:
        UserError: another process has made the output meanwhile, or its folder cannot be written.
    """
    try:
        (part / PLAN_NAME).unlink()
        for folder, subfolders, _ in os.walk(part, topdown=False):
            for subfolder in subfolders:
                path = Path(folder, subfolder)
                if not any(path.iterdir()):
                    path.rmdir()  # left from an earlier plan
        part.replace(out)
    except OSError as error:
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out} was made by another program meanwhile. Remove it and repeat.") from error
        raise explained(error, out) from error


def _read_plan(path: Path) -> dict[str, str]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def _is_whole_jpeg(path: Path) -> bool:
    """Whether the file is complete: after a power cut, it may have its name but not its content."""
    data = path.read_bytes()
    return data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")
