"""One run as `runs watch` shows it: what is read from its folder, and the lines and curves made of that."""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from signs_dist import errors
from signs_dist.console.curves import Curve, draw
from signs_dist.console.screen import duration, percent
from signs_dist.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_STOPPED, CommandError, UserError
from signs_dist.monitoring.beats import Work, read_beats
from signs_dist.monitoring.failure_card import FailureCard, read_failures, render
from signs_dist.monitoring.plain_text import one_line, without_control
from signs_dist.monitoring.root_cause import find_root_cause
from signs_dist.results.listing import STYLES
from signs_dist.results.liveness import FileClock
from signs_dist.results.queued import QueueAnswer, ask_queue, with_queue
from signs_dist.results.summary import FRESH_SECONDS, RunSummary, summarise_run
from signs_dist.results.sweep_runs import with_sweeps
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.lines import NEWLINE, parse
from signs_dist.run_folder.records import AttemptLine, EndLine, EpochLine, StartLine, StepLine, parse_lines

WIDE = 100
"""From this width on the two plots are side by side."""
PLOT_LINES = 14
ASK_SECONDS = 10.0
"""How often the scheduler is asked: it serves the whole site."""
GRACE_SECONDS = 3.0
NUM_ATTEMPTS = 4
"""How many of the last lines of attempts.jsonl are shown."""


@dataclasses.dataclass(frozen=True)
class View:
    """What is known about a run at one moment.

    Attributes:
        summary: the run in short.
        lines: of metrics.jsonl, without saves.
        attempts: of attempts.jsonl.
        work: what rank 0 does now, by its heartbeat.
        card: of the failure that explains the others; None without one.
    """

    summary: RunSummary
    lines: Sequence[StepLine]
    attempts: Sequence[AttemptLine]
    work: Work | None = None
    card: FailureCard | None = None


class GrowingMetrics:
    """The lines on steps and epochs of a metrics.jsonl that grows: each call of `read` parses only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._size = 0, 0
        self._lines: list[StepLine] = []

    def read(self) -> list[StepLine]:
        """All lines so far, in a new list. A last line that is not whole yet is left for the next call."""
        try:
            with self._path.open("rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self._file or status.st_size < self._size:  # a resumed run has rewritten it
                    self._file, self._size, self._lines = status.st_ino, 0, []
                stream.seek(self._size)
                new = stream.read()
        except FileNotFoundError:
            return []
        whole = new[: new.rfind(NEWLINE) + 1]
        self._size += len(whole)
        values = [value for line in whole.split(NEWLINE) if (value := parse(line)) is not None]
        self._lines += parse_lines(values, (StepLine, EpochLine))
        return list(self._lines)


def look(
    path: Path, answer: QueueAnswer, clock: FileClock | None = None, metrics: GrowingMetrics | None = None
) -> View:
    """Read a run folder.

    Args:
        path: the folder.
        answer: what the scheduler said last.
        clock: of the file system; None: it is read if it is needed.
        metrics: of an earlier look at this folder, to read only what is new.

    Raises:
        UserError: as `summarise_run`; or the folder is gone.
    """
    if not path.is_dir():
        raise UserError(f"{path} was removed or renamed.")
    folder = RunFolder(path)
    metrics = metrics or GrowingMetrics(folder.metrics)
    (summary,) = with_sweeps([with_queue(summarise_run(path, quick=True, clock=clock), answer)])
    beat = read_beats(folder.logs).get(0) if summary.state == "running" else None
    is_fresh = beat is not None and abs(time.time() - beat.time) < FRESH_SECONDS
    return View(
        summary,
        metrics.read(),
        folder.read_attempts(),
        beat.work if beat is not None and is_fresh else None,
        find_root_cause(read_failures(folder.logs)) if summary.state == "failed" else None,
    )


def polls(path: Path, seconds: float) -> Iterator[View]:
    """Look at a run every so many seconds, until it has ended.

    A run that is restarted on its machine has ended for a moment: so an end that is not the run's finish counts when it
    has lasted for GRACE_SECONDS.
    """
    answer, asked, ended = QueueAnswer(), -math.inf, None
    clock, metrics = FileClock(path.absolute().parent), GrowingMetrics(RunFolder(path).metrics)
    while True:
        view = look(path, answer, clock, metrics)
        now = time.monotonic()
        is_in_question = view.summary.state not in ("running", "finished") or path in answer.jobs
        if is_in_question and now - asked >= ASK_SECONDS:
            answer, asked = ask_queue([view.summary]), now
            view = look(path, answer, clock, metrics)
        yield view
        if view.summary.state == "finished":
            return
        if view.summary.state in ("running", "waiting"):
            ended = None
        elif ended is None:
            ended = now
        elif now - ended >= GRACE_SECONDS:
            return
        time.sleep(seconds)


def ending_code(view: View) -> int:
    """The exit code of a run that has ended, as its command had it, as far as the folder tells; 1 if it was killed."""
    summary = view.summary
    if summary.state == "finished":
        return EXIT_OK
    if summary.state in ("stopped", "pruned"):
        return EXIT_INTERRUPTED if re.search(r"Ctrl-C|^KeyboardInterrupt|SIGINT", summary.why) else EXIT_STOPPED
    if view.card is not None and view.card.exit_code:
        return view.card.exit_code
    kind = getattr(errors, summary.why.partition(":")[0], None)
    return kind.exit_code if isinstance(kind, type) and issubclass(kind, CommandError) else EXIT_FAILED


def state_line(summary: RunSummary) -> str:
    """The state of a run in a line: `running on node3, attempt 2`."""
    words: str = summary.state
    if summary.state in ("running", "waiting"):
        where = f" on {summary.where}" if summary.where else ""
        job = f", job {summary.job}" if summary.job else ""
        attempt = f", attempt {summary.num_attempts}" if summary.num_attempts else ""
        words += f"{where}{job}{attempt}"
    if summary.why.startswith(words):  # stopped by SIGTERM after epoch 3
        return one_line(summary.why)
    return one_line(f"{words}: {summary.why}" if summary.why else words)


def progress_line(line: StepLine, num_epochs: int | None, seconds_left: float | None = None) -> str:
    """The numbers of a line of metrics.jsonl, in the words of the training's own lines."""
    is_epoch = isinstance(line, EpochLine)
    of = f"/{num_epochs}" if num_epochs is not None else ""
    words = [f"epoch {line.epoch}{of}" if is_epoch else f"epoch {line.epoch}{of}, step {line.step:,}"]
    words.append(f"loss {line.train_loss:.3f}  {percent(line.train_accuracy)}")
    if isinstance(line, EpochLine) and line.val_accuracy is not None:
        loss = f"{line.val_loss:.3f}  " if line.val_loss is not None else ""
        words.append(f"val {loss}{percent(line.val_accuracy)}")
    words.append(f"lr {line.lr:.2g}")
    if line.images_per_second > 0:
        words.append(f"{line.images_per_second:,.0f} images/s")
    if seconds_left:
        words.append(f"{duration(seconds_left)} left")
    return " | ".join(words)


def attempt_line(line: AttemptLine) -> str:
    """A line of attempts.jsonl, for people."""
    if isinstance(line, StartLine):
        processes = f"{line.world_size} process{'' if line.world_size == 1 else 'es'}"
        where = f" on {line.host}" if line.host else ""
        words = f"attempt {line.attempt} began {line.time}{where}, {processes}, from step {line.first_step:,}"
    elif isinstance(line, EndLine):
        lost = f"; {duration(line.seconds_lost)} of training lost" if line.seconds_lost else ""
        words = f"attempt {line.attempt} ended {line.time}: {line.reason}{lost}"
    else:
        words = f"requeued {line.time}: {line.why}"
    return one_line(words.partition("\n")[0])


def news(before: View | None, now: View) -> list[str]:
    """What to print where there is no terminal: a line for each change. At first, of many lines the last ones."""
    if before is None:
        return [state_line(now.summary), *map(attempt_line, now.attempts[-1:])]
    lines = [attempt_line(line) for line in now.attempts[len(before.attempts) :]]
    if state_line(before.summary) != state_line(now.summary):
        lines.append(state_line(now.summary))
    return lines


def new_epochs(before: View | None, now: View) -> list[EpochLine]:
    """The lines on epochs that were added; at first the last of them."""
    epochs = [line for line in now.lines if isinstance(line, EpochLine)]
    if before is None:
        return epochs[-1:]
    # A resumed run takes back the lines after its checkpoint, and writes them again.
    last = max((line.step for line in before.lines if isinstance(line, EpochLine)), default=-1)
    return [line for line in epochs if line.step > last]


def card_text(view: View) -> str:
    """The failure card, as the run printed it; "" without one."""
    return without_control(render(view.card)) if view.card is not None else ""


def render_view(view: View, width: int, height: int, *, has_colour: bool) -> RenderableType:
    """Everything on one screen, as many lines as it has, the curves in what is left of them."""
    summary = view.summary
    rows: list[RenderableType] = [
        Text(one_line(str(summary.path)), "bold", no_wrap=True, overflow="ellipsis"),
        Text(state_line(summary), STYLES[summary.state], no_wrap=True, overflow="ellipsis"),
        *_progress(view, width),
    ]
    below = [Text(attempt_line(line), no_wrap=True, overflow="ellipsis") for line in view.attempts[-NUM_ATTEMPTS:]]
    card = card_text(view)
    below += [Text(line, "red", no_wrap=True, overflow="ellipsis") for line in card.splitlines()]
    room = height - len(rows) - len(below) - 1
    return Group(*rows, *_plots(view, width, room, has_colour=has_colour), *below)


def _progress(view: View, width: int) -> list[RenderableType]:
    summary = view.summary
    rows: list[RenderableType] = []
    work = view.work
    total, done = (work.total, work.done) if work is not None else (summary.num_epochs or 0, summary.epoch)
    if total:
        table = Table.grid(padding=(0, 1))
        what = work.what if work is not None else "epochs"
        left = f"{duration(summary.seconds_left)} left" if summary.seconds_left is not None else ""
        bar = ProgressBar(total=total, completed=done, width=max(10, min(40, width - 40)))
        table.add_row(Text(one_line(what)), bar, f"{done:,}/{total:,}", left)
        rows.append(table)
    if view.lines:
        rows.append(Text(progress_line(view.lines[-1], summary.num_epochs), no_wrap=True, overflow="ellipsis"))
    if summary.val_accuracy is not None:
        rows.append(Text(f"best val {percent(summary.val_accuracy)} in epoch {summary.best_epoch}"))
    return rows


def _plots(view: View, width: int, room: int, *, has_colour: bool) -> list[RenderableType]:
    """The curves of loss and accuracy: side by side, or one below the other, or the loss alone where room is short."""
    losses, accuracies = _curves(view.lines)
    if width >= WIDE:
        size = (width - 2) // 2, min(PLOT_LINES, room)
        table = Table.grid(padding=(0, 1))
        table.add_row(
            draw("loss by epoch", losses, *size, has_colour=has_colour),
            draw("accuracy in % by epoch", accuracies, *size, has_colour=has_colour),
        )
        plots: list[RenderableType] = [table]
    elif room >= PLOT_LINES:
        size = width, min(PLOT_LINES, room // 2)
        plots = [
            draw("loss by epoch", losses, *size, has_colour=has_colour),
            draw("accuracy in % by epoch", accuracies, *size, has_colour=has_colour),
        ]
    else:
        plots = [draw("loss by epoch", losses, width, room, has_colour=has_colour)]
    return [plot for plot in plots if not isinstance(plot, Text) or plot.plain]


def _curves(lines: Sequence[StepLine]) -> tuple[list[Curve], list[Curve]]:
    """(loss, accuracy) over epochs: of training at each line, of validation at the ends of epochs."""
    epochs = [line for line in lines if isinstance(line, EpochLine)]
    per_epoch = epochs[-1].step / epochs[-1].epoch if epochs and epochs[-1].epoch else 0.0
    xs = [line.step / per_epoch if per_epoch else float(line.step) for line in lines]
    scored = [line for line in epochs if line.val_accuracy is not None]
    numbers = [float(line.epoch) for line in scored]
    loss = [
        Curve("train", xs, [line.train_loss for line in lines]),
        Curve("val", numbers, [line.val_loss if line.val_loss is not None else float("nan") for line in scored], "o"),
    ]
    accuracy = [
        Curve("train", xs, [100 * line.train_accuracy for line in lines]),
        Curve("val", numbers, [100 * (line.val_accuracy or 0.0) for line in scored], "o"),
    ]
    return loss, accuracy
