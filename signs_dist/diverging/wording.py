"""What the command diverge prints: what differs before the first step, and where the first bits differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from signs_dist.config.yaml_text import format_value
from signs_dist.diverging.blame import SIDES, Before, Place
from signs_dist.diverging.brackets import Bracket
from signs_dist.diverging.orders import Subject
from signs_dist.diverging.running import MOST_NAMED, Outcome
from signs_dist.environment.subprocesses import count_processes

WHAT: Mapping[str, str] = {
    "plan": "the step is cut into other micro-batches",
    "samples": "the micro-batch has other samples: another order of the images",
    "input": "the images that go into the network differ",
    "targets": "the images are equal, their targets differ",
    "forward": "the forward pass gives other bits",
    "loss": "the network's output has equal bits, the loss has not",
    "backward": "the loss has equal bits, the backward pass gives other ones",
    "reduction": "the gradients of all micro-batches have equal bits, their sum has not",
    "clipping": "the sums of the gradients have equal bits, the clipped gradients have not",
    "optimizer": "the gradients have equal bits, what the optimizer makes of them has not",
    "average": "the weights have equal bits, their moving average has not",
    "buffers": "the weights have equal bits, the buffers have not",
    "end": "all bits are equal, and one side ends here",
}
"""Direction → what it means."""
MOST_TENSORS = 3
"""Weights that are named."""


def describe_subjects(subjects: tuple[Subject, Subject]) -> list[str]:
    """Both sides, for people: what each trains, on how many processes, with whose code."""
    left, right = subjects
    common = [word for word in left.overrides if word in right.overrides]
    lines = []
    if left.run is None:
        lines.append(" ".join(["settings:", *([f"--config {left.config}"] if left.config else []), *common]))
    for name, subject in zip(SIDES, subjects, strict=True):
        own = [word for word in subject.overrides if word not in common]
        parts = [str(subject.run)] if subject.run is not None else []
        parts += [count_processes(subject.num_processes), *own]
        if subject.code is not None:
            parts.append(f"code of {subject.code}")
        lines.append(f"{name}  {', '.join(parts)}")
    return lines


def describe_recorded_arithmetic(differences: Sequence[str], *, is_same: bool | None) -> list[str]:
    """That two runs were computed by other arithmetic: the first thing to know."""
    if is_same is True or not differences:
        return []
    sure = "other arithmetic" if is_same is False else "perhaps other arithmetic"
    return [f"A and B were trained with {sure}: {'; '.join(differences)}"]


def describe_before(before: Before, images: Sequence[str]) -> list[str]:
    """What differs before the first step."""
    lines = []
    if before.arithmetic:
        lines.append(f"the arithmetic of both sides differs here: {'; '.join(before.arithmetic)}")
    if before.toolkits:
        lines.append(f"the toolkit differs: A runs {before.toolkits[0]}, B runs {before.toolkits[1]}")
    lines += describe_settings(before.settings)
    if before.plan:
        rows = [f"{name} {one} → {other}" for name, (one, other) in before.plan.items()]
        lines.append(f"the plan differs: {', '.join(rows)}")
    if before.data:
        lines.append(f"the images differ: {', '.join(before.data)}")
        lines += [f"  {image}" for image in images[:MOST_NAMED]]
        if len(images) > MOST_NAMED:
            lines.append(f"  and {len(images) - MOST_NAMED:,} more")
    if before.weights:
        more = len(before.weights) - MOST_TENSORS
        lines.append(
            f"the weights before the first step differ: {', '.join(before.weights[:MOST_TENSORS])}"
            f"{f' and {more} more' if more > 0 else ''}"
        )
    return lines


def describe_settings(settings: Mapping[str, Sequence[Any]]) -> list[str]:
    """The settings that differ, each in a line."""
    if not settings:
        return []
    width = max(map(len, settings))
    rows = [(key, *map(format_value, map(_plain, values))) for key, values in settings.items()]
    return ["the settings differ in", *(f"  {key:<{width}}  {one} → {other}" for key, one, other in rows)]


def describe_bracket(bracket: Bracket) -> str:
    """What the saved states show."""
    compared = f"{bracket.num_compared} saved state{'' if bracket.num_compared == 1 else 's'} compared"
    equal = f"equal up to step {bracket.equal}" if bracket.equal else "none is equal"
    if bracket.differs is None:
        return f"{compared}: {equal}, none differs" if bracket.num_compared else "no state that both have saved"
    return f"{compared}: {equal}, different after step {bracket.differs}"


def describe_place(place: Place, names: Sequence[str], num_micro_batches: int | None = None) -> list[str]:
    """The first difference: step, micro-batch, layer and direction, and what is known of the reason."""
    where = [f"step {place.number} (epoch {place.epoch}, step {place.step} of the epoch)"]
    if place.micro_batch is not None:
        of = f" of {num_micro_batches}" if num_micro_batches else ""
        where.append(f"micro-batch {place.micro_batch + 1}{of}")
    if place.layer:
        where.append(f"layer {place.layer}")
    lines = [f"first difference: {', '.join([*where, place.direction])}", f"  {WHAT[place.direction]}"]
    if place.tensor:
        lines.append(f"  first in {place.tensor}")
    if place.samples:
        named = [f"{sample} ({name})" for sample, name in zip(place.samples, names, strict=False)]
        more = len(place.samples) - len(named)
        lines.append(f"  samples {', '.join(named)}{f' and {more} more' if more > 0 else ''}")
    if place.entries and place.direction in ("optimizer", "average"):
        rows = [f"{name} {one} → {other}" for name, (one, other) in place.entries.items()]
        lines.append(f"  the optimizer's settings in this step differ: {', '.join(rows)}")
    if place.odd:
        lines.append(f"  processes of one side do not agree: {', '.join(place.odd)}")
    for side, name in place.unsteady.items():
        lines.append(f"  {side} does not repeat its own bits: done again from the same state, {name} differs")
    if place.vanished:
        lines.append(
            "  done again from the same state, it did not differ: some operation gives other bits from call to call"
        )
    for side, error in zip(SIDES, place.errors, strict=True):
        if error:
            lines.append(f"  {side} ended in this step: {error}")
    return lines


def describe_outcome(outcome: Outcome, *, has_told_settings: bool) -> list[str]:
    """What training side by side has shown; the settings that differ only if they have not been told."""
    before = dataclasses.replace(outcome.before, settings={}) if has_told_settings else outcome.before
    lines = describe_before(before, outcome.images)
    plan = outcome.starts[0].plan
    if outcome.place is not None:
        count = plan["global_batch"] // plan["micro_batch"]
        return [*lines, *describe_place(outcome.place, outcome.names, count)]
    return lines


def describe_saved_state(name: str, *, repeats: bool, is_exact: bool) -> str:
    """Whether the saved state of a side is what training it again gives, and what may be the reason if it is not."""
    if repeats:
        return f"{name}: its saved state is what its config, images and code give here"
    causes = "arithmetic, images or code" if is_exact else "processes, threads, arithmetic, images or code"
    return (
        f"{name}: its saved state is not what its config, images and code give here: it had other {causes} when it "
        f"trained, or something has changed its bits{'' if is_exact else '. Fast mode promises no equal bits'}"
    )


def describe_fast_mode(outcome: Outcome, subjects: tuple[Subject, Subject], command: str) -> list[str]:
    """What fast mode has to do with a difference; nothing in exact mode.

    Args:
        outcome: of the comparison.
        subjects: A and B.
        command: compares the same in exact mode.
    """
    if all(start.is_exact for start in outcome.starts) or outcome.place is None:
        return []
    if outcome.before.settings.keys() - {"exact"}:
        why = "This is fast mode: beside what the settings change, bits may differ by rounding."
        if subjects[0].run is not None:
            return [f"{why} To see what the settings change alone, train both with exact=true, and compare those runs."]
        return [f"{why} In exact mode they differ by the settings alone:", f"  {command}"]
    if subjects[0].num_processes == subjects[1].num_processes and not outcome.before.arithmetic:
        why = "This is fast mode, which promises no equal bits. In exact mode they are:"
    else:
        why = (
            "This is fast mode: other processes add the gradients in another order, and may compute with another "
            "number of threads, so bits differ by rounding. That is no fault. In exact mode no bit differs:"
        )
    return [why, f"  {command}"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
