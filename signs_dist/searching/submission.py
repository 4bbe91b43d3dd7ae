"""Handing the runs of a sweep over to SLURM, as one array."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from signs_dist.environment.installation import add_checkout_to_path, full_name
from signs_dist.searching.definition import Definition
from signs_dist.searching.planning import begin, first_choice
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Trial

SUBMIT = "launch.submit"
"""The module that submits. It is imported by name: its room comes after this one."""


def submit_sweep(
    definition: Definition,
    folder: SweepFolder,
    trials: Sequence[Trial],
    *,
    submit_flags: Sequence[str],
    train_flags: Sequence[str],
) -> int:
    """Submit the runs that have no result and no job, and say how to see the table. Returns the exit code.

    The submission looks which runs those are.

    Args:
        definition: of the sweep.
        folder: of the sweep.
        trials: all of them.
        submit_flags: of launch/submit.py. With --dry-run nothing is written or submitted.
        train_flags: of signs_dist.train, for each run.

    Raises:
        UserError: the folder holds another sweep, or the submission is refused.
    """
    add_checkout_to_path()
    launcher = import_module(full_name(SUBMIT))
    flags = launcher.read_sweep_flags(submit_flags)

    def hand_over(config: Path | None) -> int:
        given = [*([] if config is None else ["--config", str(config)]), "--run-dir", str(folder.trials), *train_flags]
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
    print(f"to see the table: python -m signs_dist.sweep --show {shlex.quote(str(folder.path))}")
    return code
