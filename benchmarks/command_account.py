"""Where the time of one whole training command goes: imports, config, images, steps, evaluation, report, exit.

python benchmarks/command_account.py -- --config configs/cs230.yaml data.root=PHOTOS train.epochs=5
python benchmarks/command_account.py --rounds 1 -- data.synthetic.train=64 train.epochs=1

The command runs as a process of its own, in a folder that is removed, with its functions wrapped: each stage has the
seconds by the clock, and the seconds on cores of this process, that no stage within it has. A save is written by a
thread beside the steps, so its processor time counts where the main thread is meanwhile. The report is written by a
process of its own, whose processor time is counted with it. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
OUTCOME = "SIGNS_DIST_ACCOUNT"
"""The variable that names the file into which the measured process writes its stages."""
START, END, REST = "Python's start", "Python's exit", "everything else"
STAGES: tuple[tuple[str, str, str], ...] = (
    ("signs_dist.training.run", "agree_on_folder", "run folder and lease"),
    ("signs_dist.training.run", "find_earlier_attempt", "run folder and lease"),
    ("signs_dist.training.prepare", "open_data_set", "list the images"),
    ("signs_dist.training.prepare", "open_split", "open or pack the images"),
    ("signs_dist.training.prepare", "build_model", "build the model"),
    ("signs_dist.training.prepare", "_require_logits", "try the model"),
    ("signs_dist.training.prepare", "try_own_code", "try the user's code"),
    ("signs_dist.training.run", "_make_run", "optimizer and loaders"),
    ("signs_dist.training.run", "_begin", "manifest and config"),
    ("signs_dist.training.run", "banner_lines", "banner"),
    ("signs_dist.training.run", "write_training_images", "picture of the training images"),
    ("signs_dist.training.run", "end_attempt", "end of the attempt"),
    ("signs_dist.training.run", "_write_report", "report"),
    ("signs_dist.training.trainer:Trainer", "_train_steps", "steps"),
    ("signs_dist.training.trainer:Trainer", "_evaluate", "evaluation"),
    ("signs_dist.training.trainer:Trainer", "_finish", "model.pt, predictions, result"),
    ("signs_dist.training.prediction_files:PredictionFiles", "write", "model.pt, predictions, result"),
    ("signs_dist.training.saver:Saver", "save", "saves, as far as they stop training"),
    ("signs_dist.training.saver:Saver", "wait", "saves, as far as they stop training"),
)
"""Module, or module:class; function; the stage that its time belongs to."""


class Account:
    """Seconds by stage.

    Attributes:
        seconds: name of a stage → pair (seconds by the clock, seconds on cores).
    """

    def __init__(self, begun: float) -> None:
        self.seconds: dict[str, tuple[float, float]] = {}
        self._stack = [START]
        self._clock, self._cores = begun, 0.0

    def enter(self, stage: str) -> None:
        """Begin a stage; the one around it pauses."""
        self._count()
        self._stack.append(stage)

    def leave(self) -> None:
        """End the stage that was begun last."""
        self._count()
        self._stack.pop()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage as long as the block."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The function, whose time belongs to a stage."""

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.stage(name):
                return function(*args, **kwargs)

        return wrapped

    def _count(self) -> None:
        clock, cores = time.monotonic(), time.process_time() + _seconds_of_children()
        before = self.seconds.get(self._stack[-1], (0.0, 0.0))
        self.seconds[self._stack[-1]] = (before[0] + clock - self._clock, before[1] + cores - self._cores)
        self._clock, self._cores = clock, cores


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_measured(arguments: Sequence[str], begun: float, outcome: Path) -> int:
    """Run the command `train` in this process, and write what its stages took. Returns its exit code.

    Args:
        arguments: of signs_dist.train.
        begun: `time.monotonic()` of the parent when it started this process.
        outcome: the file to write.
    """
    account = Account(begun)
    account.enter(REST)
    with account.stage("flags and config"):
        from signs_dist import train
        from signs_dist.console.command import run_command
        from signs_dist.environment.collector import importing

    def read_then_import(*args: Any, **kwargs: Any) -> Any:
        with account.stage("flags and config"):
            loaded = read(*args, **kwargs)
        with importing():  # as the command does
            with account.stage("import torch"):
                import torch  # noqa: F401
            with account.stage("import signs_dist and its libraries"):
                import signs_dist.training.start  # noqa: F401
        for place, name, stage in STAGES:
            module, _, of_class = place.partition(":")
            owner = __import__(module, fromlist=["_"])
            owner = getattr(owner, of_class) if of_class else owner
            setattr(owner, name, account.wrap(getattr(owner, name), stage))
        _wrap_first_step(account)
        return loaded

    read = train.read_decided_config
    train.read_decided_config = read_then_import
    sys.argv = ["signs_dist.train", *arguments]

    import atexit

    def write() -> None:
        """Registered first, so called last of what is registered."""
        account.leave()
        outcome.write_text(json.dumps({"ended": time.monotonic(), "stages": account.seconds}))

    atexit.register(write)
    return run_command(train.main)


def _wrap_first_step(account: Account) -> None:
    """Count the first step of the run, which prepares what later steps use, as a stage of its own."""
    from signs_dist.training.stepper import Stepper

    steps: Any = Stepper.steps

    def wrapped(self: Stepper, *args: Any, **kwargs: Any) -> Any:
        made = steps(self, *args, **kwargs)
        with account.stage("first step"):
            first = next(made, None)
        Stepper.steps = steps  # type: ignore[method-assign]
        if first is not None:
            yield first
        yield from made

    Stepper.steps = wrapped  # type: ignore[method-assign]


def measure(arguments: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Run the command once. Returns its stages."""
    with tempfile.TemporaryDirectory() as name:
        outcome = Path(name) / "stages.json"
        environment = {**os.environ, OUTCOME: f"{time.monotonic()} {outcome}", "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, str(Path(__file__).resolve()), *arguments, "--run-dir", str(Path(name) / "run")]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        told = json.loads(outcome.read_text())
    stages = {stage: (clock, cores) for stage, (clock, cores) in told["stages"].items()}
    cores = sum(cores for _, cores in stages.values())
    stages[END] = (ended - told["ended"], used.ru_utime + used.ru_stime - cores)
    return stages


def describe(rounds: Sequence[dict[str, tuple[float, float]]]) -> str:
    """A row for each stage, in the order in which they begin: medians, and the share of the whole."""
    names = list(rounds[0])
    medians = {
        name: tuple(statistics.median(stages.get(name, (0.0, 0.0))[place] for stages in rounds) for place in (0, 1))
        for name in names
    }
    whole = [statistics.median(sum(value[place] for value in stages.values()) for stages in rounds) for place in (0, 1)]
    rows = [f"{'':<40} {'clock':>8}    {'on cores':>8}"]
    rows += [
        f"{name:<40} {clock:8.3f} s  {cores:8.3f} s  {clock / whole[0]:4.0%}"
        for name, (clock, cores) in medians.items()
    ]
    return "\n".join([*rows, f"{'whole command':<40} {whole[0]:8.3f} s  {whole[1]:8.3f} s"])


def main(arguments: Sequence[str]) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="runs of the command (default: %(default)s)")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="of signs_dist.train")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as cache:
        given = [*options.arguments, f"data.cache={cache}"]
        measure(given)  # packs the images, and brings the libraries into memory
        print(describe([measure(given) for _ in range(options.rounds)]))
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    if OUTCOME in os.environ:
        BEGUN, _, FILE = os.environ.pop(OUTCOME).partition(" ")
        sys.exit(run_measured(sys.argv[1:], float(BEGUN), Path(FILE)))
    sys.exit(main(sys.argv[1:]))
