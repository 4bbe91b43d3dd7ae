"""How far a dashboard has been fed: a small file in the run folder for each dashboard.

The file is kept with the run, so that a resumed run, on whichever machine, continues the same curves.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from signs_dist.files import write_json

FOLDER = "trackers"
"""Folder in a run folder: a file and a lock for each dashboard."""


@dataclasses.dataclass(frozen=True)
class Mark:
    """What is known about one dashboard.

    Attributes:
        run_id: the dashboard's own id of the run; "" before the first feeding.
        step: the last step that it has; 0 before the first.
        url: where to look at the run; "" if the dashboard names none.
        pictures_of: the epoch of the weights whose pictures it has; 0 before the first.
        is_ended: whether it has the final result.
        error: why feeding failed the last time; "" if it did not.
    """

    run_id: str = ""
    step: int = 0
    url: str = ""
    pictures_of: int = 0
    is_ended: bool = False
    error: str = ""


def mark_path(run_path: Path, name: str) -> Path:
    """The file of a dashboard's mark."""
    return run_path / FOLDER / f"{name}.json"


def read_mark(run_path: Path, name: str) -> Mark:
    """The mark of a dashboard; an empty mark where there is none, or it cannot be read."""
    try:
        values = json.loads(mark_path(run_path, name).read_text(encoding="utf-8"))
        known = {field.name: values[field.name] for field in dataclasses.fields(Mark) if field.name in values}
        mark = Mark(**known)
    except (OSError, ValueError, TypeError, RecursionError):
        return Mark()
    texts, numbers = (mark.run_id, mark.url, mark.error), (mark.step, mark.pictures_of)
    is_whole = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
    return mark if is_whole and isinstance(mark.is_ended, bool) else Mark()


def write_mark(run_path: Path, name: str, mark: Mark) -> None:
    """Write the mark of a dashboard, whole or not at all."""
    path = mark_path(run_path, name)
    path.parent.mkdir(exist_ok=True)
    write_json(path, dataclasses.asdict(mark))
