"""The processes of a sweep: each trains one run, in a session of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from signs_dist.environment.process_table import kill_tree
from signs_dist.environment.subprocesses import last_lines
from signs_dist.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_STOPPED
from signs_dist.results.summary import summarise_run
from signs_dist.searching import bound_program
from signs_dist.searching.places import Place

STOPPED_CODES = (EXIT_STOPPED, EXIT_INTERRUPTED, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""Exit codes of a training that a signal stopped; negative ones before Python handled signals."""
ERROR = "error: "
CARD_ERROR = " error  "
"""What the line with the error begins with in a card that `failure_card.render` makes."""
LONGEST_REASON = 200
"""Of a reason in a table, in characters. The whole error is in the run's output."""


class Job:
    """A training that has been started. No signal of a terminal reaches it: the sweep passes on what stops it.

    Args:
        command: the command line; its first word is the path of a program.
        place: the part of the machine that it gets.
        output: the file that gets what it prints.
        environment: of this process.
    """

    def __init__(self, command: Sequence[str], place: Place, output: Path, environment: Mapping[str, str]) -> None:
        cores = ",".join(map(str, place.cores))
        # -I and -S: without the packages and the start-up files of a person, which it does not need.
        bound = [sys.executable, "-I", "-S", str(bound_program.__file__), str(os.getpid()), cores]
        with output.open("w", encoding="utf-8") as stream:
            self._process = subprocess.Popen(
                [*bound, *command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**environment, **place.variables()},
            )
        self.is_stopping = False

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to save at the next step and to end."""
        if not self.is_stopping:
            self.is_stopping = True
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it and its workers at once; its run resumes from its newest checkpoint."""
        if self._process.poll() is None:
            kill_tree(self._process.pid)
            self._process.wait()


def explain_failure(code: int, run_path: Path, output: Path) -> str:
    """Why a training that ended with this exit code failed, on one line."""
    lines = last_lines(output)
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    # Of a failure before the run has a folder, as in a module that cannot be imported, only the printed card tells.
    errors = errors or [line.removeprefix(CARD_ERROR) for line in lines if line.startswith(CARD_ERROR)]
    why = errors[-1] if errors else summarise_run(run_path).why
    if not why or why in ("killed", "stopped"):
        why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return why if len(why) <= LONGEST_REASON else f"{why[: LONGEST_REASON - 2]} …"


def is_stop(code: int) -> bool:
    """Whether an exit code says that a signal stopped a training that was not finished."""
    return code in STOPPED_CODES or code == EXIT_OK
