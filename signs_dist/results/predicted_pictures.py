"""pictures-val.jsonl of a run folder: small pictures of images that are in no files, for the report.

Each line is an image: its file as in predictions-val.jsonl, and a JPEG as a `data:` address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from signs_dist.run_folder.lines import read_lines

_PICTURE = re.compile(r"data:image/jpeg;base64,[A-Za-z0-9+/]+={0,2}")
"""Nothing else comes into a page: a run folder may be somebody else's."""


def pictures_path(run_path: Path, split: str) -> Path:
    """The file of a split's pictures in a run folder."""
    return run_path / f"pictures-{split}.jsonl"


def to_text(pictures: Mapping[str, str]) -> str:
    """The text of a file, from file → `data:` address."""
    return "".join(f"{json.dumps({'file': file, 'picture': picture})}\n" for file, picture in pictures.items())


def read_pictures(path: Path) -> dict[str, str]:
    """File → `data:` address; empty if the file is missing. Lines that are something else are omitted."""
    pictures = {}
    for line in read_lines(path):
        file, picture = line.get("file"), line.get("picture")
        if isinstance(file, str) and isinstance(picture, str) and _PICTURE.fullmatch(picture):
            pictures[file] = picture
    return pictures
