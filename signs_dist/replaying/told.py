"""What a replay saw, as lines of text and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from signs_dist.console.screen import columns, percent
from signs_dist.replaying.evidence import Compared, Verdict
from signs_dist.replaying.first_bad import FirstBad
from signs_dist.replaying.records import Event, MicroBatch, Step
from signs_dist.replaying.request import FAILURE_FILE, FailedMicroBatch

MOST_SAMPLES = 64
"""A step with more images, or more micro-batches, shows those with the largest losses."""
NUM_WORST = 16
HEADINGS: Mapping[str, str] = {
    "same bits": "the bits are those of the run",
    "same samples": "the samples and random draws are those of the run, the numbers equal to rounding",
    "other bits": "THE BITS ARE NOT THOSE OF THE RUN, though they should be",
    "other samples": "THE SAMPLES ARE NOT THOSE OF THE RUN",
}


@dataclasses.dataclass(frozen=True)
class LayerRow:
    """A layer, or a part of a network that computes something beside its layers.

    Attributes:
        name: as `LayerWatch` names it.
        shape: of its output, for one micro-batch.
        output, gradient, weight_gradient: the largest absolute value of its output, of the gradient at its output, and
            of its parameters' gradients; None where there is none.
        num_bad: how many of all these values are not finite.
    """

    name: str
    shape: tuple[int, ...]
    output: float | None
    gradient: float | None
    weight_gradient: float | None
    num_bad: int


def layer_rows(micro_batches: Iterable[MicroBatch]) -> list[LayerRow]:
    """The layers in the order in which they compute, over all of the micro-batches."""
    rows: dict[str, LayerRow] = {}
    for micro_batch in micro_batches:
        for event in micro_batch.events:
            name = event.name if event.direction != "gradient" else _layer_of(event.name, rows)
            row = rows.get(name) or LayerRow(name, event.shape, None, None, None, 0)
            rows[name] = _with(row, event)
    return list(rows.values())


def _layer_of(parameter: str, rows: Mapping[str, LayerRow]) -> str:
    """The layer that a parameter belongs to: the innermost that is known."""
    name = parameter
    while "." in name:
        name = name.rpartition(".")[0]
        if name in rows:
            return name
    return parameter


def _with(row: LayerRow, event: Event) -> LayerRow:
    row = dataclasses.replace(row, num_bad=row.num_bad + event.num_bad)
    if event.direction == "forward":
        return dataclasses.replace(row, output=max(row.output or 0.0, event.largest))
    if event.direction == "backward":
        return dataclasses.replace(row, gradient=max(row.gradient or 0.0, event.largest))
    return dataclasses.replace(row, weight_gradient=max(row.weight_gradient or 0.0, event.largest))


def describe_step(step: Step, files: Mapping[int, str], classes: Sequence[str], clip_norm: float | None) -> list[str]:
    """The lines about a step: its numbers, its micro-batches, its images and its layers.

    Args:
        step: with the micro-batches that were looked at.
        files: the names of the samples.
        classes: the names of the classes.
        clip_norm: `optim.clip_norm`.
    """
    norm = f", gradient norm {number(step.gradient_norm)}" if step.gradient_norm is not None else ""
    if norm and clip_norm is not None:
        after = f"{number(step.gradient_norm)} after clipping to {clip_norm:g}"
        norm = f", gradient norm {number(step.unclipped_norm)}, {after}"
    made = "" if step.gradient_norm is not None else ". The optimizer made no step"
    lines = [
        f"step {step.step:,} (epoch {step.epoch}, step {step.step_of_epoch}): learning rate {step.learning_rate:.6g}"
        f"{norm}{made}"
    ]
    for when, names in (("before", step.bad_weights), ("after", step.bad_after)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            lines.append(f"not finite {when} the step: {', '.join(names[:5])}{more}")
    lines += [
        "",
        *_describe_micro_batches(step.micro_batches),
    ]
    lines += ["", *_describe_samples(step, files, classes)]
    return [*lines, "", *_describe_layers(step)]


def _describe_micro_batches(micro_batches: Sequence[MicroBatch]) -> list[str]:
    shown, notes = list(micro_batches), []
    if (count := len(shown)) > MOST_SAMPLES:
        worst = sorted(shown, key=lambda each: _from_worst(each.loss))[:NUM_WORST]
        shown = sorted(worst, key=lambda each: each.number)
        notes = [f"the {NUM_WORST} micro-batches with the largest losses of {count:,}; all: --json FILE"]
    return [*notes, columns([("micro-batch", "images", "loss", "accuracy", "gradient norm"), *map(_cells, shown)])]


def _from_worst(loss: float) -> float:
    """A key for sorting: NaN first, then the largest loss."""
    return -math.inf if math.isnan(loss) else -loss


def _cells(micro_batch: MicroBatch) -> tuple[str, ...]:
    norm = number(micro_batch.gradient_norm)
    size = str(len(micro_batch.samples))
    return str(micro_batch.number), size, number(micro_batch.loss), percent(micro_batch.accuracy), norm


def _describe_samples(step: Step, files: Mapping[int, str], classes: Sequence[str]) -> list[str]:
    rows = [
        (micro_batch.number, row) for micro_batch in step.micro_batches for row in sample_rows(micro_batch, classes)
    ]
    count, note = len(rows), ""
    if count > MOST_SAMPLES:
        rows.sort(key=lambda pair: _from_worst(pair[1]["loss"]))
        rows = rows[:NUM_WORST]
        note = f"the {NUM_WORST} images with the largest losses of {count:,}; all: --micro-batch M, or --json FILE"
    cells = [
        (str(place), str(row["sample"]), row["label"], row["predicted"], number(row["loss"]), files[row["sample"]])
        for place, row in rows
    ]
    table = columns([("micro-batch", "sample", "class", "predicted", "loss", "file"), *cells])
    return [note, table] if note else [table]


def sample_rows(micro_batch: MicroBatch, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each image: `sample`, `label` with the shares of a mixed image, `predicted`, `loss`, `is_hit`."""
    rows = zip(
        micro_batch.samples,
        micro_batch.targets,
        micro_batch.target_classes,
        micro_batch.predictions,
        micro_batch.losses.tolist(),
        strict=True,
    )
    return [
        {
            "sample": sample,
            "label": _describe_target(target, classes) if target.dim() else classes[wanted],
            "predicted": classes[found] if found >= 0 else "not finite",
            "loss": loss,
            "is_hit": found == wanted,
        }
        for sample, target, wanted, found, loss in rows
    ]


def _describe_target(shares: Any, classes: Sequence[str]) -> str:
    """The classes of a mixed image, such as `three 70 % + five 30 %`."""
    found = sorted(((share, label) for label, share in enumerate(shares.tolist()) if share > 0), reverse=True)
    if len(found) == 1:
        return classes[found[0][1]]
    return " + ".join(f"{classes[label]} {100 * share:.0f} %" for share, label in found[:2])


def _describe_layers(step: Step) -> list[str]:
    rows = [
        (
            row.name,
            "×".join(map(str, row.shape)),
            *(number(value) if value is not None else "-" for value in (row.output, row.gradient, row.weight_gradient)),
            f"{row.num_bad:,}" if row.num_bad else "",
        )
        for row in layer_rows(step.micro_batches)
    ]
    heading = ("layer", "output", "largest output", "gradient at it", "of parameters", "not finite")
    has_bad = any(row[-1] for row in rows)
    table = [heading, *rows]
    return [columns(table if has_bad else [row[:-1] for row in table])]


def describe_verdict(verdict: Verdict, first: int, last: int) -> str:
    """Whether the steps are those of the run, and why, in one line."""
    steps = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
    return f"{steps}: {HEADINGS[verdict.level]}: {'; '.join(verdict.reasons)}"


def describe_failure(
    failed: Sequence[FailedMicroBatch], step: Step, compared: Compared, last_recorded: int
) -> tuple[bool, str]:
    """Whether a failure came again, and a sentence about it.

    Args:
        failed: what non_finite_loss.json names.
        step: the last step that was replayed.
        compared: how the replay compares with the run.
        last_recorded: the step of the last line of metrics.jsonl.
    """
    names = ", ".join(str(each.micro_batch) for each in failed)
    place = f"epoch {failed[0].epoch}, step {failed[0].step}, micro-batch {names}"
    seen = {each.number: each for each in step.micro_batches}
    others = [each for each in failed if each.micro_batch in seen and [*each.samples] != seen[each.micro_batch].samples]
    again = [each.number for each in step.micro_batches if not math.isfinite(each.loss)]
    if again:
        return True, (
            f"{FAILURE_FILE} names {place}: here the loss is not finite in micro-batch {', '.join(map(str, again))} of "
            f"step {step.step:,}"
        )
    if step.gradient_norm is None:
        return True, (
            f"{FAILURE_FILE} names {place}: here the loss of step {step.step:,} is not finite either, but in another "
            f"micro-batch than {', '.join(map(str, seen))}. Omit --micro-batch, or type --micro-batch "
            f"{failed[0].micro_batch}"
        )
    why = []
    if others:
        why.append("the file names other images than this step has now: the settings or the photos have changed since")
    if compared.same_images is False:
        why.append("the training images are not those of the run")
    if last_recorded >= step.step:
        why.append("the run has trained past this step since, maybe with other settings, which config.yaml has now")
    if compared.same_bits is False:
        why.append(f"this machine computes other bits ({'; '.join(compared.differences) or 'other bits'})")
    elif not compared.is_exact:
        why.append(
            "the run is not exact: other processes or another device round its sums otherwise, and a loss at the edge "
            "of its type can be finite in one of them"
        )
    if not why:
        why.append(
            "all that the run recorded is as here: a network that draws its own random numbers or keeps hidden state, "
            "or a fault of that machine, can be why"
        )
    return (
        False,
        f"{FAILURE_FILE} names {place}, and here the loss of this step is finite. Why that can be: {'; '.join(why)}",
    )


def as_json(
    about: Mapping[str, Any],
    steps: Sequence[Step],
    files: Mapping[int, str],
    classes: Sequence[str],
    first_bad: FirstBad | None,
    verdict: Verdict,
) -> dict[str, Any]:
    """All that was seen, but for tensors. Numbers that are not finite are null."""
    return {
        **about,
        "verdict": verdict.level,
        "reasons": verdict.reasons,
        "first_not_finite": None if first_bad is None else _first_bad_as_json(first_bad),
        "steps": [_step_as_json(step, files, classes) for step in steps],
    }


def _first_bad_as_json(first_bad: FirstBad) -> dict[str, Any]:
    event = first_bad.event
    return {
        "step": first_bad.step,
        "micro_batch": first_bad.micro_batch,
        "layer": event.name,
        "direction": event.direction,
        "num_not_finite": event.num_bad,
        "told": first_bad.describe(),
    }


def _step_as_json(step: Step, files: Mapping[int, str], classes: Sequence[str]) -> dict[str, Any]:
    return {
        "step": step.step,
        "epoch": step.epoch,
        "step_of_epoch": step.step_of_epoch,
        "loss": finite(step.loss),
        "learning_rate": step.learning_rate,
        "gradient_norm": finite(step.gradient_norm),
        "gradient_norm_before_clipping": finite(step.unclipped_norm),
        "not_finite_before": step.bad_weights,
        "not_finite_after": step.bad_after,
        "micro_batches": [
            {
                "micro_batch": each.number,
                "loss": finite(each.loss),
                "accuracy": each.accuracy,
                "gradient_norm": finite(each.gradient_norm),
                "images": [
                    {**row, "loss": finite(row["loss"]), "file": files[row["sample"]]}
                    for row in sample_rows(each, classes)
                ],
                "layers": [dataclasses.asdict(row) for row in layer_rows([each])],
            }
            for each in step.micro_batches
        ],
    }


def number(value: float | None) -> str:
    """Four significant digits, or what a number is if it is not finite."""
    return "-" if value is None else f"{value:.4g}"


def finite(value: float | None) -> float | None:
    """None for a number that is not finite."""
    return value if value is not None and math.isfinite(value) else None
