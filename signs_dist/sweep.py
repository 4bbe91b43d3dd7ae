"""Search for good settings: train with each of many, on this machine or as a SLURM array, and compare.

python -m signs_dist.sweep --config configs/signs.yaml --out runs/lr optim.lr=0.1,0.03 seeds=0,1,2 --jobs 2
python -m signs_dist.sweep --file configs/sweeps/lr.yaml --out runs/lr
python -m signs_dist.sweep --show runs/lr --best
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from signs_dist.console.command import MOST_PROCESSES, MOST_SEED, CommandParser, run_command, whole_number
from signs_dist.console.streams import lasting
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.extras import require_extra

if TYPE_CHECKING:
    from signs_dist.searching.definition import Definition
    from signs_dist.searching.places import Place
    from signs_dist.searching.runner import Outcome
    from signs_dist.searching.sources import Source
    from signs_dist.searching.sweep_folder import SweepFolder
    from signs_dist.searching.trials import Run, Trial

SLURM = "--slurm"
DEVICES = ("auto", "cpu", "cuda")


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.sweep",
        description="Train with each of several settings, with several seeds each, and compare. A setting with several "
        "values is searched, as in optim.lr=0.1,0.03; one with a single value is the same for all runs. The same "
        "command again trains only what is missing or has failed.",
        epilog="Exit codes: 0 all runs are finished, 1 a run failed (the table says why), 2 wrong input, 75 stopped by "
        "SIGTERM and 130 by Ctrl-C, with all runs saved: the same command goes on. --show: 0.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings of all runs; see configs/")
    parser.add_argument("--file", type=Path, metavar="FILE", help="YAML file of a sweep; see configs/sweeps/")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the sweep, a new one or one to go on with")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="section.key=VALUE,VALUE",
        help="what to search, seeds=0,1,2, and settings of all runs",
    )
    parser.add_argument(
        "--jobs", type=whole_number(MOST_PROCESSES), metavar="N", help="runs at once (default: one a GPU, or 1)"
    )
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the runs compute (default: auto)")
    search = parser.add_argument_group("the search")
    search.add_argument("--search", choices=("grid", "random", "tpe"), help="how trials are chosen (default: grid)")
    search.add_argument("--trials", type=whole_number(10**6), metavar="N", help="how many, for random and tpe")
    search.add_argument("--search-seed", type=whole_number(MOST_SEED), metavar="N", help="of the choices (default: 0)")
    search.add_argument(
        "--by", choices=("val_accuracy", "val_loss", "val_macro_f1"), help="what is compared (default: val_accuracy)"
    )
    search.add_argument(
        "--stop-early", choices=("none", "median", "halving"), help="stop hopeless trials (default: none)"
    )
    search.add_argument("--storage", metavar="URL", help="database of a tpe search, such as sqlite:////shared/study.db")
    search.add_argument("--study", metavar="NAME", help="name of the study in that database (default: that of --out)")
    look = parser.add_argument_group("before and after")
    look.add_argument("--dry-run", action="store_true", help="print the trials and their commands, and train nothing")
    look.add_argument("--resume", metavar="TRIAL", help="take up one trial that was stopped early, to its end")
    look.add_argument("--show", type=Path, metavar="DIR", help="print the table of a sweep")
    look.add_argument("--best", action="store_true", help="with --show: the best trial, and the command to train it")
    look.add_argument("--json", action="store_true", help="with --show: as JSON")
    parser.add_argument(
        SLURM,
        action="store_true",
        help="run it as a SLURM array; all flags after this one are those of launch/submit.py, such as --time 1:00:00",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Search as the arguments say."""
    own, for_slurm = split_at_slurm(arguments)
    options = build_parser().parse_intermixed_args(own)
    if options.show is not None:
        return show(options, arguments)
    if options.best or options.json:
        raise UserError("--best and --json are for a sweep's table. Type --show DIR as well.")
    if options.out is None:
        raise UserError("where? Type --out runs/NAME, a folder for the sweep.")
    if options.out == Path():
        raise UserError("--out is the working directory. Name another folder.")
    return search(options, for_slurm)


def split_at_slurm(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """The arguments before `--slurm`, and those after it; None without it."""
    if SLURM not in arguments:
        return list(arguments), None
    place = list(arguments).index(SLURM)
    return list(arguments[:place]), list(arguments[place + 1 :])


def show(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Print the table of a sweep, or its best trial."""
    from signs_dist.results.sweeps import is_sweep, summarise_sweep
    from signs_dist.searching.wording import describe_best, describe_sweep, to_json

    asked = (options.words, options.config, options.file, options.out, options.dry_run, options.resume)
    if any(asked) or SLURM in arguments:
        given = shlex.join(word for word in arguments if word not in ("--show", str(options.show)))
        raise UserError(f"--show trains nothing, and {given} asks for more. Type --show {options.show} alone.")
    if not is_sweep(options.show):
        raise UserError(f"--show {options.show}: there is no sweep. Name the folder that was given to --out.")
    sweep = summarise_sweep(options.show, options.by)
    best = sweep.best
    if options.best and best is None:
        raise UserError(f"{options.show}: no trial has finished all its runs yet. To see them: --show {options.show}")
    if options.json:
        import json

        values = to_json(sweep)
        print(json.dumps(values["trials"][0] if options.best else values, indent=2, ensure_ascii=False))
    else:
        print(describe_best(sweep, best) if options.best and best is not None else describe_sweep(sweep))
    return EXIT_OK


def search(options: argparse.Namespace, for_slurm: Sequence[str] | None) -> int:
    """Train what is missing, or with --dry-run say what that is."""
    from signs_dist.environment.context import read_context
    from signs_dist.searching.definition import check
    from signs_dist.searching.planning import begin, plan
    from signs_dist.searching.sweep_folder import SweepFolder
    from signs_dist.searching.trials import find_trial

    context = read_context()
    if context.launcher != "python":
        raise UserError(f"a sweep starts its runs itself: type it as it is, not under {context.launcher}.")
    folder = SweepFolder(options.out)
    definition = check(read_definition(options, folder))
    if definition.search == "tpe":
        require_extra("sweep", "optuna", "--search tpe")
    if not folder.is_begun:
        folder.refuse_other(definition, {})
    trials = plan(definition, folder)
    if options.resume is not None:
        find_trial(trials, options.resume)
    if for_slurm is not None:
        return submit(options, definition, folder, trials, for_slurm)
    if options.dry_run:
        print(describe_plan(options, definition, folder, trials))
        return EXIT_OK
    places = choose_places(options)
    with folder.held():
        trials = begin(definition, folder)
        definition = dataclasses.replace(definition, config=folder.base if folder.base.exists() else None)
        return train(options, definition, folder, trials, places)


def read_definition(options: argparse.Namespace, folder: SweepFolder) -> Definition:
    """The sweep that the flags ask for; without a config, a file or words it is the one that the folder holds.

    Raises:
        UserError: they contradict each other.
    """
    from signs_dist.config.file_text import refuse_pipe
    from signs_dist.searching.definition import Definition, with_words
    from signs_dist.searching.definition_file import read_definition as read_file

    refuse_pipe(options.config)
    if options.file is not None:
        refuse_pipe(options.file)
        definition = read_file(options.file)
        if options.config is not None:
            definition = dataclasses.replace(definition, config=options.config)
    elif folder.is_begun and not options.words and options.config is None:
        definition = folder.read_definition()
    else:
        definition = Definition(config=options.config)
    definition = with_words(definition, options.words)
    given = {
        "search": options.search,
        "num_trials": options.trials,
        "search_seed": options.search_seed,
        "measure": options.by,
        "stop_early": options.stop_early,
        "storage": options.storage,
        "study": options.study,
    }
    return dataclasses.replace(definition, **{name: value for name, value in given.items() if value is not None})


def choose_places(options: argparse.Namespace) -> list[Place]:
    """The part of this machine that each job gets."""
    from signs_dist.environment.cores import read_usable_cores
    from signs_dist.searching.places import choose_num_jobs, name_gpus, read_cores, share_machine

    num_gpus = count_gpus() if options.device != "cpu" else 0
    gpus = name_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"), num_gpus) if num_gpus else ()
    if options.device == "cuda" and not gpus:
        raise UserError("--device cuda: this machine shows no GPU. Type --device auto, which then runs on the CPU.")
    num_jobs = choose_num_jobs(options.jobs, len(gpus))
    return share_machine(num_jobs, read_cores(), read_usable_cores(os.environ), gpus, os.environ)


def count_gpus() -> int:
    """How many GPUs CUDA shows. Without the driver's files there is none, and torch is not imported."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return 0
    import torch

    return torch.cuda.device_count()


def train(
    options: argparse.Namespace,
    definition: Definition,
    folder: SweepFolder,
    trials: Sequence[Trial],
    places: Sequence[Place],
) -> int:
    """Train the runs that have no result, print the table, and return the exit code."""
    from signs_dist.monitoring.signals import StopRequest, stop_reason
    from signs_dist.results.sweeps import summarise_sweep
    from signs_dist.searching.runner import Runner
    from signs_dist.searching.trials import find_trial
    from signs_dist.searching.wording import describe_sweep

    rule, chosen = definition.stop_early, list(trials)
    pruned = {number for number, line in folder.record.read().trials.items() if line.is_pruned}
    if options.resume is not None:
        chosen, rule = [find_trial(trials, options.resume)], "none"
    if rule == "none":
        for trial in chosen:
            if trial.number in pruned:
                folder.record.note_resumed(trial.number)
    else:
        chosen = [trial for trial in chosen if trial.number not in pruned]
    # The runs, which are the result, do not need anybody who reads the lines.
    output = lasting(sys.stdout)
    stop = StopRequest()
    with stop.handling():
        runner = Runner(
            folder,
            _source(definition, folder, trials, chosen, is_whole=options.resume is None),
            places,
            lambda run: _train_command(options, definition, folder, run),
            measure=definition.measure,
            rule=rule,
            compared=trials,
            say=lambda line: print(line, file=output, flush=True),
            stop=stop,
        )
        outcome = runner.run()
    print(f"\n{describe_sweep(summarise_sweep(folder.path))}", file=output, flush=True)
    if stop.is_set:
        reason, code = stop_reason([stop.signal_number])
        print(f"\nstopped by {reason}. To go on: {_go_on(options)}", file=output, flush=True)
        return code
    return _tell_end(outcome, options, output)


def _source(
    definition: Definition, folder: SweepFolder, trials: Sequence[Trial], chosen: Sequence[Trial], *, is_whole: bool
) -> Source:
    """The trials to train: those of the list, and in a whole TPE search those that the study chooses."""
    from signs_dist.searching.sources import Planned

    if definition.search != "tpe":
        return Planned(chosen)
    from signs_dist.searching.study import StudySource, open_study

    study = open_study(definition, folder)
    wanted = (definition.num_trials or 0) - (len(trials) - len(chosen)) if is_whole else len(chosen)
    limited = dataclasses.replace(definition, num_trials=wanted)
    return StudySource(
        limited, definition.config, folder, study, chosen, first_number=len(trials), is_shared=bool(definition.storage)
    )


def _tell_end(outcome: Outcome, options: argparse.Namespace, output: TextIO) -> int:
    if outcome.num_failed or outcome.num_stopped:
        words = [
            f"{count} run{'' if count == 1 else 's'} {what}"
            for count, what in ((outcome.num_failed, "failed"), (outcome.num_stopped, "stopped from outside"))
            if count
        ]
        print(f"\n{' and '.join(words)}. To train them again: {_go_on(options)}", file=output, flush=True)
        return EXIT_FAILED
    best = f"python -m signs_dist.sweep --show {shlex.quote(str(options.out))} --best"
    page = f"python -m signs_dist.report {shlex.quote(str(options.out))}"
    print(f"\nto see the best: {best}\nas a page: {page}", file=output, flush=True)
    return EXIT_OK


def _go_on(options: argparse.Namespace) -> str:
    words = ["python", "-m", "signs_dist.sweep", "--out", str(options.out)]
    words += ["--jobs", str(options.jobs)] if options.jobs is not None else []
    words += ["--device", options.device] if options.device != "auto" else []
    words += ["--stop-early", options.stop_early] if options.stop_early is not None else []
    words += ["--resume", options.resume] if options.resume is not None else []
    return shlex.join(words)


def _train_command(options: argparse.Namespace, definition: Definition, folder: SweepFolder, run: Run) -> list[str]:
    from signs_dist.searching.runner import train_command

    device = ["--device", options.device] if options.device != "auto" else []
    flags = [*device, "--quiet"]
    return train_command(sys.executable, definition.config, run, folder.run_path(run.id), flags)


def describe_plan(
    options: argparse.Namespace, definition: Definition, folder: SweepFolder, trials: Sequence[Trial]
) -> str:
    """What would be trained."""
    from signs_dist.run_folder.folder import RunFolder
    from signs_dist.searching.planning import first_choice
    from signs_dist.searching.runner import train_command
    from signs_dist.searching.wording import describe_choice, describe_planned

    folder.refuse_other(definition, first_choice(definition, trials))
    device = ["--device", options.device] if options.device != "auto" else []
    commands = {
        trial.number: [
            train_command("python", definition.config, run, folder.run_path(run.id), device)
            for run in trial.runs
            if not RunFolder(folder.run_path(run.id)).is_finished
        ]
        for trial in trials
    }
    text = describe_planned(folder.path, commands, {trial.number: describe_choice(trial.chosen) for trial in trials})
    if definition.search == "tpe":
        text += f"\nup to {definition.num_trials} trials in all: each further one is chosen after the results before it"
    return f"{text}\ndry run: nothing was trained"


def submit(
    options: argparse.Namespace,
    definition: Definition,
    folder: SweepFolder,
    trials: Sequence[Trial],
    for_slurm: Sequence[str],
) -> int:
    """Hand the runs that have no result over to SLURM, as one array. The submission looks which those are.

    Raises:
        UserError: the search needs to look at results while it runs, or the submission is refused.
    """
    if definition.search == "tpe":
        raise UserError(
            "--slurm submits all runs at once, and --search tpe chooses each trial after the results before it. Type "
            "--search random; or start the sweep itself as one job, without --slurm and with --jobs. Several such jobs "
            "share a study by --storage."
        )
    if definition.stop_early != "none" or options.resume is not None:
        flag = "--resume" if options.resume is not None else "--stop-early"
        raise UserError(f"{flag} is for runs that this command starts itself. Omit it, or omit --slurm.")
    if options.jobs is not None:
        raise UserError(f"--jobs is for this machine. With --slurm, type --slurm … --parallel {options.jobs}")
    from importlib import import_module

    from signs_dist.environment.installation import add_checkout_to_path, full_name
    from signs_dist.searching.planning import begin, first_choice

    add_checkout_to_path()
    launcher = import_module(full_name("launch.submit"))
    flags = launcher.read_sweep_flags([*for_slurm, *(["--dry-run"] if options.dry_run else [])])

    def hand_over(config: Path | None) -> int:
        given = [*([] if config is None else ["--config", str(config)]), "--run-dir", str(folder.trials)]
        given += ["--device", options.device] if options.device != "auto" else []
        code: int = launcher.submit_sweep(flags, given, {run.id: run.settings for each in trials for run in each.runs})
        return code

    folder.refuse_other(definition, first_choice(definition, trials))
    if flags.dry_run:
        return hand_over(definition.config)
    with folder.held():
        trials = begin(definition, folder)
        for number, line in folder.record.read().trials.items():
            if line.is_pruned:
                folder.record.note_resumed(number)
        code = hand_over(folder.base if definition.config is not None else None)
    print(f"to see the table: python -m signs_dist.sweep --show {shlex.quote(str(options.out))}")
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
