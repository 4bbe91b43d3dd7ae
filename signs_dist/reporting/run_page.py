"""What the page about one run says: every text, table and chart, ready for the template."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from typing import Any

from signs_dist.config.section import flatten
from signs_dist.config.settings import Config
from signs_dist.console.screen import duration, percent
from signs_dist.reporting.content import SPLITS, RunContent
from signs_dist.reporting.pictures import PAGE_SIDE, as_data_uri
from signs_dist.reporting.run_charts import Figure, run_figures
from signs_dist.reporting.split_view import SplitView, view_split
from signs_dist.results.intervals import wilson_interval
from signs_dist.run_folder.records import EndLine, RequeueLine, StartLine, of_kind


@dataclasses.dataclass(frozen=True)
class Fact:
    """One number or word of the headline.

    Attributes:
        name: what it is.
        text: its value.
        detail: a second line, or "".
        varies: whether it tells of time or machine, so that two runs with the same result differ here.
    """

    name: str
    text: str
    detail: str = ""
    varies: bool = False


@dataclasses.dataclass(frozen=True)
class AttemptRow:
    """An attempt of the run.

    Attributes:
        number: from 1; "" for the line of a requeue.
        begin, length: its place on the timeline, as percentages of the whole time.
        started, took, where, steps, ended, lost: for people.
    """

    number: str
    begin: float
    length: float
    started: str
    took: str
    where: str
    steps: str
    ended: str
    lost: str


# Many members: one for each section of the page.
@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPage:
    """The page, section by section."""

    title: str
    state: str
    why: str
    is_synthetic: bool
    is_exact: bool
    headline: list[Fact]
    facts: list[Fact]
    card: str
    figures: list[Figure]
    splits: list[SplitView]
    training_images: str | None
    training_text: str
    training_labels: list[tuple[str, str]]
    attempts: list[AttemptRow]
    changed: list[tuple[str, str, str]]
    settings: list[tuple[str, str]]
    manifest: list[tuple[str, str]]

    @property
    def all_figures(self) -> list[Figure]:
        """Every chart of the page."""
        return [*self.figures, *(split.reliability for split in self.splits if split.reliability is not None)]


def view_run(content: RunContent) -> RunPage:
    """The page about one run."""
    summary = content.summary
    picture = None
    if content.training_images is not None:
        picture = as_data_uri(content.training_images, PAGE_SIDE, quality=85)
    return RunPage(
        title=content.name,
        state=summary.state,
        why=_why(content),
        is_synthetic=_data_name(content) == "synthetic",
        is_exact=summary.is_exact,
        headline=_headline(content),
        facts=_facts(content),
        card=content.card,
        figures=run_figures(content),
        splits=[view for split in SPLITS if (view := view_split(content, split)) is not None],
        training_images=picture,
        training_text=_training_text(content, picture),
        training_labels=content.training_labels,
        attempts=attempt_rows(content),
        changed=changed_settings(summary.settings),
        settings=[(key, _plain(value)) for key, value in summary.settings.items()],
        manifest=[(key, _plain(value)) for key, value in content.manifest.items()],
    )


def _headline(content: RunContent) -> list[Fact]:
    summary, result = content.summary, content.summary.result
    facts = []
    for split in SPLITS:
        if result.get(f"{split}_accuracy") is not None:
            facts.append(_accuracy_fact(split, result))
    if not facts and summary.val_accuracy is not None:
        detail = _interval_so_far(content) or f"epoch {summary.best_epoch}"
        name = "val accuracy so far" if _best_by(content) else "best val accuracy so far"
        facts.append(Fact(name, percent(summary.val_accuracy), detail))
    for split in SPLITS:
        loss = result.get(f"{split}_loss", summary.val_loss if split == "val" else None)
        if loss is not None:
            facts.append(Fact(f"{split} loss", f"{loss:.4f}"))
    best, best_accuracy = result.get("best_epoch", summary.best_epoch), result.get("best_val_accuracy")
    if best_accuracy is None:
        best_accuracy = summary.val_accuracy
    if best is not None and best_accuracy is not None:
        of = f" of {summary.num_epochs}" if summary.num_epochs else ""
        facts.append(Fact("best epoch", f"{best}{of}", f"{_best_by(content)}val accuracy {percent(best_accuracy)}"))
    elif summary.num_epochs:
        facts.append(Fact("epochs", f"{summary.epoch} of {summary.num_epochs}"))
    seconds, rate = result.get("train_seconds"), result.get("images_per_second", summary.images_per_second)
    if seconds is not None:
        facts.append(Fact("training time", duration(seconds), varies=True))
    elif so_far := _seconds_so_far(content):
        left = summary.seconds_left
        facts.append(
            Fact("time so far", duration(so_far), "" if left is None else f"about {duration(left)} left", varies=True)
        )
    if rate is not None:
        facts.append(Fact("images/s", f"{rate:,.0f}", varies=True))
    return facts


def _best_by(content: RunContent) -> str:
    """By what the best epoch is the best, as `by loss; `; "" by accuracy."""
    by = str(content.summary.settings.get("evaluate.best_by", "accuracy"))
    return "" if by == "accuracy" else f"by {by.replace('macro_f1', 'macro F1')}; "


def _why(content: RunContent) -> str:
    """Why the run is not finished: in full where the summary cuts a long reason."""
    why, ends = content.summary.why, of_kind(content.attempts, EndLine)
    whole = ends[-1].reason.partition("\n")[0] if ends else ""
    return whole if why.endswith("…") and whole.startswith(why[:-1]) else why


def _seconds_so_far(content: RunContent) -> float:
    """Seconds of the attempts that have an end, and of the one that is under way; 0 where no time is known."""
    starts = of_kind(content.attempts, StartLine)
    stops = {line.attempt: _seconds(line.time) for line in of_kind(content.attempts, EndLine)}
    if starts and content.summary.state == "running":
        stops.setdefault(starts[-1].attempt, content.read_at)
    spans = [stops[line.attempt] - _seconds(line.time) for line in starts if line.attempt in stops]
    return sum(span for span in spans if span > 0)


def _accuracy_fact(split: str, result: dict[str, Any]) -> Fact:
    interval = result.get(f"{split}_accuracy_interval")
    counts = f"{result.get(f'{split}_correct', 0):,} of {result.get(f'{split}_images', 0):,} images"
    return Fact(f"{split} accuracy", percent(result[f"{split}_accuracy"]), f"{_in_words(interval)}{counts}")


def _in_words(interval: Sequence[float] | None) -> str:
    return f"95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}\u00a0%; " if interval else ""


def _interval_so_far(content: RunContent) -> str:
    """The interval of the best validation of a run that is not finished; "" without its predictions."""
    header, images = content.predictions.get("val", (None, []))
    if header is None or header.epoch != content.summary.best_epoch:
        return ""
    num_right = sum(image.is_right for image in images)
    interval = _in_words(wilson_interval(num_right, len(images)))
    return f"epoch {header.epoch}; {interval}{num_right:,} of {len(images):,} images"


def _data_name(content: RunContent) -> str:
    about = content.manifest.get("data")
    named = about.get("name", "") if isinstance(about, dict) else ""
    return str(content.summary.result.get("data") or named)


def _facts(content: RunContent) -> list[Fact]:
    """What was trained, on what, and with which outcome."""
    summary, result = content.summary, content.summary.result
    starts = of_kind(content.attempts, StartLine)
    sizes = result.get("split_sizes")
    facts = [Fact("data", _data_name(content))]
    if isinstance(sizes, dict):
        facts.append(Fact("images", ", ".join(f"{name} {size:,}" for name, size in sizes.items())))
    if content.classes:
        facts.append(Fact("classes", f"{len(content.classes):,}"))
    number = result.get("num_parameters")
    facts += [
        Fact("model", str(summary.settings.get("model.name", "")) + (f", {number:,} parameters" if number else "")),
        Fact("epochs, steps", _progress_in_words(content)),
        Fact("stopped early", _early_stop_in_words(content)),
        Fact("seed", str(summary.settings.get("seed", ""))),
        Fact("exact mode", _exact_in_words(content)),
        Fact("precision", str(result.get("precision", ""))),
        Fact("model.pt holds", _weights_in_words(content)),
        Fact("SHA-256 of the weights", str(result.get("weights_sha256", ""))),
        Fact("strategy", str(result.get("strategy", "")), varies=True),
        Fact("processes", str(result.get("world_size", starts[-1].world_size if starts else "")), varies=True),
        Fact("device", str(result.get("device", "")), varies=True),
        Fact("host", summary.where, varies=True),
        Fact("started", f"{_clock(summary.started)} UTC" if summary.started else "", varies=True),
        Fact("attempts", str(summary.num_attempts), varies=True),
        Fact("folder", str(summary.path.absolute()), varies=True),
    ]
    return [fact for fact in facts if fact.text]


def _exact_in_words(content: RunContent) -> str:
    """Whether the run is in exact mode, and from which step on it has other bits."""
    if not content.summary.is_exact:
        return "no"
    changed = content.summary.result.get("arithmetic_changes")
    if changed is None:  # the run is not finished
        starts = of_kind(content.attempts, StartLine)
        changed = [
            {"step": line.first_step + 1, "what": line.other_bits}
            for number, line in enumerate(starts)
            # A later attempt from the same step or an earlier one has repeated it.
            if line.other_bits and all(later.first_step > line.first_step for later in starts[number + 1 :])
        ]
    told = ". ".join(f"Other bits from step {each['step']:,} on: {each['what']}" for each in changed)
    return f"yes. {told}" if told else "yes"


def _weights_in_words(content: RunContent) -> str:
    """Which weights model.pt holds; "" before the run is finished."""
    held = content.summary.result.get("weights")
    if not isinstance(held, dict):
        return ""
    return f"the {held.get('kind')} weights, of epoch {held.get('epoch')}"


def _early_stop_in_words(content: RunContent) -> str:
    result = content.summary.result
    return (
        f"after {result.get('epochs_trained')} of {result.get('epochs')} epochs" if result.get("stopped_early") else ""
    )


def _training_text(content: RunContent, picture: str | None) -> str:
    if picture is None:
        return "The run folder has no training-images.png, which a run writes at its start."
    return (
        f"The first {len(content.training_labels)} images of the run as the network sees them: augmented, the "
        "normalisation undone, row by row."
    )


def attempt_rows(content: RunContent) -> list[AttemptRow]:
    """The attempts and requeues in order, with their places on the timeline."""
    ends = {line.attempt: line for line in of_kind(content.attempts, EndLine)}
    begins = [_seconds(line.time) for line in of_kind(content.attempts, StartLine)]
    stops = [_seconds(line.time) for line in ends.values()]
    first, last = min(begins, default=0.0), max([*begins, *stops], default=0.0)
    if content.summary.state == "running":
        last = max(last, content.read_at)
    whole = max(1.0, last - first)
    rows = []
    for line in content.attempts:
        if isinstance(line, RequeueLine):
            rows.append(AttemptRow("", 0, 0, _clock(line.time), "", f"job {line.job}", "", f"requeued: {line.why}", ""))
        if not isinstance(line, StartLine):
            continue
        end, start = ends.get(line.attempt), _seconds(line.time)
        is_newest = start >= max(begins)
        stop = _seconds(end.time) if end else min((each for each in begins if each > start), default=last)
        is_under_way = end is None and is_newest and content.summary.state == "running"
        so_far = f"{duration(stop - start)} so far" if is_under_way else ""
        lost = "" if end is None or end.seconds_lost is None else duration(end.seconds_lost)
        rows.append(
            AttemptRow(
                number=str(line.attempt),
                begin=round(100 * (start - first) / whole, 2),
                length=max(0.5, round(100 * (stop - start) / whole, 2)),
                started=_clock(line.time),
                took=duration(stop - start) if end else so_far,
                where=f"{line.host}, {line.world_size} process{'' if line.world_size == 1 else 'es'}",
                steps=f"{line.first_step:,} to {end.last_step:,}" if end else f"from {line.first_step:,}",
                ended=end.reason if end else "under way" if is_under_way else "no end is recorded: killed",
                lost=lost,
            )
        )
    return rows


def _progress_in_words(content: RunContent) -> str:
    summary = content.summary
    if summary.state == "finished":
        return f"{summary.epoch:,} epochs, {summary.step:,} steps"
    of = f" of {summary.num_epochs:,}" if summary.num_epochs else ""
    return f"epoch {summary.epoch:,}{of}, step {summary.step:,}" if summary.step else ""


def _clock(time: str) -> str:
    """A time as in attempts.jsonl, for people: `2026-01-31 12:00:00`; a damaged one as it is."""
    try:
        return datetime.datetime.fromisoformat(time).astimezone(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return time


def _seconds(time: str) -> float:
    """Seconds since 1970 of a time as in attempts.jsonl; 0 for a damaged one."""
    try:
        return datetime.datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0.0


def changed_settings(settings: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(key, value, default) of the settings that differ from their defaults."""
    defaults = dict(flatten(Config()))
    return [
        (key, _plain(value), _plain(defaults.get(key))) for key, value in settings.items() if value != defaults.get(key)
    ]


def _plain(value: Any) -> str:
    """A value of the config or the manifest as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str, indent=1 if _is_long(value) else None)
    return json.dumps(value, default=str)


def _is_long(value: dict[str, Any] | Sequence[Any]) -> bool:
    return len(json.dumps(value, default=str)) > 100
