"""torchrun on this machine: how it is started, told of signals, listened to and ended, and what its report says."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from signs_dist.environment.process_table import find_descendants, is_alive, kill_tree, process_state, read_birth
from signs_dist.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_STOPPED
from signs_dist.monitoring.heartbeat import ORPHAN_SECONDS
from signs_dist.monitoring.signals import SCHEDULER_SIGNALS

SECOND_SECONDS = 1.0
"""A second Ctrl-C within this time is the first one still."""
POLL_SECONDS = 0.1
SHUTDOWN_TIMEOUT = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
"""torchrun's variable (torch 2.14 has it): seconds that processes have after a stop signal; without it, 30."""
HANDLED_SIGNALS = "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"
"""torchrun's flag (torch 2.14 has it): what it passes on to its processes. By default SIGUSR2 is not among them."""
OWN_SIGNAL_SECONDS = 1.5
"""After a signal to this process: by then it is seen whether torchrun has got it as well."""
PR_SET_PDEATHSIG = 1
"""The number of prctl(2)'s option that sends a process a signal when its parent ends."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """What is to be started.

    Attributes:
        num_processes: how many.
        variables: what is added to the environment.
        arguments: of signs_dist.train.
        max_restarts: how often all are started again when one breaks.
        rendezvous: torchrun's flags on where it meets those of other machines.
        program: what each process runs before these arguments.
        folder: where torchrun is started; None: here.
        shutdown_seconds: after a stop signal, until torchrun kills processes that have not ended; None: its default.
    """

    num_processes: int
    variables: Mapping[str, str]
    arguments: tuple[str, ...]
    max_restarts: int = 0
    rendezvous: tuple[str, ...] = ("--standalone",)
    program: tuple[str, ...] = ("-m", "signs_dist.train")
    folder: str | None = None
    shutdown_seconds: int | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What torchrun is to find in its environment beside what is there."""
        given = dict(self.variables)
        # What torchrun warns of is read here.
        if os.environ.get("LOGLEVEL", "WARNING").upper() not in ("DEBUG", "INFO", "WARNING"):
            given["LOGLEVEL"] = "WARNING"
        # An older release does not look at it, and its processes would rely on it.
        if self.shutdown_seconds is not None and torchrun_knows(SHUTDOWN_TIMEOUT):
            given[SHUTDOWN_TIMEOUT] = str(self.shutdown_seconds)
        return given

    def command(self, log_folder: Path) -> list[str]:
        """The command line of torchrun. Workers' standard error goes to files below `log_folder`, a folder each."""
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            *([HANDLED_SIGNALS] if torchrun_knows(HANDLED_SIGNALS.partition("=")[0]) else []),
            *(*self.rendezvous, f"--nproc-per-node={self.num_processes}", f"--max-restarts={self.max_restarts}"),
            *(f"--log-dir={log_folder}", "--redirects=2"),
            *(*self.program, *self.arguments),
        ]

    def describe(self) -> str:
        """The command as one would type it."""
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.variables.items())
        return f"{variables} {shlex.join(self.command(Path('LOGS')))}"


def start(launch: Launch, on_signal: Callable[[int], None] = lambda number: None) -> int:
    """Start the processes, pass on what they say and what the user signals, and wait for their end.

    Args:
        launch: what to start.
        on_signal: hears the number of the first signal that asks to stop.
    """
    folder = Path(tempfile.mkdtemp(prefix="signs_dist-launch-"))
    try:
        with (folder / "torchrun.log").open("w") as log:
            # A session of its own: Ctrl-C then reaches this process alone, which passes it on once.
            process = subprocess.Popen(
                launch.command(folder / "processes"),
                env={**os.environ, **launch.environment},
                cwd=launch.folder,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        with _passing_signals(process, on_signal, folder / "torchrun.log") as signals, _following(folder / "processes"):
            code = _wait(process)
        if code == 0:
            return EXIT_OK
        if code < 0 and not signals:
            print(
                f"error: torchrun, which looks after the processes, was ended by signal {-code} "
                f"({signal.Signals(-code).name}); they have been stopped as well. Nothing that was saved is lost: the "
                f"same command with the same --run-dir goes on.",
                file=sys.stderr,
            )
            return 128 - code
        report = (folder / "torchrun.log").read_text(errors="replace")
        if signals and has_stopped(folder / "processes"):
            return EXIT_STOPPED
        if signals:
            return EXIT_INTERRUPTED if signals[0] == signal.SIGINT else 128 + signals[0]
        said = any(path.stat().st_size for path in (folder / "processes").rglob("stderr.log"))
        if not said:
            print(last_words(report), file=sys.stderr)
        return find_exit_code(report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def torchrun_knows(word: str) -> bool:
    """Whether this release of torchrun knows a flag or a variable. torch is not imported for it: that takes seconds."""
    found = importlib.util.find_spec("torch")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        with contextlib.suppress(OSError):
            source = (Path(folder) / "distributed" / "run.py").read_text(encoding="utf-8")
            return word in source
    return False


def _end_with_parent() -> None:
    """Called in the new process: torchrun gets SIGTERM if this one is killed, and stops its workers then."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for torchrun; nothing that it started outlives it, whatever happens here."""
    workers: list[tuple[int, str]] = []
    try:
        while process.poll() is None:
            # Asked for while it lives: once it is gone, nothing tells whose children these were.
            workers = [(pid, read_birth(pid)) for pid in find_descendants(process.pid)] or workers
            time.sleep(POLL_SECONDS)
        return process.returncode
    finally:
        kill_tree(process.pid)
        process.wait()
        _end_orphans(workers)


def _end_orphans(workers: Sequence[tuple[int, str]]) -> None:
    """Wait for what a torchrun that was killed has left behind: it stops by itself, or is killed."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (left := [one for one in workers if is_alive(*one)]) and time.monotonic() < deadline:
        if all(process_state(pid) == "stopped" for pid, _ in left):
            break  # by SIGSTOP: these cannot end by themselves
        time.sleep(POLL_SECONDS)
    for pid, _ in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _passing_signals(
    process: subprocess.Popen[bytes], on_signal: Callable[[int], None], log: Path
) -> Iterator[list[int]]:
    """Pass on to torchrun what asks to stop, and it tells its workers; a second SIGINT ends all at once.

    SIGUSR2 is passed on as SIGTERM to a torchrun that would end by it and leave its workers.

    Args:
        process: torchrun.
        on_signal: hears the number of the first one.
        log: what torchrun says.
    """
    forwards = torchrun_knows(HANDLED_SIGNALS.partition("=")[0])
    timers: list[threading.Timer] = []
    received: list[int] = []
    times: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if received and number == signal.SIGINT:
            if now - times[0] > SECOND_SECONDS:
                kill_tree(process.pid)
            return
        if not received:  # later ones may come from a launcher that ends the tasks which are not yet done
            on_signal(number)
        received.append(number)
        times.append(now)
        if number == signal.SIGUSR2 and forwards:
            timer = threading.Timer(OWN_SIGNAL_SECONDS, pass_on_unless_known)
            timer.daemon = True
            timers.append(timer)
            timer.start()
        else:
            process.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)

    def pass_on_unless_known() -> None:
        # SLURM signals every process of a step. A second SIGUSR2 would break off what torchrun does at the first, and
        # it would go on with SIGTERM, and with its default for how long processes may take.
        with contextlib.suppress(OSError):
            if b"death signal" not in log.read_bytes():
                process.send_signal(signal.SIGUSR2)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, *SCHEDULER_SIGNALS)}
    try:
        yield received
    finally:
        for timer in timers:
            timer.cancel()
        if received:
            # Stopping already: srun sends SIGTERM as soon as one of its tasks has ended, and it may be another's turn.
            before |= dict.fromkeys(SCHEDULER_SIGNALS, signal.SIG_IGN)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _following(folder: Path) -> Iterator[None]:
    """Copy what the workers write to their standard error to this process's, as it comes."""
    done = threading.Event()
    places: dict[Path, int] = {}

    def copy() -> None:
        for path in sorted(folder.rglob("stderr.log")):
            with path.open("rb") as stream:
                stream.seek(places.get(path, 0))
                text = stream.read()
            places[path] = places.get(path, 0) + len(text)
            sys.stderr.write(text.decode(errors="replace"))
        sys.stderr.flush()

    def follow() -> None:
        while not done.wait(POLL_SECONDS):
            copy()

    thread = threading.Thread(target=follow, name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        copy()


def has_stopped(folder: Path) -> bool:
    """Whether a process has saved and ended as a scheduler's signal asks: torchrun does not report that."""
    for path in folder.rglob("error.json"):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            if json.loads(path.read_text(encoding="utf-8"))["message"]["errorCode"] == EXIT_STOPPED:
                return True
    return False


def find_exit_code(report: str) -> int:
    """The exit code of the process that failed first, from torchrun's report; 128 + N for signal N."""
    root = report[report.rfind("Root Cause") :]
    found = re.search(r"exitcode\s*:\s*(-?\d+)", root)
    if found is None:
        return EXIT_FAILED
    code = int(found[1])
    return 128 - code if code < 0 else code


def last_words(report: str) -> str:
    """What to show of torchrun's report where no worker has said anything."""
    root = report[report.rfind("Root Cause") :] if "Root Cause" in report else ""
    message = root.partition("traceback :")[2] or report
    lines = [line for line in message.strip().splitlines() if set(line.strip()) != {"="}]
    return "\n".join(lines[-40:])
