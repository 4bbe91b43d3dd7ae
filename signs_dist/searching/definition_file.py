"""The file of a sweep: configs/sweeps/lr.yaml, and sweep.yaml of a sweep's folder."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signs_dist.config.reading import Place, read_nested
from signs_dist.config.yaml_text import format_value
from signs_dist.errors import UserError
from signs_dist.results.result_values import is_number
from signs_dist.results.sweeps import DEFAULT_MEASURE, MEASURES
from signs_dist.searching.definition import RULES, SEARCHES, Definition, as_seeds, takes_fractions
from signs_dist.searching.space import Choices, Dimension, Range

KEYS = (
    *("config", "settings", "space", "seeds", "search", "trials", "search_seed"),
    *("by", "stop_early", "storage", "study"),
)
RANGE_KEYS = ("low", "high", "log", "step", "when")
CHOICE_KEYS = ("values", "when")
MOST_NUMBERS = 10**12
"""Of a range with a step: with a smaller step neighbours are the same number."""


def read_definition(path: Path) -> Definition:
    """The sweep that a file defines. Its parts are checked one by one; `definition.check` checks how they agree.

    Raises:
        UserError: the file cannot be read, or holds something else. The message names file and line.
    """
    return _FileReader(path).read()


class _FileReader:
    """Reads one file; its methods raise `UserError` with the line of what is wrong."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: Mapping[str, Any]
        self._origins: dict[Place, str]
        self._values, self._origins = read_nested(path, "--file")

    def read(self) -> Definition:
        self._refuse_unknown(self._values, KEYS, ())
        return Definition(
            config=self._read_config(),
            settings=self._read_settings(),
            space=self._read_space(),
            seeds=self._read_seeds(),
            search=self._one_of("search", SEARCHES, "grid"),
            num_trials=self._number("trials", 1),
            search_seed=self._number("search_seed", 0) or 0,
            measure=self._one_of("by", tuple(MEASURES), DEFAULT_MEASURE),
            stop_early=self._one_of("stop_early", RULES, "none"),
            storage=self._text("storage", "sqlite:////shared/study.db"),
            study=self._text("study", "learning-rates"),
        )

    def _error(self, place: Place, message: str) -> UserError:
        return UserError(f"{self._origins.get(place, self._path)}: {place[-1]}: {message}")

    def _refuse_unknown(self, given: Mapping[str, Any], legal: tuple[str, ...], place: Place) -> None:
        for key in given:
            if key not in legal:
                near = difflib.get_close_matches(key, legal, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                inner: Place = (*place, key)
                raise UserError(f"{self._origins[inner]}: unknown key {key}.{hint} Legal: {', '.join(legal)}.")

    def _mapping(self, key: str) -> Mapping[str, Any]:
        value = self._values.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._error((key,), "write its keys below it, such as `optim.lr: [0.1, 0.03]`")
        return value

    def _one_of(self, key: str, legal: tuple[str, ...], default: str) -> str:
        value = self._values.get(key)
        value = default if value is None else value
        if value not in legal:
            near = difflib.get_close_matches(str(value), legal, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise self._error((key,), f"{format_value(value)} is not legal. It takes {', '.join(legal)}.{hint}")
        return str(value)

    def _number(self, key: str, least: int) -> int | None:
        value = self._values.get(key)
        if value is not None and (type(value) is not int or value < least):
            raise self._error((key,), f"{format_value(value)} is not legal. It takes a whole number, at least {least}.")
        return value

    def _text(self, key: str, example: str) -> str | None:
        value = self._values.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self._error((key,), f"{format_value(value)} is not legal. It takes text, such as {example}")
        return value

    def _read_config(self) -> Path | None:
        value = self._values.get("config")
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise self._error(("config",), "it takes the path of a YAML file, such as configs/signs.yaml")
        # A sweep's folder has a base.yaml, and a working directory may have another one.
        for path in (self._path.parent / value, Path(value)):
            if path.is_file():
                return path
        raise self._error(("config",), f"{value}: no such file, neither beside {self._path} nor from this folder.")

    def _read_settings(self) -> tuple[str, ...]:
        value = self._values.get("settings")
        if isinstance(value, list):  # as sweep.yaml has them: the words as they were typed
            wrong = next((word for word in value if not isinstance(word, str) or "=" not in word), None)
            if wrong is not None:
                raise self._error(("settings",), f"{format_value(wrong)} is not legal. It takes section.key=value.")
            return tuple(value)
        return tuple(f"{name}={format_value(each)}" for name, each in self._mapping("settings").items())

    def _read_seeds(self) -> tuple[int, ...]:
        value = self._values.get("seeds")
        if value is None:
            return ()
        where = f"{self._origins[('seeds',)]}: seeds"
        return as_seeds(value if isinstance(value, list) else [value], where)

    def _read_space(self) -> tuple[Dimension, ...]:
        space: list[Dimension] = []
        for name, value in self._mapping("space").items():
            space.append(self._read_dimension(name, value, space))
        return tuple(space)

    def _read_dimension(self, name: str, value: Any, before: list[Dimension]) -> Dimension:
        place: Place = ("space", name)
        if isinstance(value, list):
            return self._choices(name, value, {})
        if not isinstance(value, dict):
            raise self._error(place, "it takes a list of values, or a range such as {low: 0.01, high: 0.3, log: true}.")
        when = self._read_when(place, value.get("when"), before)
        if "values" in value:
            self._refuse_unknown(value, CHOICE_KEYS, place)
            return self._choices(name, value["values"], when)
        self._refuse_unknown(value, RANGE_KEYS, place)
        return self._range(name, value, when)

    def _choices(self, name: str, values: Any, when: Mapping[str, Any]) -> Choices:
        place: Place = ("space", name)
        if not isinstance(values, list) or not values:
            raise self._error(place, "there is no value. It takes a list of values, such as [0.1, 0.03].")
        texts = [format_value(value) for value in values]
        if twice := next((text for number, text in enumerate(texts) if text in texts[:number]), None):
            raise self._error(place, f"{twice} is given twice. Keep one.")
        return Choices(name=name, values=tuple(values), when=when)

    def _range(self, name: str, value: Mapping[str, Any], when: Mapping[str, Any]) -> Range:
        place: Place = ("space", name)
        low, high = (self._finite(place, value, key) for key in ("low", "high"))
        if low >= high:
            raise self._error(place, f"the range is empty: low {low:g} is not below high {high:g}.")
        is_log, step = value.get("log", False), value.get("step")
        if type(is_log) is not bool:
            raise self._error((*place, "log"), f"{format_value(is_log)} is not legal. It takes true or false.")
        if is_log and (low <= 0 or step is not None):
            raise self._error(place, "a logarithmic range begins above 0, and has no step.")
        is_whole = not takes_fractions(name) or (
            type(value["low"]) is int and type(value["high"]) is int and name.startswith("model.args.")
        )
        if step is not None:
            step = self._finite(place, value, "step")
            if not (high - low) / MOST_NUMBERS < step <= high - low:
                why = f"It takes a number up to high - low, and at most {MOST_NUMBERS:,} of them in the range."
                raise self._error((*place, "step"), f"{step:g} is not legal. {why}")
        if is_whole and any(number != int(number) for number in (low, high, step or 1)):
            raise self._error(place, "this setting takes whole numbers: low, high and step must be whole too.")
        return Range(name=name, low=low, high=high, is_log=is_log, step=step, is_whole=is_whole, when=when)

    def _finite(self, place: Place, value: Mapping[str, Any], key: str) -> float:
        number = value.get(key)
        if not is_number(number):
            if key not in value:
                raise self._error(place, "a range takes low and high, such as {low: 0.01, high: 0.3, log: true}.")
            raise self._error((*place, key), f"{format_value(number)} is not legal. It takes a number.")
        return number

    def _read_when(self, place: Place, when: Any, before: list[Dimension]) -> Mapping[str, Any]:
        if when is None:
            return {}
        if not isinstance(when, dict) or not when:
            raise self._error((*place, "when"), "it takes a mapping such as {optim.name: sgd}.")
        known = {dimension.name: dimension for dimension in before}
        found = {}
        for name, wanted in when.items():
            inner: Place = (*place, "when", name)
            dimension = known.get(name)
            if dimension is None:
                raise self._error(inner, f"a condition names a setting searched before {place[-1]}. {_listed(known)}")
            values = wanted if isinstance(wanted, list) else [wanted]
            if not isinstance(dimension, Choices):
                raise self._error(inner, f"{name} is a range: a condition names a setting with a list of values.")
            if lost := [value for value in values if value not in dimension.values] or not values:
                shown = format_value(lost[0]) if isinstance(lost, list) else "nothing"
                legal = ", ".join(format_value(value) for value in dimension.values)
                raise self._error(inner, f"{shown} is never chosen for {name}, which takes {legal}.")
            found[name] = tuple(values) if isinstance(wanted, list) else wanted
        return found


def _listed(known: Mapping[str, Dimension]) -> str:
    return f"Those are: {', '.join(known)}." if known else "There is none before it."
