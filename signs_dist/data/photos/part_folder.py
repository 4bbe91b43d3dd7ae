"""The folder beside the output in which a build collects its images until it is whole.

Each image is written aside and renamed, so that one which is there is whole. `plan.json` says what each was made
from (file, size, checksum or time, settings). A repeated build keeps the images whose line is still the same.
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
    """Where the images of `out` wait until all are there: on the same disk, so that a rename moves them."""
    return out.parent / f".{out.name}.part"


def prepare_part_folder(part: Path, plan: Mapping[str, str]) -> set[str]:
    """Make the part folder fit the plan and return the images that are done.

    Args:
        part: the folder; made if missing. Images that were made from something else are removed.
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


def publish(part: Path, out: Path) -> None:
    """Turn the part folder into the output by one rename.

    Raises:
        UserError: the output has appeared in the meantime, or its folder cannot be written.
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
            raise UserError(f"{out} was made by something else in the meantime. Remove it and repeat.") from error
        raise explained(error, out) from error


def _read_plan(path: Path) -> dict[str, str]:
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return plan if isinstance(plan, dict) else {}


def _is_whole_jpeg(path: Path) -> bool:
    """After a power cut a file may have its name but not its content."""
    data = path.read_bytes()
    return data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")
