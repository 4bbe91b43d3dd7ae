"""Comparing a killed run with the uninterrupted run: samples, metrics, checkpoints, weights and scores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from signs_dist.errors import CheckpointError
from signs_dist.results.predictions import predictions_path
from signs_dist.run_folder.chain import in_order
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.records import MEASURED, SaveLine, to_fields
from signs_dist.run_folder.sample_log import find_repeated, read_samples

COMPARED = ("weights_sha256", "weights", "val_loss", "val_confusion", "best_epoch", "steps", "stopped_early")
"""Numbers of result.json that a kill must not change."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A killed run compared with the uninterrupted run.

    Attributes:
        run: its number.
        num_steps: of the whole run.
        weights_sha256: of its final weights.
        differences: a line for each difference; empty if nothing was lost.
    """

    run: int
    num_steps: int
    weights_sha256: str
    differences: list[str]


def compare_with_whole(whole: RunFolder, killed: RunFolder, number: int, *, is_balanced: bool) -> Verdict:
    """Compare a killed run with the uninterrupted run; both are finished.

    Args:
        whole, killed: their folders.
        number: of the killed run.
        is_balanced: whether samples may repeat within an epoch.
    """
    results = [json.loads(folder.result.read_text(encoding="utf-8")) for folder in (whole, killed)]
    differences = [
        *_compare_samples(whole, killed, is_balanced=is_balanced),
        *_compare_metrics(whole, killed),
        *_compare_predictions(whole, killed),
        *_find_broken_checkpoints(killed),
        *(
            f"{name}: {results[0].get(name)} → {results[1].get(name)}"
            for name in COMPARED
            if results[0].get(name) != results[1].get(name)
        ),
    ]
    return Verdict(number, len(read_samples(whole.logs)), results[1]["weights_sha256"], differences)


def describe_verdicts(verdicts: Sequence[Verdict], num_kills: int) -> str:
    """The table and the verdict on all runs."""
    lines = ["", f"{'run':>3}  {'compared with the uninterrupted run':<50}  weights_sha256"]
    for verdict in verdicts:
        same = f"{verdict.num_steps} steps: samples, metrics, weights equal"
        first, *others = verdict.differences or [same]
        lines.append(f"{verdict.run:>3}  {first:<50}  {verdict.weights_sha256[:16]}")
        lines += [f"     {other}" for other in others]
    num_failed = sum(1 for verdict in verdicts if verdict.differences)
    result = "FAIL" if num_failed else "PASS"
    kills = f"{num_kills} kill{'s' if num_kills > 1 else ''}"
    runs = f"{len(verdicts)} run{'s' if len(verdicts) > 1 else ''}"
    outcome = f"{num_failed} of {runs} differ" if num_failed else f"{runs}, nothing lost"
    return "\n".join([*lines, f"{result}: {kills}, {outcome}"])


def _compare_samples(whole: RunFolder, killed: RunFolder, *, is_balanced: bool) -> Iterator[str]:
    expected, found = read_samples(whole.logs), read_samples(killed.logs)
    places = [place for place in sorted({*expected, *found}) if expected.get(place) != found.get(place)]
    if places:
        epoch, step = places[0]
        yield f"other samples at {len(places)} steps, first at epoch {epoch} step {step}"
    if not is_balanced and (repeated := find_repeated(found)):
        epoch, step = repeated[0]
        yield f"samples repeated at epoch {epoch} step {step}"


def _compare_metrics(whole: RunFolder, killed: RunFolder) -> Iterator[str]:
    expected, found = _read_metrics(whole), _read_metrics(killed)
    pairs = zip(expected, found, strict=False)
    different = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if different:
        yield f"other metrics: {json.dumps(different[0])} → {json.dumps(different[1])}"
    elif len(expected) != len(found):
        yield f"other metrics: {len(expected)} lines → {len(found)}"


def _compare_predictions(whole: RunFolder, killed: RunFolder) -> Iterator[str]:
    for split in ("val", "test"):
        paths = [predictions_path(folder.path, split) for folder in (whole, killed)]
        expected, found = (path.read_bytes() if path.exists() else None for path in paths)
        if expected != found:
            yield f"other predictions: {paths[0].name}"


def _read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without saves and without numbers that depend on the machine's speed."""
    lines = [to_fields(line) for line in in_order(folder.read_metrics()) if not isinstance(line, SaveLine)]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def _find_broken_checkpoints(killed: RunFolder) -> Iterator[str]:
    if broken := sorted(path.name for path in killed.checkpoints.glob("*.broken")):
        yield f"checkpoints that could not be read: {', '.join(broken)}"

    from signs_dist.checkpointing.store import CheckpointStore, read_checkpoint  # torch: not for --help

    for _, path in CheckpointStore(killed.checkpoints).files():
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            yield str(error)
