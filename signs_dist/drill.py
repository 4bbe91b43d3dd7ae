"""Kill a short run again and again, on changing numbers of processes, and show that nothing is lost.

python -m signs_dist.drill --config configs/signs.yaml --world-size 2 --kills 5
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, add_config_arguments, run_command
from signs_dist.environment.process_table import find_descendants, process_state
from signs_dist.environment.subprocesses import TAIL_LINES, failure_of, launch_command, started
from signs_dist.errors import EXIT_FAILED, EXIT_OK, TrainingFailedError, UserError
from signs_dist.monitoring.beats import read_beats
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.sample_log import find_repeated, read_samples

if TYPE_CHECKING:
    from signs_dist.config.settings import Config

START_SECONDS = 600.0
"""For an attempt to do its next step; a large data set takes long to open."""
END_SECONDS = 120.0
"""For a killed or stopped attempt to end."""
SHARE_AT_START = 0.15
"""How many of the kills come while the processes are still starting."""
POLL_SECONDS = 0.005
MEASURED = ("images_per_second", "data_wait_share", "stall_seconds", "last_write_seconds")
"""Numbers of metrics.jsonl that tell of the machine, not of the run."""
MEANS = ("KILL one rank", "KILL all", "TERM all", "USR2 one rank", "KILL in a save")
STAGES = (
    *("open", "quarter 1", "quarter 2", "quarter 3", "quarter 4", "flushed"),
    *("before rename", "after rename", "before rotation"),
)
"""Places in a save to break off at."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.drill",
        description="Train a short run uninterrupted, then kill the same run at random places by random means, going "
        "on each time on another number of processes, and compare both: samples, metrics, weights. The run is "
        "shortened to train.epochs=2 of train.epoch_steps=20 and made exact=true; settings behind the flags win.",
        epilog="Exit codes: 0 nothing was lost, 1 something was, 2 wrong input.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--world-size",
        type=int,
        metavar="N",
        help="processes of the uninterrupted run (default: 2, or 1 where there is one GPU)",
    )
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="how often to kill (default: 5)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="over how many runs (default: 1)")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat the choices of a drill (default: random)")
    parser.add_argument("--dir", type=Path, metavar="DIR", help="keep the runs in this new folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what happened to a file as well")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Drill as the arguments say."""
    if arguments and arguments[0] == "--break-off":
        return train_and_break_off(arguments[1], int(arguments[2]), Path(arguments[3]), arguments[4:])
    options = build_parser().parse_intermixed_args(arguments)
    for name in ("world_size", "kills", "runs"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name)}: at least 1.")
    if options.dir is not None and options.dir.exists():
        raise UserError(f"--dir {options.dir} exists. Name a new folder, or leave --dir away.")

    import torch

    from signs_dist.config.reading import load_config
    from signs_dist.environment.context import read_context

    if read_context().world_size > 1:
        raise UserError("the drill starts its own processes: start it with plain python, without torchrun or srun.")
    config = load_config(options.config, options.overrides).config
    num_gpus = torch.cuda.device_count()
    world_size = options.world_size or min(2, num_gpus or 2)
    settings = drill_settings(config, options.overrides, world_size)
    overrides = [*options.overrides, *settings]
    config = load_config(options.config, overrides).config
    sizes = choose_sizes(config, world_size, num_gpus)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed

    print(f"settings: {' '.join(settings)}; choices by --seed {seed}", flush=True)
    root = options.dir or Path(tempfile.mkdtemp(prefix="signs_dist-drill-"))
    root.mkdir(parents=True, exist_ok=True)
    config_arguments = (["--config", str(options.config)] if options.config else []) + overrides
    drill = Drill(root, config_arguments, sizes, random.Random(seed), is_balanced=config.data.order == "balanced")
    try:
        verdicts = drill.run(world_size, options.kills, options.runs)
    except TrainingFailedError:
        print(f"the runs are in {root}")
        raise
    passed = all(not verdict.differences for verdict in verdicts)
    if options.json is not None:
        from signs_dist.files import write_json

        rows = [dataclasses.asdict(kill) for kill in drill.kills]
        write_json(options.json, {"seed": seed, "passed": passed, "kills": rows, "runs": list(map(vars, verdicts))})
    print(describe_verdicts(verdicts, len(drill.kills)))
    if options.dir is None and passed:
        shutil.rmtree(root)
    else:
        print(f"the runs are in {root}")
    return EXIT_OK if passed else EXIT_FAILED


def drill_settings(config: Config, overrides: Sequence[str], world_size: int) -> list[str]:
    """The settings that make a run short, exact and watched, but those that were given by hand."""
    given = {override.partition("=")[0] for override in overrides}
    wanted: dict[str, Any] = {
        "exact": "true",
        "train.epochs": 2,
        "train.epoch_steps": 20,
        "log.every_steps": 1,
        "log.samples": "true",
        "checkpoint.every_steps": 3,
    }
    epochs = config.train.epochs if "train.epochs" in given else 2
    if config.train.micro_batch is None:
        batch = config.train.global_batch
        wanted["train.micro_batch"] = next(
            batch // count for count in range(min(world_size + 1, batch), batch + 1) if batch % count == 0
        )
    if config.schedule.name != "one_cycle" and config.schedule.warmup_epochs >= epochs:
        wanted["schedule.warmup_epochs"] = epochs / 2
    return [f"{name}={value}" for name, value in wanted.items() if name not in given]


def choose_sizes(config: Config, world_size: int, num_gpus: int) -> list[int]:
    """The numbers of processes to go on with: 1 to one more than `world_size`, as far as there are micro-batches, and
    GPUs where there are any."""
    if not config.exact or not config.log.samples or config.log.every_steps != 1:
        raise UserError("the drill needs exact=true, log.samples=true and log.every_steps=1: leave these away.")
    assert config.train.micro_batch is not None
    count = config.train.global_batch // config.train.micro_batch
    if world_size > count:
        raise UserError(
            f"--world-size {world_size}: train.global_batch={config.train.global_batch} has {count} micro-batches of "
            f"{config.train.micro_batch}. Type --world-size {count}, or a smaller train.micro_batch."
        )
    if world_size > (num_gpus or world_size):
        raise UserError(
            f"--world-size {world_size}: each process takes a GPU, and this machine shows {num_gpus}. "
            f"Type --world-size {num_gpus}, or set CUDA_VISIBLE_DEVICES to nothing for a drill on the CPU."
        )
    return list(range(1, min(world_size + 1, count, num_gpus or count) + 1))


@dataclasses.dataclass(frozen=True)
class Kill:
    """One attempt and how it ended.

    Attributes:
        run, attempt: numbers from 1.
        world_size: its processes.
        means: how it was killed, or "finished" where it was done before.
        first_step: of the run, where it began.
        last_step: the last in metrics.jsonl at its end.
        exit_code: of the launcher.
        seconds: from its start to its end.
    """

    run: int
    attempt: int
    world_size: int
    means: str
    first_step: int
    last_step: int
    exit_code: int
    seconds: float

    def describe(self) -> str:
        """A line of the table."""
        return (
            f"{self.run:>3}  {self.attempt:>7}  {self.world_size:>9}  {self.means:<32}  {self.first_step:>5}  "
            f"{self.last_step:>5}  {self.exit_code:>4}  {self.seconds:>5.0f} s"
        )


TABLE_HEAD = f"{'run':>3}  {'attempt':>7}  {'processes':>9}  {'ended by':<32}  {'from':>5}  {'to':>5}  {'code':>4}"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A killed run beside the uninterrupted one.

    Attributes:
        run: its number.
        num_steps: of the whole run.
        weights_sha256: of its final weights.
        differences: what was lost; empty for nothing.
    """

    run: int
    num_steps: int
    weights_sha256: str
    differences: list[str]


class Drill:
    """The uninterrupted run and the killed ones.

    Args:
        root: folder for the runs.
        arguments: `--config` and settings for signs_dist.train.
        sizes: numbers of processes to go on with.
        choose: makes all choices.
        is_balanced: whether samples may repeat within an epoch.

    Attributes:
        kills: what was done, an entry per attempt that was killed.
    """

    def __init__(
        self, root: Path, arguments: Sequence[str], sizes: Sequence[int], choose: random.Random, *, is_balanced: bool
    ) -> None:
        self.root, self.arguments, self.sizes, self.choose = root, list(arguments), list(sizes), choose
        self.is_balanced = is_balanced
        self.kills: list[Kill] = []
        self._means: list[str] = []

    def run(self, world_size: int, num_kills: int, num_runs: int) -> list[Verdict]:
        """Do it all: each run is killed its share of `num_kills`, and there are more if some ended too early."""
        word = "process" if world_size == 1 else "processes"
        print(f"training without interruption on {world_size} {word} …", flush=True)
        whole = RunFolder(self.root / "whole")
        self._attempt(whole, 0, 1, world_size, None)
        total = _last_step(whole)
        print(TABLE_HEAD, flush=True)
        verdicts: list[Verdict] = []
        while len(self.kills) < num_kills or len(verdicts) < num_runs:
            number = len(verdicts) + 1
            share = max(1, -(-(num_kills - len(self.kills)) // max(1, num_runs - len(verdicts))))
            folder = self._kill_run(number, min(share, max(0, num_kills - len(self.kills))), total)
            verdicts.append(compare(whole, folder, number, is_balanced=self.is_balanced))
        return verdicts

    def _kill_run(self, number: int, num_kills: int, total: int) -> RunFolder:
        folder = RunFolder(self.root / f"run{number}")
        before = 0
        for attempt in range(1, num_kills + 2):
            world_size = self.choose.choice([size for size in self.sizes if size != before] or self.sizes)
            before = world_size
            means = self._next_means() if attempt <= num_kills else None
            kill = self._attempt(folder, number, attempt, world_size, means, total, num_kills - attempt)
            print(kill.describe(), flush=True)
            if kill.means == "finished":
                break
            self.kills.append(kill)
        return folder

    def _next_means(self) -> str:
        """Each of the means once, in another order each time."""
        if not self._means:
            self._means = list(MEANS)
            self.choose.shuffle(self._means)
        return self._means.pop()

    def _attempt(
        self,
        folder: RunFolder,
        run: int,
        attempt: int,
        world_size: int,
        means: str | None,
        total: int = 0,
        num_later: int = 0,
    ) -> Kill:
        """One attempt, killed by some means, or to its end; `num_later` kills are to follow in the same run."""
        begun, first = time.monotonic(), _last_saved(folder)
        train = ["--run-dir", str(folder.path), "--quiet", *self.arguments]
        reach = max(1, min(total - first - 1, 2 * (total - first) // (num_later + 2)))  # leaves some for later kills
        output = self.root / f"run{run}-attempt{attempt}.log"
        mark = output.with_suffix(".killed").absolute()  # the processes may stand elsewhere
        module, told = "signs_dist.train", means or "finished"
        if means == "KILL in a save":
            stage, number = self.choose.choice(STAGES), self.choose.randint(1, max(1, reach // 3))
            module, train = "signs_dist.drill", ["--break-off", stage, str(number), str(mark), *train]
            told = f"KILL in save {number} ({stage})"
        # A place to be killed at that is not reached any more ends the run; that is found out below.
        target = first + self.choose.randint(1, reach)
        patience = self.choose.uniform(0.5, 5) if self.choose.random() < SHARE_AT_START else START_SECONDS
        starts = _num_starts(folder)
        with started(launch_command(module, world_size, train), output) as process:
            if means not in (None, "KILL in a save"):
                begun_at = time.monotonic()
                _wait_until(
                    lambda: (
                        (_num_starts(folder) > starts and _last_step(folder) >= target)
                        or process.poll() is not None
                        or time.monotonic() - begun_at > patience
                    ),
                    START_SECONDS,
                    output,
                )
                time.sleep(self.choose.uniform(0, 0.05))
                tree = [process.pid, *find_descendants(process.pid)]
                if process.poll() is None:
                    told = self._strike(folder, tree, str(means))
                    mark.touch()
                _wait_until(lambda: process.poll() is not None, END_SECONDS, output)
                process.wait()
                _wait_until(lambda: all(process_state(pid) == "gone" for pid in tree), END_SECONDS, output)
            else:
                _wait_until(lambda: process.poll() is not None, START_SECONDS + total, output)
            code = process.wait()
        if folder.is_finished:
            told = "finished"
        elif not mark.exists() or code in (0, 2):  # nobody killed it, or it does not look so
            raise failure_of(f"attempt {attempt} of run {run}" if run else "the run", code, output)
        return Kill(run, attempt, world_size, told, first, _last_step(folder), code, round(time.monotonic() - begun, 1))

    def _strike(self, folder: RunFolder, tree: Sequence[int], means: str) -> str:
        """Send the signals to processes of the tree; returns what was done."""
        ranks = {rank: beat.identity.pid for rank, beat in read_beats(folder.logs).items() if beat.identity.pid in tree}
        word, _, to = means.partition(" ")
        number = {"KILL": signal.SIGKILL, "TERM": signal.SIGTERM, "USR2": signal.SIGUSR2}[word]
        rank = self.choose.choice(sorted(ranks)) if ranks and to == "one rank" else None
        for pid in tree if rank is None else [ranks[rank]]:
            _send(pid, number)
        return f"{word} to {'all processes' if rank is None else f'rank {rank}'}"


def train_and_break_off(stage: str, number: int, mark: Path, arguments: Sequence[str]) -> int:
    """Be a process of a run that is killed at a stage of its save of some number; `mark` is a file made before that."""
    from signs_dist.train import main as train

    seen = 0

    def at_stage(now: str) -> None:
        nonlocal seen
        seen += now == stage
        if seen == number:
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return train(arguments, at_stage)


def compare(whole: RunFolder, killed: RunFolder, number: int, *, is_balanced: bool) -> Verdict:
    """Compare a killed run with the uninterrupted one."""
    differences = []
    expected, found = read_samples(whole.logs), read_samples(killed.logs)
    if found != expected:
        places = [place for place in sorted({*expected, *found}) if expected.get(place) != found.get(place)]
        differences.append(f"other samples at {len(places)} steps, first at epoch {places[0][0]} step {places[0][1]}")
    if not is_balanced and (repeated := find_repeated(found)):
        differences.append(f"samples repeated at epoch {repeated[0][0]} step {repeated[0][1]}")
    if (lines := _metrics(killed)) != _metrics(whole):
        differences.append(f"other metrics: {_first_difference(_metrics(whole), lines)}")
    if broken := sorted(path.name for path in killed.checkpoints.glob("*.broken")):
        differences.append(f"checkpoints that could not be read: {', '.join(broken)}")
    results = [json.loads(folder.result.read_text(encoding="utf-8")) for folder in (whole, killed)]
    for name in ("weights_sha256", "val_loss", "val_confusion", "best_epoch", "steps"):
        if results[0][name] != results[1][name]:
            differences.append(f"{name}: {results[0][name]} → {results[1][name]}")
    return Verdict(number, len(expected), results[1]["weights_sha256"], differences)


def describe_verdicts(verdicts: Sequence[Verdict], num_kills: int) -> str:
    """The comparison and the verdict."""
    lines = ["", f"{'run':>3}  {'compared with the uninterrupted run':<50}  weights_sha256"]
    for verdict in verdicts:
        same = f"{verdict.num_steps} steps: samples, metrics, weights equal"
        told = verdict.differences[0] if verdict.differences else same
        lines.append(f"{verdict.run:>3}  {told:<50}  {verdict.weights_sha256[:16]}")
        lines += [f"     {more}" for more in verdict.differences[1:]]
    failed = sum(1 for verdict in verdicts if verdict.differences)
    word = "FAIL" if failed else "PASS"
    runs = f"{len(verdicts)} run{'s' if len(verdicts) > 1 else ''}"
    outcome = f"{failed} of {runs} differ" if failed else f"{runs}, nothing lost"
    return "\n".join([*lines, f"{word}: {num_kills} kill{'s' if num_kills > 1 else ''}, {outcome}"])


def _metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl but what depends on the machine and on when it was saved."""
    lines = [line for line in folder.read_lines(folder.metrics) if line["kind"] != "save"]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in lines]


def _first_difference(expected: Sequence[Any], found: Sequence[Any]) -> str:
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return f"{json.dumps(one)} → {json.dumps(other)}"
    return f"{len(expected)} lines → {len(found)}"


def _num_starts(folder: RunFolder) -> int:
    return sum(1 for line in folder.read_lines(folder.attempts) if line["event"] == "start")


def _last_step(folder: RunFolder) -> int:
    """The last step in metrics.jsonl."""
    return max((line["step"] for line in folder.read_lines(folder.metrics)), default=0)


def _last_saved(folder: RunFolder) -> int:
    """The step of the run that the newest checkpoint is from, by metrics.jsonl."""
    saves = [line["step"] for line in folder.read_lines(folder.metrics) if line["kind"] == "save"]
    return max(saves, default=0)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _wait_until(is_true: Callable[[], bool], seconds: float, output: Path) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            said = "\n".join(output.read_text(errors="replace").splitlines()[-TAIL_LINES:])
            raise TrainingFailedError(f"nothing happened for {seconds:.0f} s. The processes said:\n{said}")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(run_command(main))
