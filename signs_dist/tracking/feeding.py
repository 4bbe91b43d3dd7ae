"""Feeding one dashboard from one run folder, while the run trains or afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable
from pathlib import Path

from signs_dist.config.reading import load_saved_config
from signs_dist.config.section import flatten
from signs_dist.data.locks import locked
from signs_dist.errors import UserError
from signs_dist.results.summary import summarise_run
from signs_dist.run_folder.folder import RunFolder
from signs_dist.tracking.installed import MODULES
from signs_dist.tracking.marks import FOLDER, Mark, read_mark, write_mark
from signs_dist.tracking.pictures import pictures_of
from signs_dist.tracking.points import points_after
from signs_dist.tracking.tracker import Ending, RunFacts, Tracker

LOCK_SECONDS = 60.0
"""How long the feeder of an earlier attempt may take to end."""


def feed(run_path: Path, name: str, *, wait_for_more: Callable[[], bool] = lambda: False) -> Mark:
    """Give a dashboard all that a run folder holds and the dashboard does not have yet.

    Args:
        run_path: the run folder.
        name: of the dashboard, a key of `MODULES`.
        wait_for_more: called when everything is fed; it waits a little, and returns whether the run goes on.

    Returns:
        How far the dashboard is fed now.

    Raises:
        UserError: another process feeds it, or the run folder cannot be read.
        Exception: whatever the dashboard's library raises.
    """
    folder = RunFolder.open(run_path)
    (run_path / FOLDER).mkdir(exist_ok=True)
    with locked(run_path / FOLDER / f"{name}.lock", f"feeds {name}", seconds=LOCK_SECONDS):
        mark = read_mark(run_path, name)
        tracker = open_tracker(name, RunFacts(run_path, dict(flatten(load_saved_config(folder.config)))), mark.run_id)
        mark = dataclasses.replace(mark, run_id=tracker.run_id, url=tracker.url, error="")
        known = tracker.last_step()
        # Steps may have been sent and not marked, or marked and not sent, when the last feeder was killed.
        mark = _keep(run_path, name, mark if known is None else dataclasses.replace(mark, step=max(known, 0)))
        goes_on = True
        while goes_on:
            goes_on = wait_for_more()
            mark = _feed_new(folder, tracker, name, mark)
        return _end(folder, tracker, name, mark)


def open_tracker(name: str, facts: RunFacts, run_id: str) -> Tracker:
    """Open a dashboard by its name."""
    tracker: Tracker = importlib.import_module(MODULES[name]).open_tracker(facts, run_id)
    return tracker


def _feed_new(folder: RunFolder, tracker: Tracker, name: str, mark: Mark) -> Mark:
    points = points_after(folder.read_metrics(), mark.step)
    for point in points:
        tracker.log(point.step, point.values)
    if not points:
        return mark
    tracker.flush()
    return _keep(folder.path, name, dataclasses.replace(mark, step=points[-1].step))


def _end(folder: RunFolder, tracker: Tracker, name: str, mark: Mark) -> Mark:
    result = folder.read_result() or {}
    is_first_end = bool(result) and not mark.is_ended
    pictures = pictures_of(folder.path)
    if pictures is not None and pictures.epoch != mark.pictures_of:
        for title, picture in pictures.named.items():
            tracker.show_picture(max(mark.step, pictures.step), title, picture)
        mark = dataclasses.replace(mark, pictures_of=pictures.epoch)
    tracker.end(find_ending(folder.path), result if is_first_end else {})
    return _keep(folder.path, name, dataclasses.replace(mark, is_ended=bool(result)))


def find_ending(run_path: Path) -> Ending:
    """How the last attempt of a run ended. Call it after that."""
    state = summarise_run(run_path, quick=True, is_ended=True).state
    return "finished" if state == "finished" else "stopped" if state == "stopped" else "failed"


def note_error(run_path: Path, name: str, reason: str) -> None:
    """Write down why feeding failed, for the process that started the feeder."""
    with contextlib.suppress(UserError, OSError):
        write_mark(run_path, name, dataclasses.replace(read_mark(run_path, name), error=reason))


def _keep(run_path: Path, name: str, mark: Mark) -> Mark:
    write_mark(run_path, name, mark)
    return mark


def polling(is_over: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    """A function for `feed`: it waits some seconds or until `is_over`, and returns whether the run goes on."""

    def wait() -> bool:
        deadline = time.monotonic() + seconds
        while not is_over():
            if time.monotonic() >= deadline:
                return True
            time.sleep(min(0.1, seconds))
        return False

    return wait
