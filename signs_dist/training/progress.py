"""What the screen shows during training: numbers beside the bar, a line for each epoch, the time left."""

from __future__ import annotations

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
    best, patience = run_state.best, config.train.patience
    assert best is not None
    epochs = "1 epoch" if patience == 1 else f"{patience} epochs"
    number = {"accuracy": "accuracy", "loss": "loss", "macro_f1": "macro F1"}[config.evaluate.best_by]
    return (
        f"ended early after epoch {run_state.cursor.epoch} of {config.train.epochs}: within {epochs} no better val "
        f"{number} than in epoch {best.epoch} (train.patience={patience})"
    )


def seconds_left(run_state: RunState) -> float:
    """The seconds until the last step, at the speed of this attempt."""
    per_step = run_state.clock.seconds_here / max(1, run_state.steps_done_here)
    return per_step * (run_state.num_steps - run_state.steps_done)
