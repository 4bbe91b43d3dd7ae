"""Runs beside each other, as numbers: groups over seeds, paired tests, what each setting explains. Pure functions."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

from signs_dist.results.differences import differing_settings
from signs_dist.results.result_values import is_number
from signs_dist.results.statistics import PairedDifference, mean_and_sd, paired_difference
from signs_dist.results.summary import RunSummary

SEED = "seed"
"""The setting that is averaged over."""
MOST_VALUES = 6
"""A numeric setting with more values is cut into `NUM_PARTS` parts with about equally many groups."""
NUM_PARTS = 3


@dataclasses.dataclass(frozen=True)
class Run:
    """A run in a comparison.

    Attributes:
        key: short, of letters and digits.
        name: for people; another one for each run.
        summary: the run in short.
        told: its state and the reason, as its sweep knows them; None outside of a sweep.
        value: the number by which runs are compared: the best over its epochs; None before the first validation.
    """

    key: str
    name: str
    summary: RunSummary
    told: tuple[str, str] | None = None
    value: float | None = None

    @property
    def state(self) -> str:
        """As in `summary.State`, or `pruned`."""
        return self.told[0] if self.told is not None else self.summary.state

    @property
    def why(self) -> str:
        """Why it is not finished; "" for no reason."""
        return self.told[1] if self.told is not None else self.summary.why

    @property
    def accuracy(self) -> float | None:
        """On val, 0..1: of the final weights of a finished run, else the best so far."""
        final = self.summary.result.get("val_accuracy")
        return self.summary.val_accuracy if final is None else float(final)

    @property
    def loss(self) -> float | None:
        """The loss that belongs to `accuracy`."""
        return self.summary.result.get("val_loss", self.summary.val_loss)

    @property
    def seed(self) -> Any:
        """The setting `seed`."""
        return self.summary.settings.get(SEED)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seeds.

    Attributes:
        settings: setting → value, of the settings in which groups differ.
        runs: its runs.
    """

    settings: dict[str, Any]
    runs: list[Run]

    @property
    def finished(self) -> list[Run]:
        """The finished runs with a value."""
        return [run for run in self.runs if run.state == "finished" and run.value is not None]

    @property
    def score(self) -> tuple[float, float | None] | None:
        """Mean and standard deviation of the values of the finished runs; None without one."""
        values = [run.value for run in self.finished if run.value is not None]
        return mean_and_sd(values) if values else None

    @property
    def name(self) -> str:
        """The settings, for people."""
        return ", ".join(f"{key}={plain(value)}" for key, value in self.settings.items()) or "all runs"


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """A group against the best one.

    Attributes:
        group: the group.
        seeds: the seeds that both have.
        difference: the group's values minus the best group's, over these seeds.
    """

    group: Group
    seeds: list[Any]
    difference: PairedDifference


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much of the differences between groups one setting explains.

    Attributes:
        setting: its dotted key.
        share: of the variance, 0..1; None if no value is shared by two groups.
        num_values: how many values, or parts of its range, were compared.
    """

    setting: str
    share: float | None
    num_values: int


def group_runs(runs: Sequence[Run], *, is_less_better: bool = False) -> list[Group]:
    """The groups, the best mean first; those without a finished run last, in their order."""
    sign = 1 if is_less_better else -1
    differing = {
        key: values for key, values in differing_settings([run.summary.settings for run in runs]).items() if key != SEED
    }
    groups: dict[str, Group] = {}
    for place, run in enumerate(runs):
        settings = {key: values[place] for key, values in differing.items()}
        mark = json.dumps(settings, sort_keys=True, default=str)
        groups.setdefault(mark, Group(settings, [])).runs.append(run)
    return sorted(groups.values(), key=lambda group: (0, sign * group.score[0]) if group.score else (1, 0.0))


def paired_tests(groups: Sequence[Group]) -> list[PairedTest]:
    """Each further group against the first, over the seeds that both have; groups with fewer than two are left out."""
    tests = []
    for group in groups[1:]:
        best = {run.seed: run.value for run in groups[0].finished}
        own = {run.seed: run.value for run in group.finished}
        seeds = [seed for seed in best if seed in own]
        if len(seeds) >= 2:
            first, second = [best[seed] or 0.0 for seed in seeds], [own[seed] or 0.0 for seed in seeds]
            tests.append(PairedTest(group, seeds, paired_difference(first, second)))
    return tests


def importance(groups: Sequence[Group]) -> list[Importance]:
    """The settings by how much of the variance of the groups' means each explains by itself, the most first.

    The measure is epsilon squared of a one-way analysis of variance, the share of the variance that lies between the
    values of the setting, less what chance would give (Kelley, "An unbiased correlation ratio measure", PNAS 1935).
    """
    scored = [group for group in groups if group.score is not None]
    means = [group.score[0] for group in scored if group.score is not None]
    found = []
    for setting in scored[0].settings if scored else ():
        labels = _parts([group.settings[setting] for group in scored])
        found.append(Importance(setting, _epsilon_squared(labels, means), len(set(labels))))
    return sorted(found, key=lambda each: -1.0 if each.share is None else each.share, reverse=True)


def _parts(values: Sequence[Any]) -> list[str]:
    """A label for each value; numbers of many values are cut into parts by their order."""
    numbers = [float(value) for value in values if is_number(value)]
    different = sorted(set(numbers))
    if len(numbers) < len(values) or len(different) <= min(MOST_VALUES, len(values) // 2):
        return [plain(value) for value in values]
    return [str(NUM_PARTS * different.index(number) // len(different)) for number in numbers]


def _epsilon_squared(labels: Sequence[str], values: Sequence[float]) -> float | None:
    by_label: dict[str, list[float]] = {}
    for label, value in zip(labels, values, strict=True):
        by_label.setdefault(label, []).append(value)
    members = list(by_label.values())
    freedom = len(values) - len(members)
    if freedom < 1 or len(members) < 2:
        return None
    mean = sum(values) / len(values)
    total = sum((value - mean) ** 2 for value in values)
    within = sum((value - sum(inside) / len(inside)) ** 2 for inside in members for value in inside)
    if total <= 0:
        return None
    return max(0.0, 1 - (within / freedom) * (len(values) - 1) / total)


def plain(value: Any) -> str:
    """A setting's value as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False, default=str)


def short_names(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """The parts of each path after those that all have in common: one name a path, another one for each path."""
    shortest = min((len(path) for path in paths), default=1) - 1
    levels = zip(*(path[:shortest] for path in paths), strict=True)
    common = len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, levels)))
    return ["/".join(path[common:]) for path in paths]
