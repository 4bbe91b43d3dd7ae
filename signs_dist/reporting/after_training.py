"""The report that a training writes at its end, in a process of its own: nothing in it can end or fail the training."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from signs_dist.environment.collector import importing
from signs_dist.errors import EXIT_FAILED, EXIT_OK, CommandError
from signs_dist.monitoring.plain_text import one_line
from signs_dist.monitoring.signals import handled_signals
from signs_dist.reporting import REPORT

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
_GO = b"\n"


def is_wanted(setting: bool, environment: Mapping[str, str]) -> bool:
    """Whether a training writes its report."""
    return setting and environment.get(SWITCH) != "0"


def seconds_for(*, is_finished: bool, timeout_seconds: float) -> float:
    """How long a report may take: a run's other processes wait at most `timeout_seconds` for the one that writes it."""
    return min(FINISHED_SECONDS if is_finished else ENDING_SECONDS, timeout_seconds / 2)


class ReportProcess:
    """The process that writes report.html of one run.

    Started before the run's last files are written, it imports meanwhile what it needs.

    Args:
        path: the run folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._failure = ""

    def start(self) -> None:
        """Start it, unless it is started. Signals that ask to stop do not reach it: it ends by itself, or is ended."""
        if self._process is not None or self._failure:
            return
        command = [sys.executable, "-c", _PROGRAM, str(Path(__file__).resolve().parents[2]), str(self._path)]
        try:
            with _stop_signals_blocked():
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
                )
        except (OSError, ValueError) as error:
            self._failure = str(error)

    def write(self, limit: float) -> str:
        """Let it write the report of a run whose attempt has just ended. Returns a line that says so, or why not.

        Args:
            limit: seconds after which the process is killed.
        """
        self.start()
        if self._process is None:
            return self._no_report(self._failure)
        try:
            _, errors = self._process.communicate(_GO, timeout=limit)
        except subprocess.TimeoutExpired:
            return self._no_report(f"it took longer than {limit:g} s")
        except (OSError, ValueError) as error:
            return self._no_report(str(error))
        finally:
            self.close()
        if self._process.returncode == 0:
            return f"report: {self._path / REPORT}"
        return self._no_report(why(self._process.returncode, errors.decode("utf-8", "replace")))

    def close(self) -> None:
        """End it: the report is written, out of time, or not wanted; or a second Ctrl-C has come."""
        if self._process is None:
            return
        with contextlib.ExitStack() as cleanup:
            for stream in (self._process.stdin, self._process.stderr):
                if stream is not None:
                    cleanup.callback(stream.close)
            cleanup.callback(self._process.wait)
            cleanup.callback(self._process.kill)  # no effect on one that has ended

    def _no_report(self, reason: str) -> str:
        return f"no report was written: {reason.rstrip('.')}. To try again: python -m signs_dist.report {self._path}"


def why(code: int, errors: str) -> str:
    """Why the process wrote no report, in one line, from its exit code and its standard error."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"its process was ended by {signal.Signals(-code).name}"
    lines = [line for line in errors.splitlines() if line.strip()]
    return one_line(lines[-1].removeprefix("error: "))[:300] if lines else f"its process ended with exit code {code}"


@contextlib.contextmanager
def _stop_signals_blocked() -> Iterator[None]:
    """Within the block, signals that ask to stop wait in this thread; a process that it starts has them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handled_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(path: str) -> int:
    """Prepare, wait for the word of the training, and write the report of its run. Returns the exit code.

    The training's process still holds the run folder. If it ends without the word, so does this process.
    """
    with importing():
        from signs_dist.reporting.drawing import start_engine
        from signs_dist.reporting.page import make_environment
        from signs_dist.reporting.writing import write_run_report

        make_environment().get_template("run.html")
        start_engine()
    if not sys.stdin.buffer.read(1):
        return EXIT_OK
    signal.alarm(int(FINISHED_SECONDS))  # ends this process if the training is killed meanwhile
    try:
        write_run_report(Path(path), Path(path) / REPORT, is_ended=True)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK
