"""What each dashboard's file offers: one class with the same verbs as its neighbours."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from signs_dist.results.result_values import is_number

Ending = Literal["finished", "stopped", "failed"]
"""How an attempt ended. A stopped or failed run may be resumed."""


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What a dashboard is told about a run at its start.

    Attributes:
        path: the run folder.
        settings: every setting by its dotted key, as `train.epochs`.
    """

    path: Path
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.path.resolve().name


class Tracker(Protocol):
    """One run in one dashboard.

    Made by `open(facts, run_id)`: `run_id` is the dashboard's own id of an earlier attempt, or "" for a new run.

    Attributes:
        run_id: the dashboard's id of the run.
        url: where to look at it; "" if it is not known.
    """

    run_id: str
    url: str

    def last_step(self) -> int | None:
        """The last step that the dashboard has, -1 for none; None if it cannot tell."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""

    def flush(self) -> None:
        """Return when the dashboard's files or its own process have all that was logged."""

    def show_picture(self, step: int, name: str, picture: bytes) -> None:
        """Add a picture (PNG)."""

    def end(self, ending: Ending, result: Mapping[str, Any]) -> None:
        """End the attempt. `result` is result.json of a finished run, else empty."""


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with lists for tuples, which JSON and the dashboards know."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def numbers_of(result: Mapping[str, Any]) -> dict[str, float]:
    """The single numbers of result.json, each under `final/`."""
    return {f"final/{name}": float(value) for name, value in result.items() if is_number(value)}
