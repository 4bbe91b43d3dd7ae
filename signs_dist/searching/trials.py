"""The trials of a sweep, and the runs of each, named by their configs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from signs_dist.config.reading import read_config
from signs_dist.config.section import flatten
from signs_dist.config.settings import Config
from signs_dist.errors import UserError
from signs_dist.results.differences import NOT_COMPARED
from signs_dist.searching.definition import Definition
from signs_dist.searching.space import Chosen, combinations, draw, edges, to_settings

NOT_IN_ID = (
    *NOT_COMPARED,
    *("data.root", "data.num_workers", "data.prefetch", "data.timeout_seconds", "data.pin_memory"),
    *("data.max_megapixels", "data.split_folder", "data.reader", "data.reader_args"),
    *("model.gradient_checkpointing", "train.allocator", "train.shard_optimizer", "train.autotune", "train.graph"),
    *("evaluate.batch", "evaluate.metrics"),
)
"""Settings of places, reading and memory, which do not change the weights. A dot ends a section."""
ID_CHARACTERS = 12


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a trial.

    Attributes:
        id: see `run_id`.
        seed: None if the sweep has no seeds.
        settings: all `section.key=value` of the run.
        num_epochs: `train.epochs`.
    """

    id: str
    seed: int | None
    settings: tuple[str, ...]
    num_epochs: int


@dataclasses.dataclass(frozen=True)
class Trial:
    """A choice of the settings that are searched.

    Attributes:
        number: from 0.
        chosen: setting → value.
        runs: one a seed.
        study_trial: its number in Optuna's study; None without one.
    """

    number: int
    chosen: Chosen
    runs: tuple[Run, ...]
    study_trial: int | None = None

    @property
    def key(self) -> str:
        """A text that is the same for the same choices."""
        return key_of(self.chosen)


def key_of(chosen: Chosen) -> str:
    """A text that is the same for the same choices, in any order."""
    return json.dumps(chosen, sort_keys=True)


def run_id(config: Config, searched: Collection[str] = ()) -> str:
    """The digest of what a config trains: of its settings that are not at their defaults, without NOT_IN_ID.

    So a run keeps its id when a release adds a setting. A setting that is searched always counts.
    """
    defaults = dict(flatten(Config()))
    values = {
        name: value
        for name, value in flatten(config)
        if value != defaults[name] and (name in searched or not _is_left_out(name))
    }
    text = json.dumps(values, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_CHARACTERS]


def _is_left_out(name: str) -> bool:
    return any(name == each or (each.endswith(".") and name.startswith(each)) for each in NOT_IN_ID)


def make_trial(
    definition: Definition, config: Path | None, chosen: Chosen, number: int, study_trial: int | None = None
) -> Trial:
    """The trial of a choice, with its runs.

    Args:
        definition: of the sweep.
        config: the file with the settings of all runs.
        chosen: the choice.
        number: of the trial.
        study_trial: its number in Optuna's study.

    Raises:
        UserError: the config refuses the choice.
    """
    runs = []
    for seed in definition.seeds or (None,):
        own = () if seed is None else (f"seed={seed}",)
        settings = (*definition.settings, *to_settings(chosen), *own)
        loaded = read_config(config, settings).config
        runs.append(Run(run_id(loaded, definition.names), seed, settings, loaded.train.epochs))
    return Trial(number, chosen, tuple(runs), study_trial)


def planned_choices(definition: Definition) -> list[Chosen]:
    """The choices of all trials of a grid or a random search, which are known beforehand."""
    assert definition.search != "tpe"
    if definition.search == "grid":
        return combinations(definition.space)
    count = definition.num_trials or 0
    return [draw(definition.space, definition.search_seed, number) for number in range(count)]


def numbered(choices: Iterable[Chosen], known: Sequence[tuple[int, Chosen]]) -> list[tuple[int, Chosen]]:
    """The choices with their numbers: those that are known keep theirs, the others follow.

    Choices that are equal, as two draws from short lists may be, are one trial.

    Args:
        choices: in their order.
        known: (number, choice) of the trials that sweep.jsonl has.
    """
    numbers = {key_of(chosen): number for number, chosen in known}
    found: dict[str, tuple[int, Chosen]] = {}
    for chosen in choices:
        key = key_of(chosen)
        if key not in numbers:
            numbers[key] = max(numbers.values(), default=-1) + 1
        found.setdefault(key, (numbers[key], chosen))
    return sorted(found.values(), key=lambda each: each[0])


def require_legal(definition: Definition, config: Path | None) -> None:
    """Ask the config about the values and ends of ranges of a search whose trials are decided one after the other.

    Raises:
        UserError: it refuses one.
    """
    for chosen in edges(definition.space):
        make_trial(definition, config, chosen, 0)


def differences_of_base(
    before: tuple[Path | None, Sequence[str]], now: tuple[Path | None, Sequence[str]], chosen: Sequence[str]
) -> list[str]:
    """`name: old → new` for what runs would train otherwise, with the same choices.

    Args:
        before, now: (file, settings) of all runs.
        chosen: the settings of some trial.

    Raises:
        UserError: one of the configs is not legal.
    """
    old, new = (dict(flatten(read_config(path, [*settings, *chosen]).config)) for path, settings in (before, now))
    return [
        f"{name}: {_shown(old.get(name))} → {_shown(value)}"
        for name, value in new.items()
        if old.get(name) != value and not _is_left_out(name)
    ]


def _shown(value: Any) -> str:
    return json.dumps(value, default=list, ensure_ascii=False)


def find_trial(trials: Iterable[Trial], name: str) -> Trial:
    """The trial with a number, or with a run of this id or beginning of an id.

    Raises:
        UserError: there is none.
    """
    trials = list(trials)
    for trial in trials:
        if name == str(trial.number) or (len(name) >= 4 and any(run.id.startswith(name) for run in trial.runs)):
            return trial
    last = f"0 to {len(trials) - 1}" if trials else "none"
    raise UserError(f"--resume {name}: no such trial. Type the number of a trial ({last}), or the name of its folder.")
