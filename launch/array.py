"""Several runs as one SLURM array: a grid of settings, a run folder each, one table of what came of them.

The same command with the same --run-dir submits what is missing or has failed, and nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import re
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from launch.claim import end_claim
from launch.schedulers.slurm_questions import ask_state, find_alive, jobs_of, note_job
from signs_dist.config.messages import PlainLoader, format_value
from signs_dist.console.screen import columns, percent
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.files import write_json
from signs_dist.monitoring.failure_card import choose_root, read_failures
from signs_dist.run_folder.folder import RunFolder

ARRAY = "array.json"
"""In the array's folder: the settings of each trial."""
OTHER_NAMES = {"seeds": "seed"}
MOST_TRIALS = 1000
DEFAULT_PARALLEL = 8
LONGEST_NAME = 80
POLL_SECONDS = 3.0


def parse_grid(entries: Sequence[str]) -> list[tuple[str, ...]]:
    """The settings of every trial: all combinations of `NAME=VALUE,VALUE…`, the last name varying fastest.

    Raises:
        UserError: an entry that is none, a name that stands twice, or too many of them.
    """
    names: list[str] = []
    choices: list[list[str]] = []
    for entry in entries:
        name, found, text = entry.partition("=")
        name = OTHER_NAMES.get(name, name)
        try:
            values = yaml.load(f"[{text}]", PlainLoader)
        except yaml.YAMLError:
            values = []
        if not found or not name or not values:
            raise UserError(f"--array {entry!r}: it is NAME=VALUE,VALUE, such as seeds=0,1,2 or optim.lr=0.1,0.03")
        if name in names:
            raise UserError(f"--array: {name} stands there twice. Type {name}= once, with all values.")
        names.append(name)
        texts = [format_value(value) for value in values]
        if twice := next((text for number, text in enumerate(texts) if text in texts[:number]), None):
            raise UserError(f"--array {entry!r}: {twice} stands there twice. Each value is one run: type it once.")
        choices.append(texts)
    trials = [
        tuple(f"{name}={value}" for name, value in zip(names, values, strict=True))
        for values in itertools.product(*choices)
    ]
    if len(trials) > MOST_TRIALS:
        raise UserError(f"--array: {len(trials):,} trials; at most {MOST_TRIALS:,} in one array.")
    return trials


def trial_name(number: int, settings: Sequence[str]) -> str:
    """Name of a trial's run folder: its number, and what people can tell it by."""
    words = re.sub(r"[^A-Za-z0-9._=+-]+", "_", "-".join(settings))
    return f"{number:03d}-{words}"[:LONGEST_NAME]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of an array: its folder, and the settings that tell it from the others."""

    path: Path
    settings: tuple[str, ...]

    @property
    def is_finished(self) -> bool:
        """Whether its result is there."""
        return RunFolder(self.path).is_finished

    @property
    def is_alive(self) -> bool:
        """Whether a job waits or runs for it."""
        return any(ask_state(job).is_alive for job in jobs_of(self.path)[-1:])


def read_trials(folder: Path) -> list[Trial]:
    """The trials of an array's folder; empty for any other folder."""
    try:
        written = json.loads((folder / ARRAY).read_text(encoding="utf-8"))
        return [Trial(folder / entry["name"], tuple(entry["settings"])) for entry in written["trials"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []


def submit_array_run(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Check an array, and hand over what is not finished of it."""
    from launch import check
    from launch.schedulers.slurm_script import Submission, submit_array
    from launch.submit import (
        check_request,
        check_script,
        handed_over,
        make_folder,
        make_job,
        read_request,
        taken_back,
        tell,
    )
    from signs_dist.config.reading import load_config

    grid = parse_grid(options.array)
    first, given = read_request(options, [*rest, *grid[0]])
    if first.cluster.kind != "slurm":
        raise UserError(f"--array is for SLURM, not for --cluster {first.cluster.kind}.")
    folder = first.run_path
    trials = [Trial(folder / trial_name(number, settings), settings) for number, settings in enumerate(grid)]
    _require_same(folder, trials)
    overrides = [*given.overrides][: -len(grid[0])]
    names = {setting.partition("=")[0] for setting in grid[0]}
    if both := sorted(names & {override.partition("=")[0] for override in overrides}):
        raise UserError(f"{both[0]} stands behind -- and in --array, which would win. Leave one of the two away.")
    requests = {}
    for trial in trials:
        every = (*overrides, *trial.settings)
        config = load_config(given.config, every).config
        requests[trial] = dataclasses.replace(first, overrides=every, config=config, run_path=trial.path)
        check.check_batches(config, first.cluster.world_sizes)
    missing = [trial for trial in trials if not trial.is_finished and not trial.is_alive]
    parallel = DEFAULT_PARALLEL if options.parallel is None else options.parallel
    tell("array", [f"{len(trials)} trial{'' if len(trials) == 1 else 's'} in {folder}, {len(missing)} to submit"])
    if not missing:
        print(describe_array(folder))
        return EXIT_OK
    with taken_back(folder, *(trial.path for trial in missing)) as made:
        doubt = check_request(requests[missing[0]])
        submission_folder, snapshot = make_folder(folder, first.cluster, options, rest, made)
        # Once more, now that no other submission can come in between.
        if any(trial.is_finished or trial.is_alive for trial in missing):
            raise UserError(f"another submission for {folder} has just ended. Type the command again.")
        jobs = []
        for trial in missing:
            check.check_run_folder(requests[trial])
            jobs.append(make_job(requests[trial], given, submission_folder / trial.path.name, snapshot))
        runs = submission_folder / "runs.txt"
        runs.write_text("".join(f"{trial.path}\n" for trial in missing), encoding="utf-8")
        submission = Submission(first.cluster, jobs[0], submission_folder, folder.name, runs)
        script = check_script(submission, doubt)
        tell("model", check.check_training(requests[missing[0]]))
        if options.dry_run:
            print(f"\n{script}\n\ndry run: everything is in order, nothing was submitted")
            return EXIT_OK
        write_json(folder / ARRAY, {"trials": [{"name": one.path.name, "settings": one.settings} for one in trials]})
        with handed_over(made, first.cluster.kind):
            ids = submit_array(submission, jobs, parallel)
            for trial, job in zip(missing, ids, strict=True):
                note_job(trial.path, job, submission_folder.name)
            note_job(folder, ids[0].partition("_")[0], submission_folder.name)
            end_claim(submission_folder)
    tell("job", [f"{ids[0]} to {ids[-1]}, at most {parallel} at once"])
    shown = shlex.quote(str(given.run_dir or folder.relative_to(Path.cwd())))
    tell("then", [f"python launch/submit.py status {shown}    (or wait, logs, cancel)"])
    return follow_array(folder) if options.wait else EXIT_OK


def _require_same(folder: Path, trials: Sequence[Trial]) -> None:
    before = read_trials(folder)
    if before and before != list(trials):
        raise UserError(
            f"{folder} holds another array: {len(before)} trials, the first with {' '.join(before[0].settings)}. "
            f"Type the same --array again, or another --run-dir."
        )


def describe_array(folder: Path) -> str:
    """The table of an array's trials."""
    from launch.follow import describe_state, last_error  # which imports this file

    rows = [("trial", "state", "val", "test", "")]
    for trial in read_trials(folder):
        run, jobs = RunFolder(trial.path), jobs_of(trial.path)
        state = describe_state(run, jobs[-1]) if jobs else "not submitted"
        numbers = _read_result(run)
        why = ""
        if not trial.is_finished and (card := choose_root(read_failures(run.logs))) is not None:
            why = card.error.split("\n")[0]
        elif not trial.is_finished:
            ends = [line["reason"] for line in run.read_lines(run.attempts) if line.get("event") == "end"]
            why = ends[-1] if ends else last_error(trial.path, jobs[-1]) if jobs else ""
        rows.append((" ".join(trial.settings), state, _accuracy(numbers, "val"), _accuracy(numbers, "test"), why))
    return f"{folder}\n{columns(rows)}"


def follow_array(folder: Path) -> int:
    """Wait until no trial waits or runs, print the table, and exit with 0 if all are finished."""
    told = ""
    while True:
        trials = read_trials(folder)
        try:
            alive = count_alive(trials)
            line = f"{sum(trial.is_finished for trial in trials)} of {len(trials)} trials finished, {alive} wait or run"
        except UserError as error:  # a controller that is restarted is back soon
            alive, line = len(trials), str(error)
        if line != told:
            print(line, flush=True)
            told = line
        if not alive:
            break
        time.sleep(POLL_SECONDS)
    print(describe_array(folder))
    return EXIT_OK if all(trial.is_finished for trial in trials) else EXIT_FAILED


def count_alive(trials: Sequence[Trial]) -> int:
    """How many trials have a job that waits or runs. Raises `UserError` where SLURM does not answer."""
    last = [job for trial in trials if not trial.is_finished for job in jobs_of(trial.path)[-1:]]
    known = find_alive(last) if last else set()
    # Where all of an array is forgotten, squeue fails: each is asked for, and found ended.
    return sum(ask_state(job).is_alive for job in last) if known is None else len(known)


def _read_result(folder: RunFolder) -> dict[str, Any]:
    try:
        value = json.loads(folder.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _accuracy(numbers: dict[str, Any], name: str) -> str:
    value = numbers.get(f"{name}_accuracy")
    return percent(value) if value is not None else ""
