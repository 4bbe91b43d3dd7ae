"""What the flags of the command diverge ask for."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.diverging.orders import Subject, read_words
from signs_dist.errors import UserError

if TYPE_CHECKING:
    from signs_dist.config.settings import Config

DEFAULT_STEPS = 20
"""How many steps are compared where nothing else says it."""
MOST_BY_DEFAULT = 4
"""A run on more processes than this, and than this machine has cores, trains on one here."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What is compared.

    Attributes:
        subjects: A and B.
        steps: the last step to compare; None: what the runs have.
        device: auto, cpu or cuda.
        notes: what was chosen for the user.
    """

    subjects: tuple[Subject, Subject]
    steps: int | None
    device: str
    notes: tuple[str, ...] = ()

    @property
    def is_of_runs(self) -> bool:
        """Whether two run folders are compared, and not one config on two settings."""
        return self.subjects[0].run is not None

    @property
    def exact_command(self) -> str:
        """Compares the same from the beginning, in exact mode."""
        left, right = self.subjects
        words = ["python", "-m", "signs_dist.diverge"]
        config = left.run / "config.yaml" if left.run is not None else left.config
        words += ["--config", str(config)] if config is not None else []
        ours, theirs = (
            [word for word in subject.overrides if not word.startswith("exact=")] for subject in (left, right)
        )
        common = [word for word in ours if word in theirs]
        words += [*common, "exact=true"]
        for flag, subject, settings in (("--left", left, ours), ("--right", right, theirs)):
            own = [word for word in settings if word not in common]
            words += [flag, shlex.join([f"processes={subject.num_processes}", *own])]
        return shlex.join(words)


def read_request(options: argparse.Namespace) -> Request:
    """What the flags ask for.

    Raises:
        UserError: they do not fit together, or a run or a config cannot be read.
    """
    folders, settings = options.runs, options.overrides
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps {options.steps}: at least 1.")
    words = read_words(options.left or "", "--left"), read_words(options.right or "", "--right")
    wanted = [
        _agreed(processes, given, flag)
        for processes, (given, _), flag in (
            (options.left_processes, words[0], "--left"),
            (options.right_processes, words[1], "--right"),
        )
    ]
    own_settings = [each for _, each in words]
    codes = options.left_code, options.right_code
    if folders:
        return _of_runs(options, folders, [*settings, *own_settings[0], *own_settings[1]], wanted, codes)
    return _of_config(options, settings, own_settings, wanted, codes)


def _agreed(flag_value: int | None, word_value: int | None, flag: str) -> int | None:
    if flag_value is not None and flag_value < 1:
        raise UserError(f"{flag}-processes {flag_value}: at least 1.")
    if flag_value is not None and word_value is not None and flag_value != word_value:
        raise UserError(f"{flag}-processes {flag_value} and {flag} 'processes={word_value}' differ. Give one of them.")
    return flag_value if flag_value is not None else word_value


def _of_runs(
    options: argparse.Namespace,
    folders: Sequence[str],
    settings: Sequence[str],
    wanted: Sequence[int | None],
    codes: Sequence[Path | None],
) -> Request:
    from signs_dist.retraining.recorded_run import read_recorded_run

    if len(folders) != 2:
        raise UserError(
            f"{' '.join(folders)}: give two run folders, or one config with --left and --right. Type "
            f"python -m signs_dist.diverge RUN_A RUN_B"
        )
    if settings or options.config is not None:
        given = settings[0] if settings else f"--config {options.config}"
        raise UserError(f"{given}: run folders are compared with the settings that they have. Omit it.")
    subjects, notes = [], []
    for name, folder, number, code in zip("AB", folders, wanted, codes, strict=True):
        run = read_recorded_run(Path(folder))
        if number is None:
            number = default_processes(run.world_size, usable_cores())
            if number != run.world_size:
                notes.append(
                    f"{name} was trained on {run.world_size} processes, and trains on {number} here: in exact mode no "
                    f"bit depends on it"
                )
        subjects.append(Subject(number, run=run.path, code=code, data=options.data))
        notes += [f"{name}: {note}" for note in run.notes]
    return Request((subjects[0], subjects[1]), options.steps, options.device, tuple(notes))


def _of_config(
    options: argparse.Namespace,
    settings: Sequence[str],
    own_settings: Sequence[Sequence[str]],
    wanted: Sequence[int | None],
    codes: Sequence[Path | None],
) -> Request:
    from signs_dist.config.reading import load_config

    if options.left is None and options.right is None and not any(wanted) and not any(codes):
        raise UserError(
            "nothing to compare: give two run folders, or one config with --left and --right. Type "
            'python -m signs_dist.diverge exact=true --left "processes=1" --right "processes=2"'
        )
    if options.data is not None:
        raise UserError(f"--data {options.data} is for run folders. Type data.root={options.data}")
    numbers = [number or 1 for number in wanted]
    subjects, notes = [], []
    for number, own, code in zip(numbers, own_settings, codes, strict=True):
        overrides = [*settings, *own]
        config = load_config(options.config, overrides)
        if config.train.micro_batch is None:
            size = _common_micro_batch(config, max(numbers))
            overrides.append(f"train.micro_batch={size}")
            note = f"train.micro_batch is not set: using {size}, so that both sides have the same micro-batches"
            notes += [note] if note not in notes else []
        subjects.append(Subject(number, config=options.config, overrides=tuple(overrides), code=code))
    return Request((subjects[0], subjects[1]), options.steps or DEFAULT_STEPS, options.device, tuple(notes))


def _common_micro_batch(config: Config, most_processes: int) -> int:
    from signs_dist.data.plan import largest_micro_batch

    return largest_micro_batch(config.train.global_batch, most_processes)


def default_processes(world_size: int, num_cores: int) -> int:
    """On how many processes a run trains again here: as many as it had, if this machine is made for so many.

    Args:
        world_size: processes of the run.
        num_cores: usable cores.
    """
    return world_size if world_size <= max(MOST_BY_DEFAULT, num_cores) else 1


def usable_cores() -> int:
    """The cores that this process may use."""
    from signs_dist.environment.cores import read_usable_cores

    return read_usable_cores(os.environ)
