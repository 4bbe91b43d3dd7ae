"""What the screen shows during training: numbers beside the bar, a line for each epoch, the time left."""

from __future__ import annotations

from collections.abc import Sequence

from signs_dist.config.settings import BestBy, Config
from signs_dist.console.screen import percent
from signs_dist.learning.metrics import Score
from signs_dist.run_folder.records import StepLine
from signs_dist.training.run_state import RunState
from signs_dist.training.score_table import duration


def step_text(line: StepLine, num_epochs: int) -> str:
    """The numbers beside the progress bar."""
    return (
        f"epoch {line.epoch}/{num_epochs} | "
        f"loss {line.train_loss:.3f}  {percent(line.train_accuracy)} | "
        f"{line.images_per_second:,.0f} images/s"
    )


def epoch_text(
    line: StepLine, val: Score | None, num_epochs: int, seconds_left: float, best_by: BestBy = "accuracy"
) -> str:
    """The line about an epoch. Without a step of this attempt it has no speed and no time left."""
    has_stepped = line.images_per_second > 0
    words = [
        f"epoch {line.epoch:>{len(str(num_epochs))}}/{num_epochs}",
        f"loss {line.train_loss:.3f}  {percent(line.train_accuracy)}",
        *([f"val {val.loss:.3f}  {percent(val.accuracy)} ({val.num_correct}/{val.num_images})"] if val else []),
        *([f"macro F1 {val.macro_f1:.3f}"] if val and best_by == "macro_f1" else []),
        f"lr {line.lr:.2g}",
        *([f"{line.images_per_second:,.0f} images/s"] if has_stepped else []),
        *([f"data wait {100 * line.data_wait_share:.0f} %"] if has_stepped else []),
        *([f"{duration(seconds_left)} left"] if has_stepped and line.epoch < num_epochs else []),
    ]
    return " | ".join(words)


def early_end_text(run_state: RunState, config: Config) -> str:
    """Why a run ends before its last epoch."""
    best, last = run_state.best, run_state.cursor.epoch
    assert best is not None
    since = "1 epoch" if last - best.epoch == 1 else f"{last - best.epoch} epochs"
    number = {"accuracy": "accuracy", "loss": "loss", "macro_f1": "macro F1"}[config.evaluate.best_by]
    return (
        f"ended early after epoch {last} of {config.train.epochs}: the best val {number} is that of epoch "
        f"{best.epoch}, {since} before (train.patience={config.train.patience})"
    )


def seconds_left(run_state: RunState, sides: Sequence[tuple[int, int]]) -> float:
    """The seconds until the last step, if each step takes as long for a pixel as the steps of this attempt did.

    Args:
        run_state: how far the run is.
        sides: pairs (side of the training images in pixels, number of epochs until which they have it).
    """
    epoch_steps = run_state.num_steps // sides[-1][1]
    first, done, whole = (
        pixels_until(steps, sides, epoch_steps)
        for steps in (run_state.first_step, run_state.steps_done, run_state.num_steps)
    )
    return run_state.clock.seconds_here / max(1, done - first) * (whole - done)


def pixels_until(num_steps: int, sides: Sequence[tuple[int, int]], epoch_steps: int) -> int:
    """The pixels of all images of a run's first steps, if each step has one image.

    Args:
        num_steps: how many steps.
        sides: as of `seconds_left`.
        epoch_steps: steps of an epoch.
    """
    pixels = begin = 0
    for side, epochs in sides:
        end = min(num_steps, epochs * epoch_steps)
        pixels += side * side * max(0, end - begin)
        begin = max(begin, end)
    return pixels
