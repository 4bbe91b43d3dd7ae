"""Training the runs of a sweep that have no result, as processes of this machine."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence

from signs_dist.monitoring.signals import StopRequest
from signs_dist.searching.definition import Definition
from signs_dist.searching.places import Place
from signs_dist.searching.runner import Outcome, Runner, train_command
from signs_dist.searching.sources import Planned, Source
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Trial, find_trial


def train_sweep(
    definition: Definition,
    folder: SweepFolder,
    trials: Sequence[Trial],
    places: Sequence[Place],
    *,
    resumed: str | None,
    flags: Sequence[str],
    say: Callable[[str], None],
    stop: StopRequest,
) -> Outcome:
    """Train, and return what became of the runs.

    Args:
        definition: of the sweep.
        folder: of the sweep, which this process holds.
        trials: all that are known.
        places: one for each process at once.
        resumed: names the one trial to train, which was stopped early; None for all that are not hopeless.
        flags: of signs_dist.train, for each run.
        say: prints a line.
        stop: is set when the sweep is to stop.

    Raises:
        UserError: as `Runner.run`.
    """
    chosen, rule = _choose_trials(definition, folder, trials, resumed)
    runner = Runner(
        folder,
        _make_source(definition, folder, trials, chosen, is_whole=resumed is None),
        places,
        lambda run: train_command(sys.executable, definition.config, run, folder.run_path(run.id), flags),
        measure=definition.measure,
        rule=rule,
        compared=trials,
        say=say,
        stop=stop,
    )
    return runner.run()


def _choose_trials(
    definition: Definition, folder: SweepFolder, trials: Sequence[Trial], resumed: str | None
) -> tuple[list[Trial], str]:
    """The trials to train, and the rule that stops them early. Without a rule those stopped before are taken up."""
    chosen, rule = list(trials), definition.stop_early
    pruned = {number for number, line in folder.record.read().trials.items() if line.is_pruned}
    if resumed is not None:
        chosen, rule = [find_trial(trials, resumed)], "none"
    if rule != "none":
        return [trial for trial in chosen if trial.number not in pruned], rule
    for trial in chosen:
        if trial.number in pruned:
            folder.record.note_resumed(trial.number)
    return chosen, rule


def _make_source(
    definition: Definition, folder: SweepFolder, trials: Sequence[Trial], chosen: Sequence[Trial], *, is_whole: bool
) -> Source:
    """The trials to train: those of the list, and in a whole TPE search those that the study chooses."""
    if definition.search != "tpe":
        return Planned(chosen)
    from signs_dist.searching.study import StudySource, open_study

    study = open_study(definition, folder)
    wanted = (definition.num_trials or 0) - (len(trials) - len(chosen)) if is_whole else len(chosen)
    limited = dataclasses.replace(definition, num_trials=wanted)
    return StudySource(
        limited, definition.config, folder, study, chosen, first_number=len(trials), is_shared=bool(definition.storage)
    )
