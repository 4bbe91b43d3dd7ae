"""Start a run on several processes of this machine: torchrun with its wiring done.

python -m launch.local --nproc 4 -- --config configs/signs.yaml
python -m launch.local --gpus 0,2,5,6 -- --config configs/signs.yaml optim.lr=0.05
"""

from __future__ import annotations

import contextlib
import dataclasses
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from signs_dist.command import CommandParser, run_command
from signs_dist.context import read_context
from signs_dist.devices import parse_gpus
from signs_dist.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, UserError
from signs_dist.interrupt import kill_tree

SECOND_SECONDS = 1.0
"""A second Ctrl-C within this time is the first one still."""
POLL_SECONDS = 0.1


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m launch.local",
        description="Train on several processes of this machine (DistributedDataParallel): one per GPU, or on the CPU. "
        "A free port, the devices, the threads and the log of each process are taken care of.",
        epilog="What follows `--` goes to signs_dist.train. Exit codes are those of signs_dist.train.",
    )
    parser.add_argument("--nproc", type=int, metavar="N", help="number of processes (default: one per GPU of --gpus)")
    parser.add_argument(
        "--gpus", metavar="0,2,5,6", help="which GPUs: numbers as nvidia-smi shows them, or GPU-… names (default: all)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and stop")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENTS", help="for signs_dist.train")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Launch as the arguments say."""
    own, rest = split_arguments(arguments)
    options = build_parser().parse_args(own)
    if options.arguments:
        raise UserError(
            f"{' '.join(options.arguments)}: what is for signs_dist.train goes behind --, such as: "
            f"python -m launch.local --nproc 4 -- {shlex.join(options.arguments)}"
        )
    context = read_context()
    if context.launcher != "python":
        raise UserError(
            f"launch.local starts processes itself: start it with plain python, not under {context.launcher}."
        )
    launch = plan_launch(
        nproc=options.nproc,
        gpus=options.gpus,
        arguments=rest,
        usable_cores=context.usable_cores,
        environment=os.environ,
    )
    if options.dry_run:
        print(launch.describe())
        return EXIT_OK
    return start(launch)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is before the first `--`, and what is behind it."""
    if "--" not in arguments:
        return list(arguments), []
    place = list(arguments).index("--")
    return list(arguments[:place]), list(arguments[place + 1 :])


@dataclasses.dataclass(frozen=True)
class Launch:
    """What is to be started.

    Attributes:
        num_processes: how many.
        variables: what is added to the environment.
        arguments: of signs_dist.train.
    """

    num_processes: int
    variables: Mapping[str, str]
    arguments: tuple[str, ...]

    def command(self, log_folder: Path) -> list[str]:
        """The command line of torchrun. Workers' standard error goes to files below `log_folder`, a folder each."""
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            *("--standalone", f"--nproc-per-node={self.num_processes}", "--max-restarts=0"),
            *(f"--log-dir={log_folder}", "--redirects=2"),
            *("-m", "signs_dist.train", *self.arguments),
        ]

    def describe(self) -> str:
        """The command as one would type it."""
        variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in self.variables.items())
        return f"{variables} {shlex.join(self.command(Path('LOGS')))}"


def plan_launch(
    *, nproc: int | None, gpus: str | None, arguments: Sequence[str], usable_cores: int, environment: Mapping[str, str]
) -> Launch:
    """Decide what to start.

    Args:
        nproc: `--nproc`, or None.
        gpus: `--gpus`, or None.
        arguments: of signs_dist.train.
        usable_cores: of this machine.
        environment: that of this process.

    Raises:
        UserError: numbers that do not fit each other.
    """
    variables = {}
    if gpus is not None:
        names = parse_gpus(gpus)
        if nproc is not None and nproc > len(names):
            raise UserError(
                f"--nproc {nproc} with --gpus {gpus}: {nproc} processes, but {len(names)} GPUs. "
                f"Type --nproc {len(names)}, or name {nproc} GPUs."
            )
        nproc = len(names) if nproc is None else nproc
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(names[:nproc])
    if nproc is None:
        raise UserError("how many processes? Type --nproc 4, or --gpus 0,1,2,3 for one per GPU.")
    if nproc < 1:
        raise UserError(f"--nproc {nproc}: at least 1.")
    if "--dp" in arguments:
        raise UserError("--dp is one process with several GPUs. Leave it away here: each process has a GPU of its own.")
    # torchrun would set 1 and warn about it.
    if "OMP_NUM_THREADS" not in environment:
        variables["OMP_NUM_THREADS"] = str(max(1, usable_cores // nproc))
    return Launch(nproc, variables, tuple(arguments))


def start(launch: Launch) -> int:
    """Start the processes, pass on what they say and what the user signals, and wait for their end."""
    folder = Path(tempfile.mkdtemp(prefix="signs_dist-launch-"))
    try:
        with (folder / "torchrun.log").open("w") as log:
            # A session of its own: Ctrl-C then reaches this process alone, which passes it on once.
            process = subprocess.Popen(
                launch.command(folder / "processes"),
                env={**os.environ, **launch.variables},
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        with _passing_signals(process) as signals, _following(folder / "processes"):
            code = _wait(process)
        if code == 0:
            return EXIT_OK
        report = (folder / "torchrun.log").read_text(errors="replace")
        if signals:
            return EXIT_INTERRUPTED if signals[0] == signal.SIGINT else 128 + signals[0]
        said = any(path.stat().st_size for path in (folder / "processes").rglob("stderr.log"))
        if not said:
            print(last_words(report), file=sys.stderr)
        return find_exit_code(report)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for torchrun; nothing that it started outlives it, whatever happens here."""
    try:
        return process.wait()
    finally:
        kill_tree(process.pid)
        process.wait()


@contextlib.contextmanager
def _passing_signals(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on to torchrun, which tells its workers; a second SIGINT ends all at once."""
    received: list[int] = []
    times: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if received and number == signal.SIGINT:
            if now - times[0] > SECOND_SECONDS:
                kill_tree(process.pid)
            return
        received.append(number)
        times.append(now)
        process.send_signal(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
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


if __name__ == "__main__":
    sys.exit(run_command(main))
