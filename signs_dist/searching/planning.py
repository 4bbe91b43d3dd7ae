"""The trials of a sweep before it begins, and its entry into its folder."""

from __future__ import annotations

from collections.abc import Sequence

from signs_dist.results.choices import describe_choice
from signs_dist.run_folder.folder import RunFolder
from signs_dist.searching.definition import Definition
from signs_dist.searching.runner import train_command
from signs_dist.searching.space import Chosen, edges
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Trial, make_trial, numbered, planned_choices, require_legal
from signs_dist.searching.wording import describe_planned


def plan(definition: Definition, folder: SweepFolder) -> list[Trial]:
    """The trials that are known before anything runs, each checked by the config; those that were begun first.

    Raises:
        UserError: the config refuses one.
    """
    lines = folder.record.read().trials.values()
    known = [(line.number, line.chosen) for line in lines]
    studies = {line.number: line.study_trial for line in lines}
    if definition.search == "tpe":
        require_legal(definition, definition.config)
        choices = known
    else:
        choices = numbered(planned_choices(definition), known)
    config = definition.config
    return [make_trial(definition, config, chosen, number, studies.get(number)) for number, chosen in choices]


def begin(definition: Definition, folder: SweepFolder) -> list[Trial]:
    """Write the sweep into its folder, which this process holds, and return its trials.

    Raises:
        UserError: the folder holds another sweep, or cannot be written.
    """
    trials = plan(definition, folder)  # again: another sweep may have worked here until now
    chosen = first_choice(definition, trials)
    folder.refuse_other(definition, chosen)
    if folder.is_begun and folder.describe_difference(definition, chosen):
        folder.clear()
        trials = plan(definition, folder)
    folder.begin(definition)
    folder.record.note_sweep(definition, definition.num_trials if definition.search == "tpe" else len(trials))
    noted = folder.record.read().trials
    for trial in trials:
        line = noted.get(trial.number)
        if line is None or line.runs != tuple((run.id, run.seed) for run in trial.runs):
            folder.record.note_trial(trial)
    return trials


def first_choice(definition: Definition, trials: Sequence[Trial]) -> Chosen:
    """The choice of some trial."""
    return trials[0].chosen if trials else edges(definition.space)[0]


def describe_plan(
    definition: Definition, folder: SweepFolder, trials: Sequence[Trial], train_flags: Sequence[str]
) -> str:
    """What a sweep would train.

    Args:
        definition: of the sweep.
        folder: of the sweep.
        trials: from `plan`.
        train_flags: of signs_dist.train, for each run.

    Raises:
        UserError: the folder holds another sweep.
    """
    folder.refuse_other(definition, first_choice(definition, trials))
    commands = {
        trial.number: [
            train_command("python", definition.config, run, folder.run_path(run.id), train_flags)
            for run in trial.runs
            if not RunFolder(folder.run_path(run.id)).is_finished
        ]
        for trial in trials
    }
    text = describe_planned(folder.path, commands, {trial.number: describe_choice(trial.chosen) for trial in trials})
    if definition.search == "tpe":
        text += f"\nup to {definition.num_trials} trials in all: each further one is chosen after the results before it"
    return f"{text}\ndry run: nothing was trained"
