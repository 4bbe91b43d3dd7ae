"""The report that a training writes at its end, in a process of its own: nothing in it can end or fail the training."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from signs_dist.errors import EXIT_FAILED, EXIT_OK, CommandError
from signs_dist.monitoring.plain_text import one_line
from signs_dist.monitoring.signals import handled_signals
from signs_dist.reporting.writing import NAME, write_run_report

SWITCH = "SIGNS_DIST_REPORT"
"""An environment variable: with the value 0 no training writes its report, whatever `log.report` says: for tests."""
FINISHED_SECONDS = 60.0
"""How long the report of a finished run may take."""
ENDING_SECONDS = 15.0
"""The same after a stop or a failure: a scheduler kills what still runs 30 s after SIGTERM."""
_PROGRAM = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from signs_dist.reporting.after_training import main; sys.exit(main(sys.argv[2]))"
)
"""What the process runs. This package's folder comes last: nothing in it replaces a module of Python."""


def is_wanted(setting: bool, environment: Mapping[str, str]) -> bool:
    """Whether a training writes its report."""
    return setting and environment.get(SWITCH) != "0"


def seconds_for(*, is_finished: bool, timeout_seconds: float) -> float:
    """How long a report may take: a run's other processes wait at most `timeout_seconds` for the one that writes it."""
    return min(FINISHED_SECONDS if is_finished else ENDING_SECONDS, timeout_seconds / 2)


def report_after_training(path: Path, limit: float) -> str:
    """Write report.html of a run whose attempt has just ended, and return one line that says so, or why not.

    Signals that ask to stop do not reach the process that writes: it ends by itself, or after its time.

    Args:
        path: the run folder.
        limit: seconds after which the process is killed.
    """
    command = [sys.executable, "-c", _PROGRAM, str(Path(__file__).resolve().parents[2]), str(path)]
    try:
        with _stop_signals_blocked():
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        with process:
            try:
                _, errors = process.communicate(timeout=limit)
            except BaseException:  # out of time, or a second Ctrl-C
                process.kill()
                raise
    except subprocess.TimeoutExpired:
        return _no_report(path, f"it took longer than {limit:g} s")
    except (OSError, ValueError) as error:
        return _no_report(path, str(error))
    if process.returncode == 0:
        return f"report: {path / NAME}"
    return _no_report(path, why(process.returncode, errors.decode("utf-8", "replace")))


def why(code: int, errors: str) -> str:
    """Why the process wrote no report, in one line, from its exit code and its standard error."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
    lines = [line for line in errors.splitlines() if line.strip()]
    return one_line(lines[-1].removeprefix("error: "))[:300] if lines else f"its process ended with exit code {code}"


def _no_report(path: Path, reason: str) -> str:
    return f"no report was written: {reason.rstrip('.')}. To try again: python -m signs_dist.report {path}"


@contextlib.contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Within the block, signals that ask to stop wait in this thread; a process that it starts has them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(path: str) -> int:
    """Write the report of a run whose process still holds its folder. Returns the exit code."""
    signal.alarm(int(FINISHED_SECONDS))  # ends this process if the training was killed meanwhile
    try:
        write_run_report(Path(path), Path(path) / NAME, is_ended=True)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK
