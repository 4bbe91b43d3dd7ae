"""What a sweep is: the settings that all runs share, the space that is searched, how it is searched, and the seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.config.section import section_of
from signs_dist.config.settings import Config
from signs_dist.config.yaml_text import format_mapping, format_value
from signs_dist.errors import UserError
from signs_dist.results.sweeps import DEFAULT_MEASURE
from signs_dist.searching.grid import MOST_TRIALS, parse_choices
from signs_dist.searching.space import Choices, Dimension, Range, combinations

SEARCHES = ("grid", "random", "tpe")
"""grid: all combinations. random: independent draws. tpe: Optuna's sampler, which learns from the trials before."""
RULES = ("none", "median", "halving")
"""When a trial is stopped early; see `searching.early_stopping`."""
MOST_SEEDS = 1000
MOST_RUNS = 10_000
"""Of all trials together. The config is asked about each before the first one starts, which takes 10 s for so many."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Definition:
    """A sweep.

    Attributes:
        config: a YAML file with settings of all runs; None: the defaults.
        settings: `section.key=value` of all runs, which override the file.
        space: what is searched; the name of each dimension once. A condition names dimensions before its own.
        seeds: of the runs of each trial; empty: one run, with the seed of the settings.
        search: one of SEARCHES.
        num_trials: of a random or TPE search; None for a grid, which has all combinations.
        search_seed: of the choices of a random or TPE search.
        measure: by which trials are compared, one of `results.sweeps.MEASURES`.
        stop_early: one of RULES.
        storage: URL of the database with Optuna's study, of a TPE search; None: a file in the sweep's folder.
        study: the name of the study there; None: the name of the sweep's folder.
    """

    config: Path | None = None
    settings: tuple[str, ...] = ()
    space: tuple[Dimension, ...] = ()
    seeds: tuple[int, ...] = ()
    search: str = "grid"
    num_trials: int | None = None
    search_seed: int = 0
    measure: str = DEFAULT_MEASURE
    stop_early: str = "none"
    storage: str | None = None
    study: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The settings that are searched."""
        return tuple(dimension.name for dimension in self.space)


def with_words(definition: Definition, words: Sequence[str]) -> Definition:
    """The definition with the words of the command line, which override those of a file.

    A word with one value is a setting of all runs; one with several values, `optim.lr=0.1,0.03`, is searched; `seeds=`
    has the seeds.

    Raises:
        UserError: a name or a value that is given twice, or a word that is no NAME=VALUE.
    """
    settings, space, seeds = list(definition.settings), list(definition.space), definition.seeds
    given: set[str] = set()
    for word in words:
        name = word.partition("=")[0]
        # A single value is taken as train takes it: [0.1, 0.2] is one list, and its messages are those of the config.
        values = _values_of(word)
        if name in given or {name, *given} >= {"seed", "seeds"}:
            raise UserError(f"{name} is given twice. Type {name}= once, with all values.")
        given.add(name)
        if name == "seeds" or (name == "seed" and len(values) > 1):
            seeds = as_seeds(values, "seeds")
            continue
        settings = [each for each in settings if each.partition("=")[0] != name]
        kept = [dimension for dimension in space if dimension.name != name]
        if len(values) > 1:
            dimension = Choices(name=name, values=tuple(values))
            # In its place: a condition of a later dimension may name it.
            space = [dimension if each.name == name else each for each in space]
            space = space if dimension in space else [*space, dimension]
        else:
            space = kept
            settings.append(word)
    return dataclasses.replace(definition, settings=tuple(settings), space=tuple(space), seeds=seeds)


def _values_of(word: str) -> list[Any]:
    """The values of a word; one for a word without an equals sign, about which the config says more."""
    return parse_choices(word)[1] if "=" in word else [word]


def as_seeds(values: Sequence[Any], where: str) -> tuple[int, ...]:
    """Seeds, checked. Raises `UserError`."""
    wrong = next((value for value in values if type(value) is not int or not 0 <= value < 2**63), None)
    if wrong is not None or not values:
        shown = "nothing" if wrong is None else format_value(wrong)
        raise UserError(f"{where}: {shown} is not legal. It takes whole numbers from 0, such as seeds=0,1,2")
    if len(set(values)) < len(values):
        raise UserError(f"{where}: a seed is given twice. Each seed is one run: type it once.")
    return tuple(values)


def check(definition: Definition) -> Definition:
    """The definition, if its parts agree with each other.

    Raises:
        UserError: the message names what to change.
    """
    for name in ("seed", "seeds"):
        if name in definition.names or any(each.partition("=")[0] == name for each in definition.settings):
            if name in definition.names:
                raise UserError("seed is not searched: a trial is averaged over its seeds. Type seeds=0,1,2")
            if definition.seeds:
                raise UserError("seed and seeds are both given. Omit seed.")
    both = {each.partition("=")[0] for each in definition.settings} & set(definition.names)
    if both:
        raise UserError(f"{min(both)} is both set and searched. Omit one of the two.")
    if not definition.space and not definition.seeds:
        raise UserError("nothing is searched. Type a setting with several values, such as optim.lr=0.1,0.03 seeds=0,1")
    _refuse_too_many_runs(_count_trials(definition), len(definition.seeds))
    if definition.search != "tpe" and (definition.storage or definition.study):
        raise UserError("--storage and --study are for --search tpe. Omit them.")
    if definition.storage in ("sqlite://", "sqlite:///", "sqlite:///:memory:"):
        raise UserError(f"--storage {definition.storage} ends with this command. Type sqlite:////shared/study.db")
    return definition


def _count_trials(definition: Definition) -> int:
    """How many trials the search has in the end. Raises `UserError` if that is not known, or too many."""
    ranges = [dimension.name for dimension in definition.space if isinstance(dimension, Range)]
    if definition.search == "grid":
        if ranges:
            raise UserError(f"{ranges[0]} is a range, and a grid has values only. Add --search random or tpe.")
        if definition.num_trials is not None:
            raise UserError("--trials is for --search random and tpe: a grid has all combinations. Omit --trials.")
        num_trials = len(combinations(definition.space, MOST_TRIALS))
        if num_trials > MOST_TRIALS:
            raise UserError(f"the grid has more than {MOST_TRIALS:,} trials, the most in one sweep. Omit some values.")
        return num_trials
    if not definition.space:
        raise UserError(f"--search {definition.search} needs a setting to search, such as optim.lr=0.1,0.03")
    if definition.num_trials is None:
        raise UserError(f"--search {definition.search} needs a number of trials. Add --trials 20")
    if definition.num_trials < 1:
        raise UserError(f"--trials {definition.num_trials}: at least 1.")
    if definition.num_trials > MOST_TRIALS:
        raise UserError(f"{definition.num_trials:,} trials; at most {MOST_TRIALS:,} in one sweep.")
    return definition.num_trials


def _refuse_too_many_runs(num_trials: int, num_seeds: int) -> None:
    if num_seeds > MOST_SEEDS:
        raise UserError(f"seeds: {num_seeds:,} are given; at most {MOST_SEEDS:,} in one sweep. Type fewer seeds.")
    if num_trials * num_seeds > MOST_RUNS:
        raise UserError(
            f"{num_trials:,} trials with {num_seeds:,} seeds are {num_trials * num_seeds:,} runs; at most "
            f"{MOST_RUNS:,} in one sweep. With these trials, type at most {MOST_RUNS // num_trials} seeds."
        )


def why_other(before: Definition, now: Definition) -> str:
    """In what the sweep of a folder differs from the one that is asked for now; "" if `now` is the same or adds to it.

    More values, seeds and trials are added to a sweep. What all runs share is compared elsewhere, as whole configs.
    """
    if before.search != now.search:
        return f"--search {before.search} there, {now.search} here"
    if sorted(before.names) != sorted(now.names):
        names = [", ".join(each.names) or "nothing" for each in (before, now)]
        return f"{names[0]} searched there, {names[1]} here"
    if now.search == "grid":
        for old, new in zip(_by_name(before), _by_name(now), strict=True):
            if (lost := _lost_values(old, new)) or old.when != new.when:
                return f"{old.name} has {lost or 'other conditions'} there"
    elif _by_name(before) != _by_name(now):
        return "other values or ranges there"
    elif before.search_seed != now.search_seed:
        return f"--search-seed {before.search_seed} there, {now.search_seed} here"
    elif before.search == "tpe" and before.measure != now.measure:
        return f"--by {before.measure} there, {now.measure} here"
    elif (before.num_trials or 0) > (now.num_trials or 0):
        return f"--trials {before.num_trials} there, {now.num_trials} here"
    if lost_seeds := [seed for seed in before.seeds if seed not in now.seeds]:
        return f"seeds {', '.join(map(str, lost_seeds))} there, and not here"
    if now.seeds and not before.seeds:
        return "no seeds= there"
    return ""


def _by_name(definition: Definition) -> list[Dimension]:
    return sorted(definition.space, key=lambda dimension: dimension.name)


def _lost_values(old: Dimension, new: Dimension) -> str:
    assert isinstance(old, Choices)
    assert isinstance(new, Choices)
    return ", ".join(format_value(value) for value in old.values if value not in new.values)


def takes_fractions(name: str) -> bool:
    """Whether a setting takes numbers with a fraction. Entries of a mapping, such as model.args.dropout, may."""
    schema: Any = Config
    for part in name.split("."):
        if schema is None or part not in schema.model_fields:
            return True
        annotation = schema.model_fields[part].annotation
        schema = section_of(annotation)
    return "float" in str(annotation)


def to_text(definition: Definition, config_name: str | None) -> str:
    """The definition as a YAML file, which `definition_file.read_definition` reads back.

    Args:
        definition: of the sweep.
        config_name: the name to write for the file of the config, which lies beside the sweep's own.
    """
    values: dict[str, Any] = {
        "config": config_name,
        "settings": list(definition.settings),
        "space": {dimension.name: _dimension_values(dimension) for dimension in definition.space},
        "seeds": list(definition.seeds),
        "search": definition.search,
        "trials": definition.num_trials,
        "search_seed": definition.search_seed,
        "by": definition.measure,
        "stop_early": definition.stop_early,
        "storage": definition.storage,
        "study": definition.study,
    }
    return format_mapping({key: value for key, value in values.items() if value not in (None, [], {})})


def _dimension_values(dimension: Dimension) -> Any:
    when = {name: list(value) if isinstance(value, tuple) else value for name, value in dimension.when.items()}
    conditions: Mapping[str, Any] = {"when": when} if when else {}
    if isinstance(dimension, Choices):
        return {"values": list(dimension.values), **conditions} if when else list(dimension.values)
    step = {} if dimension.step is None else {"step": dimension.step}
    log = {"log": True} if dimension.is_log else {}
    return {"low": dimension.low, "high": dimension.high, **log, **step, **conditions}
