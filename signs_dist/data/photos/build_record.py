"""Read and write build.json: the source and settings of a data set, so that a finished build is recognised."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from signs_dist import __version__
from signs_dist.data.duplicates import Duplicates
from signs_dist.data.photos.archive import SourceFile
from signs_dist.data.photos.build_plan import BuildRequest
from signs_dist.data.photos.sources import source_fingerprint
from signs_dist.data.photos.split import Division
from signs_dist.data.problems import BadFile, listed
from signs_dist.errors import UserError

BUILD_FILE = "build.json"
"""Name of the record in the output folder."""


def request_facts(request: BuildRequest, files: Sequence[SourceFile], division: Division | None) -> dict[str, Any]:
    """All that determines the output: two builds with the same facts give the same images."""
    is_divided = division is not None
    return {
        "source_fingerprint": source_fingerprint(files),
        "size": request.size,
        "quality": request.quality,
        "seed": request.seed if is_divided else None,
        "val_share": request.val_share if is_divided else None,
        "split": division,
        **({"shard_megabytes": request.shard_megabytes} if request.shards else {}),
    }


def build_record(
    facts: dict[str, Any],
    counts: dict[str, dict[str, int]],
    bad: list[BadFile],
    small_classes: dict[str, int],
    duplicates: Duplicates,
    request: BuildRequest,
) -> dict[str, Any]:
    """The content of build.json. It holds no time and no path, so that equal builds are equal byte for byte."""
    return {
        "signs_dist": __version__,
        "source": request.source.resolve().name,
        **facts,
        "splits": {split: {"images": sum(row.values()), "per_class": row} for split, row in counts.items()},
        "bad_images": request.bad_images,
        "left_out": [dataclasses.asdict(file) for file in bad],
        "small_classes_left_out": small_classes,
        "same_picture_in_two_classes": [list(paths) for paths in duplicates.conflicting],
        "same_picture_in_two_splits": [list(paths) for paths in duplicates.across],
        "same_picture_in_one_split": [list(paths) for paths in duplicates.within],
    }


def is_already_built(out: Path, facts: dict[str, Any], request: BuildRequest) -> bool:
    """Whether the output exists and fits the request. Raises UserError if it exists and does not."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / BUILD_FILE).is_file():
        raise UserError(f"{out} exists and was not made by this command. Remove it, or choose another with --out.")
    record = read_build_file(out)
    if request.split is None:
        facts = {key: value for key, value in facts.items() if key != "split" or key in record}
    elif record.get("seed") is not None:
        record.setdefault("split", "published")  # before there was a choice
    if request.shards != ("shard_megabytes" in record):
        made, wanted = ("with", "without") if "shard_megabytes" in record else ("without", "with")
        raise UserError(
            f"{out} is already built {made} --shards, not {wanted}. To keep it, choose another folder with --out. To "
            f"build it again, repeat the command after: rm -r {shlex.quote(str(out))}"
        )
    words = {"source_fingerprint": "the source's files have changed (names, sizes or times)"}
    differing = [
        words.get(key) or f"--{key.replace('_', '-')} {record.get(key)}, not {value}"
        for key, value in facts.items()
        if record.get(key) != value
    ]
    if differing:
        raise UserError(
            f"{out} is already built with other settings: {'; '.join(differing)}. To build it again, repeat the "
            f"command after: rm -r {shlex.quote(str(out))}. To keep it, choose another folder with --out."
        )
    if (omitted := record.get("left_out")) and request.bad_images == "stop":
        raise UserError(
            f"{out} is already built, without {len(omitted)} bad image{'' if len(omitted) == 1 else 's'} (listed in "
            f"{out / BUILD_FILE}). To accept that, add --bad-images skip. To include them, repair them, remove {out} "
            f"and repeat the command."
        )
    if (classes := record.get("small_classes_left_out")) and request.small_classes == "stop":
        raise UserError(
            f"{out} is already built, without the small {'class' if len(classes) == 1 else 'classes'} "
            f"{listed(list(classes))}. To accept that, add --small-classes skip. To include them, add photos to them, "
            f"remove {out} and repeat the command."
        )
    return True


def read_build_file(out: Path) -> dict[str, Any]:
    """The build.json of a data set. Raises UserError if it is broken."""
    try:
        record = json.loads((out / BUILD_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{out / BUILD_FILE} is broken ({error}). Remove {out} and build it again.") from error
    return record if isinstance(record, dict) else {}


def summary(record: dict[str, Any]) -> str:
    """The sizes of the splits, such as `train 864, val 216`."""
    return ", ".join(f"{split} {row['images']:,}" for split, row in record.get("splits", {}).items())
