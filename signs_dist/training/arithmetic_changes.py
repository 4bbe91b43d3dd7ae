"""A run whose arithmetic changes: refused in exact mode unless it is accepted, and then told from which step on."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from signs_dist.checkpointing.resume_rules import changed_settings, is_same_trial
from signs_dist.config.reading import ARITHMETIC
from signs_dist.distributed.arithmetic import Fingerprint
from signs_dist.distributed.exactness import differs_from_before, refuse_other_arithmetic
from signs_dist.errors import OtherArithmeticError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.other_machine import note_other_machine
from signs_dist.training.process import Process
from signs_dist.training.run_state import arithmetic
from signs_dist.training.stepper import Stepper

Change = dict[str, Any]
"""`step`, the first step with other bits, from 1, and `what` has changed, for people."""
UNNAMED = "no version or instruction differs"


def read_fingerprint(content: Mapping[str, Any] | None) -> Fingerprint | None:
    """The arithmetic in the content of a checkpoint; None without one, as in checkpoints of earlier releases."""
    return Fingerprint.from_dict(content.get("arithmetic")) if content is not None else None


def read_changes(content: Mapping[str, Any]) -> list[Change]:
    """The changes in the content of a checkpoint; what is damaged is omitted."""
    found = content.get("arithmetic_changes")
    return [
        {"step": each["step"], "what": each["what"]}
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, dict) and type(each.get("step")) is int and isinstance(each.get("what"), str)
    ]


def compare_arithmetic(content: Mapping[str, Any], stepper: Stepper, accepted: Collection[str]) -> tuple[str, str]:
    """Compare this attempt's arithmetic with that of a checkpoint.

    Args:
        content: of the checkpoint.
        stepper: of this attempt, tried and looked at.
        accepted: names from `--accept-change`.

    Returns:
        (what has changed if this run goes on with other bits, else "", a note for the screen or "").

    Raises:
        OtherArithmeticError: in exact mode the network computes other bits than before, and that is not accepted.
    """
    before, now = read_fingerprint(content), stepper.arithmetic
    changed = before.differences(now) if before is not None and now is not None else []
    if stepper.trial is None:
        return "", f"changed since: {'; '.join(changed)}: the bits may differ" if changed else ""
    what = _find_difference(content, stepper)
    if not what and before is not None and now is not None and before.is_same(now) is False:
        what = "computes other bits"
    if what and ARITHMETIC not in accepted:
        refuse_other_arithmetic(what, changed, f"--accept-change {ARITHMETIC}")
    if what:
        return "; ".join(changed) or UNNAMED, ""
    if not changed:
        return "", ""
    is_known = before is not None and now is not None and before.is_same(now)
    told = "the bits of the fixed micro-batch are equal" if is_known else "whether the bits are equal is not known"
    return "", f"changed since: {'; '.join(changed)}; {told}"


def _find_difference(content: Mapping[str, Any], stepper: Stepper) -> str:
    """What the network does otherwise in the run's own first micro-batch, where that must be the same; else ""."""
    before = content.get("trial")  # checkpoints of fast mode and of older releases have none
    if stepper.trial is None or not isinstance(before, dict):
        return ""
    fingerprints = content["run"].get("data", {}).get("fingerprints", {})
    if fingerprints.get("train") != stepper.prepared.fingerprints["train"]:
        return ""  # the first micro-batch is another
    differences = changed_settings(content["config"], stepper.prepared.config)
    if not is_same_trial(content, arithmetic(stepper.prepared), differences):
        return ""
    return differs_from_before(stepper.trial, before)


def describe_changes_of_bits(changes: Sequence[Change]) -> str:
    """A line on from which step on a run has other bits; "" where it has not."""
    return ". ".join(f"other bits from step {each['step']:,} on: {each['what']}" for each in changes)


@contextlib.contextmanager
def noted(folder: RunFolder, process: Process) -> Iterator[None]:
    """Within the block, an `OtherArithmeticError` leaves a note for the decision on a requeue."""
    try:
        yield
    except OtherArithmeticError as error:
        if folder.is_writer:
            with contextlib.suppress(OSError):
                note_other_machine(folder, process.context.job, error.nodes)
        raise
