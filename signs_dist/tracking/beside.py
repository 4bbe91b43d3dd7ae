"""The processes that feed dashboards beside a training process.

A feeder ends when the training process closes the pipe to it, or ends in whichever way. It is in a session of its own:
a signal to the training's process group does not reach it before the last lines are written.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from signs_dist.environment.subprocesses import with_own_modules
from signs_dist.monitoring.waiting import telling
from signs_dist.run_folder.folder import RunFolder
from signs_dist.tracking.marks import read_mark

END_SECONDS = 60.0
"""How long all feeders together may take after a run is finished. Then they are killed."""
STOP_SECONDS = 5.0
"""The same after an attempt that stopped or failed: SLURM kills soon after it asks to stop, and the next attempt sends
the rest."""


MOST_LETTERS = 160
"""Of the reason that a run's last lines give. The log has all of it."""


@contextlib.contextmanager
def fed_dashboards(
    folder: RunFolder,
    names: Sequence[str],
    tell: Callable[[str], None],
    *,
    end_seconds: float = END_SECONDS,
    stop_seconds: float = STOP_SECONDS,
) -> Iterator[None]:
    """Within the block, processes feed dashboards from a run folder. The block's end waits until they have the rest.

    Nothing here raises: a dashboard never stops a run.

    Args:
        folder: the run folder. Where this process does not write into it, nothing is started.
        names: of the dashboards.
        tell: gets a line for each dashboard at the end.
        end_seconds: how long the end waits if the run is finished.
        stop_seconds: how long it waits if not.
    """
    feeders = [_Feeder(folder, name) for name in names] if folder.is_writer else []
    try:
        yield
    finally:
        deadline = time.monotonic() + (end_seconds if feeders and folder.is_finished else stop_seconds)
        for feeder in feeders:
            feeder.close()
        for feeder in feeders:
            tell(feeder.wait(deadline, tell))


def feeder_command(run_path: Path, name: str) -> list[str]:
    """The command line of a feeder."""
    return [sys.executable, "-m", "signs_dist.track", str(run_path), "--to", name, "--until-closed"]


class _Feeder:
    """A process that feeds one dashboard."""

    def __init__(self, folder: RunFolder, name: str) -> None:
        self._run_path, self._name = folder.path, name
        self._log = folder.logs / f"track-{name}.log"
        self._failure = ""
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    feeder_command(folder.path, name),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=with_own_modules(os.environ, sys.path),
                )
        except OSError as error:
            self._failure = f"it did not start: {error}"

    def close(self) -> None:
        """Tell it that no line follows."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):  # it has ended
                self._process.stdin.close()

    def wait(self, deadline: float, tell: Callable[[str], None]) -> str:
        """Wait until it has ended, and kill it at the deadline. Returns what to tell."""
        if self._process is None:
            return self._describe(self._failure)
        with telling(lambda: f"waits until {self._name} has the last numbers", tell=tell):
            try:
                code = self._process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
                return self._describe("it took too long, as without a network")
        return self._describe("" if code == 0 else _reason(self._run_path, self._name, self._log, code))

    def _describe(self, failure: str) -> str:
        if not failure:
            url = read_mark(self._run_path, self._name).url
            return f"{self._name} has the run{f': {url}' if url else ''}"
        again = f"python -m signs_dist.track {self._run_path} --to {self._name}"
        return f"{self._name} does not have all of the run: {failure}. Log: {self._log}. To send the rest: {again}"


def _reason(run_path: Path, name: str, log: Path, code: int) -> str:
    """Why a feeder failed: what it noted, else the last line of its log, else its exit code."""
    noted = read_mark(run_path, name).error
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        noted = noted or next((line.strip() for line in reversed(lines) if line.strip()), "")
    reason = (noted or f"it ended with exit code {code}").rstrip(".")
    return reason if len(reason) <= MOST_LETTERS else f"{reason[: MOST_LETTERS - 1]}…"
