"""A search by Optuna: its TPE sampler chooses each trial after the results of those before.

The study is kept in a database, so that it survives the sweep and can be shared. A trial of a sweep that was killed is
RUNNING there: the same sweep takes it up again. Optuna is imported here only, and only where this module is used.
"""

from __future__ import annotations

import platform
import random
import re
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from signs_dist.config.yaml_text import format_value
from signs_dist.errors import UserError
from signs_dist.results.sweeps import MEASURES
from signs_dist.searching.definition import Definition
from signs_dist.searching.sources import Ending
from signs_dist.searching.space import Choices, Chosen, Dimension, is_active
from signs_dist.searching.sweep_folder import SweepFolder
from signs_dist.searching.trials import Trial, key_of, make_trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

SWEEP = "sweep"
"""Attribute of a study's trial: the sweep that it belongs to."""
CHOICE = "choice"
"""Attribute of a study's trial: `key_of` its choice. It is set last, so a trial without it was never begun."""
REPEATS = "repeats"
"""Attribute of a study's trial: the number of an earlier trial of the study, which had ended without a result."""


def open_study(definition: Definition, folder: SweepFolder) -> Study:
    """The study of a sweep, made where it does not exist.

    Raises:
        UserError: the database cannot be opened, or its study of this name has another goal.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = definition.storage or f"sqlite:///{folder.study}"
    shown = hide_password(url)
    name = definition.study or folder.path.resolve().name
    wanted: Literal["minimize", "maximize"] = "minimize" if MEASURES[definition.measure] else "maximize"
    try:
        study = optuna.create_study(study_name=name, storage=url, direction=wanted, load_if_exists=True)
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--storage {shown} cannot be used: {reason.replace(url, shown)}. Type a URL such as sqlite:////shared/study.db"
        ) from error
    if study.direction.name.lower() != wanted:
        raise UserError(
            f"--study {name} in {shown} has the goal to {study.direction.name.lower()}: type another --study."
        )
    return study


def hide_password(url: str) -> str:
    """The URL of a database as it may be printed, such as mysql://user:***@host/name."""
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)


class StudySource:
    """The trials of a study: those of this sweep first, then new ones.

    Args:
        definition: of the sweep.
        config: the file with the settings of all runs.
        folder: of the sweep, which notes new trials.
        study: from `open_study`.
        known: the trials that the sweep has begun and that are to be taken up.
        first_number: of the next new trial.
        is_shared: whether other sweeps may use the study.
    """

    def __init__(
        self,
        definition: Definition,
        config: Path | None,
        folder: SweepFolder,
        study: Study,
        known: Iterable[Trial],
        *,
        first_number: int,
        is_shared: bool,
    ) -> None:
        self._definition, self._config, self._folder, self._study = definition, config, folder, study
        self._mark = f"{platform.node()}:{folder.path.resolve()}"
        self._asked: dict[int, Asked] = {}
        again = [*known]
        self._next_number = first_number
        again += self._find_unnoted(is_shared=is_shared)
        self._num_trials = len(again)
        self._again = deque(again)

    def _find_unnoted(self, *, is_shared: bool) -> list[Trial]:
        """Trials that the sweep had asked for when it was killed, before it noted them."""
        from optuna.trial import TrialState

        noted = {line.study_trial for line in self._folder.record.read().trials.values()}
        found: list[Trial] = []
        for frozen in self._study.get_trials(states=(TrialState.RUNNING,)):
            attributes = frozen.user_attrs
            is_ours = not is_shared or attributes.get(SWEEP) == self._mark
            if not is_ours or frozen.number in noted:
                continue
            if CHOICE not in attributes:
                self._study.tell(frozen.number, state=TrialState.FAIL)
                continue
            chosen = read_choice(self._definition.space, frozen.params)
            found.append(self._make(chosen, frozen.number))
        return found

    def next_trial(self) -> Trial | None:
        """A trial that was begun before, else a new one; None if there are as many as the sweep is to have."""
        if self._again:
            return self._again.popleft()
        if self._num_trials >= (self._definition.num_trials or 0):
            return None
        return self._ask()

    def _ask(self) -> Trial:
        import optuna

        # A sampler that begins again with its seed would repeat its first choices after each restart.
        number_there = len(self._study.get_trials(deepcopy=False))
        seed = random.Random(f"{self._definition.search_seed}/{number_there}").randrange(2**32)
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        asked = self._study.ask()
        chosen = choose(self._definition.space, suggesting(asked))
        try:
            make_trial(self._definition, self._config, chosen, 0)
        except UserError:
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            raise
        asked.set_user_attr(SWEEP, self._mark)
        asked.set_user_attr(CHOICE, key_of(chosen))
        self._asked[asked.number] = asked
        self._num_trials += 1
        return self._make(chosen, asked.number)

    def _make(self, chosen: Chosen, study_trial: int) -> Trial:
        """A new trial of the sweep."""
        trial = make_trial(self._definition, self._config, chosen, self._next_number, study_trial)
        self._next_number += 1
        self._folder.record.note_trial(trial)
        return trial

    def tell(self, trial: Trial, ending: Ending) -> None:
        """Tell the study, unless it knows this ending already."""
        from optuna.trial import TrialState

        state = {"finished": TrialState.COMPLETE, "failed": TrialState.FAIL, "pruned": TrialState.PRUNED}[ending.state]
        state = TrialState.FAIL if ending.value is None else state
        there = self._find(trial)
        if there is not None and not there.state.is_finished():
            asked = self._asked.get(there.number)
            if ending.epoch is not None and ending.value is not None and asked is not None:
                asked.report(ending.value, ending.epoch)
            value = ending.value if state == TrialState.COMPLETE else None
            self._study.tell(there.number, value, state=state)
        elif state == TrialState.COMPLETE and (there is None or there.state != state):
            self._add(trial, ending)

    def _find(self, trial: Trial) -> FrozenTrial | None:
        """The study's trial; None if the study does not have it, as after its file was deleted."""
        for frozen in self._study.get_trials(deepcopy=False):
            if frozen.number == trial.study_trial and frozen.user_attrs.get(CHOICE) == trial.key:
                return frozen
        return None

    def _add(self, trial: Trial, ending: Ending) -> None:
        """Add a trial that has failed or was stopped before, and is finished now."""
        import optuna

        attributes = {REPEATS: trial.study_trial, SWEEP: self._mark, CHOICE: trial.key}
        trials = self._study.get_trials(deepcopy=False)
        if any(frozen.user_attrs == attributes for frozen in trials):
            return
        dimensions = {each.name: each for each in self._definition.space if each.name in trial.chosen}
        self._study.add_trial(
            optuna.trial.create_trial(
                params={name: as_parameter(dimensions[name], value) for name, value in trial.chosen.items()},
                distributions={name: distribution(dimension) for name, dimension in dimensions.items()},
                value=ending.value,
                user_attrs=attributes,
            )
        )


def choose(space: Iterable[Dimension], suggest: Callable[[Dimension], Any]) -> Chosen:
    """The choice in which each dimension whose conditions hold has the value that `suggest` gives."""
    chosen: Chosen = {}
    for dimension in space:
        if is_active(dimension, chosen):
            chosen[dimension.name] = suggest(dimension)
    return chosen


def suggesting(asked: Asked) -> Callable[[Dimension], Any]:
    """A function that lets a study's trial suggest the value of a dimension."""
    return lambda dimension: from_parameter(dimension, _suggest(asked, dimension))


def _suggest(asked: Asked, dimension: Dimension) -> Any:
    if isinstance(dimension, Choices):
        return asked.suggest_categorical(dimension.name, [format_value(value) for value in dimension.values])
    name, is_log = dimension.name, dimension.is_log
    if dimension.is_whole:
        step = int(dimension.step or 1)
        return asked.suggest_int(name, int(dimension.low), int(dimension.high), step=step, log=is_log)
    return asked.suggest_float(name, dimension.low, dimension.high, step=dimension.step, log=is_log)


def read_choice(space: Iterable[Dimension], parameters: dict[str, Any]) -> Chosen:
    """The choice that a study's trial has made."""
    return choose(space, lambda dimension: from_parameter(dimension, parameters[dimension.name]))


def distribution(dimension: Dimension) -> BaseDistribution:
    """A dimension in Optuna's words. Values are their text: Optuna's categories hold no lists."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution([format_value(value) for value in dimension.values])
    if dimension.is_whole:
        step = int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log, step=dimension.step)


def as_parameter(dimension: Dimension, value: Any) -> Any:
    """A value of a dimension as the study holds it."""
    return format_value(value) if isinstance(dimension, Choices) else value


def from_parameter(dimension: Dimension, parameter: Any) -> Any:
    """The value of a dimension that the study holds as `parameter`."""
    if isinstance(dimension, Choices):
        return next((value for value in dimension.values if format_value(value) == parameter), parameter)
    return parameter
