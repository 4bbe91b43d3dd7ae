"""Training two runs side by side, each on its own processes, until a step differs, and doing that step once more."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from signs_dist.diverging import blame
from signs_dist.diverging.facts import Detail, Start, Step, describe_protocol
from signs_dist.diverging.lines import Hub, Line, LineEndedError
from signs_dist.diverging.orders import SideOrder, Subject, search_path
from signs_dist.environment.subprocesses import (
    count_processes,
    failure_of,
    launch_command,
    started,
    with_own_modules,
)
from signs_dist.errors import TrainingFailedError, UserError, with_message
from signs_dist.results.differences import differing_settings

NUM_AGAIN = 2
"""How often each side does the first step that differs once more: twice shows what does not repeat its own bits."""
MOST_NAMED = 5
"""Images that are named."""
END_SECONDS = 30.0
"""How long the processes of a side may take to end."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What two sides did.

    Attributes:
        starts: process 0 of each side before its first step.
        before: what differed there.
        images: of the training images those that differ, as `name: what`; empty without a difference.
        first, last: the first and the last step that were compared; `last` is less than `first` if none was.
        place: the first difference; None if the bits of all steps are equal.
        names: the file names of `place.samples`, at most `MOST_NAMED` of them.
        ended: why both sides ended before the last step; "" if they did not.
        states: the digests that each side's state after `last` may have been saved with, if they were asked for.
    """

    starts: tuple[Start, Start]
    before: blame.Before
    images: list[str]
    first: int
    last: int
    place: blame.Place | None
    names: list[str]
    ended: str = ""
    states: tuple[list[str], list[str]] | None = None


def compare_sides(
    subjects: tuple[Subject, Subject],
    folder: Path,
    *,
    until: int,
    equal: int = 0,
    device: str = "auto",
    wants_states: bool = False,
) -> Outcome:
    """Train two sides step by step, at the same time, until a step differs.

    Args:
        subjects: A and B.
        folder: an empty folder for what the processes print.
        until: the last step to compare.
        equal: each side begins at its newest state with at most so many steps: up to there they are equal.
        device: auto, cpu or cuda.
        wants_states: whether the digests of both states after the last step are wanted, if no step differs.

    Raises:
        UserError: a side was given wrong input.
        TrainingFailedError: the processes of a side failed.
    """
    with Hub() as hub, contextlib.ExitStack() as stack:
        sides = []
        for name, subject in zip(blame.SIDES, subjects, strict=True):
            order = SideOrder(
                name=name,
                address=hub.address,
                token=hub.token,
                run=str(subject.run) if subject.run is not None else None,
                config=str(subject.config) if subject.config is not None else None,
                overrides=list(subject.overrides),
                data=subject.data,
                device=device,
                equal=equal,
                until=until,
            )
            sides.append(stack.enter_context(_started_side(order, subject, folder)))
        _wait_for_arrivals(hub, sides)
        left, right = sides
        outcome = _compare(left, right, until=until, wants_states=wants_states)
        for side in sides:
            side.end()
        return outcome


class Side:
    """The processes of a side, seen by the command.

    Args:
        order: what they do.
        num_processes: how many they are.
        process: the launcher.
        output: the file with what they print.

    Attributes:
        name: `A` or `B`.
        lines: to each process, by rank; all of them once they have reported.
        steps_done: since the start of the run.
    """

    def __init__(self, order: SideOrder, num_processes: int, process: subprocess.Popen[bytes], output: Path) -> None:
        self.name, self.num_processes = order.name, num_processes
        self.lines: dict[int, Line] = {}
        self.steps_done = 0
        self._process, self._output = process, output

    def require(self) -> None:
        """Raise the error of the processes if they have ended."""
        code = self._process.poll()
        if code is not None:
            raise self._failure(code)

    def tell(self, value: Mapping[str, Any]) -> None:
        """Send a line to every process."""
        for rank in range(self.num_processes):
            try:
                self.lines[rank].send(value)
            except LineEndedError:
                raise self._ended() from None

    def hear(self) -> list[dict[str, Any]]:
        """A line of every process, by rank."""
        return [self._hear(rank) for rank in range(self.num_processes)]

    def ask_main(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Send a line to process 0 alone, and return its answer."""
        try:
            self.lines[0].send(value)
        except LineEndedError:
            raise self._ended() from None
        return self._hear(0)

    def end(self) -> None:
        """Let the processes end, and wait for it."""
        for line in self.lines.values():
            with contextlib.suppress(LineEndedError):
                line.send({"do": "end"})
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def _hear(self, rank: int) -> dict[str, Any]:
        try:
            return self.lines[rank].receive()
        except LineEndedError:
            raise self._ended() from None

    def _ended(self) -> Exception:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._failure(self._process.wait(END_SECONDS))
        return TrainingFailedError(f"side {self.name} on {count_processes(self.num_processes)} does not answer")

    def _failure(self, code: int) -> Exception:
        error = failure_of(f"side {self.name} on {count_processes(self.num_processes)}", code, self._output)
        return with_message(error, f"side {self.name}: {error}") if isinstance(error, UserError) else error


@contextlib.contextmanager
def _started_side(order: SideOrder, subject: Subject, folder: Path) -> Iterator[Side]:
    file = folder / f"{order.name}.json"
    file.touch(mode=0o600)  # it holds the token
    file.write_text(json.dumps(dataclasses.asdict(order)), encoding="utf-8")
    command = launch_command("signs_dist.diverging.side", subject.num_processes, [str(file)])
    # Launchers that are killed leave temporary files behind: they go with the folder.
    environment = {**os.environ, "TMPDIR": str(folder)}
    if subject.code is not None:
        # Python's own rule would look into the working folder first.
        environment |= with_own_modules(environment, search_path(subject.code, sys.path)) | {"PYTHONSAFEPATH": "1"}
    output = folder / f"{order.name}.output"
    with started(command, output, environment) as process:
        yield Side(order, subject.num_processes, process, output)


def _wait_for_arrivals(hub: Hub, sides: Sequence[Side]) -> None:
    by_name = {side.name: side for side in sides}

    def require() -> None:
        for side in sides:
            side.require()

    missing = sum(side.num_processes for side in sides)
    for hello, line in hub.arrivals(require):
        side = by_name[hello["side"]]
        require_same_protocol(side.name, hello.get("protocol"))
        line.require = side.require
        side.lines[hello["rank"]] = line
        missing -= 1
        if not missing:
            return


def require_same_protocol(name: str, protocol: object) -> None:
    """Raise unless the code of a side tells what this release reads.

    Args:
        name: of the side.
        protocol: its `describe_protocol`.

    Raises:
        UserError: it tells something else: its toolkit is of another release.
    """
    if protocol != describe_protocol():
        flag = "--left-code" if name == blame.SIDES[0] else "--right-code"
        raise UserError(
            f"side {name} runs another release of signs_dist, whose diverge tells other facts than this one reads. "
            f"Give {flag} a folder with your own modules alone, and both sides train with this release."
        )


def _compare(left: Side, right: Side, *, until: int, wants_states: bool) -> Outcome:
    ours, theirs = ([Start.from_fields(fields) for fields in side.hear()] for side in (left, right))
    left.steps_done, right.steps_done = ours[0].steps_done, theirs[0].steps_done
    before = describe_before(ours[0], theirs[0])
    images = _differing_images(left, right) if "train" in before.data else []
    first = max(left.steps_done, right.steps_done) + 1
    place, ended = None, ""
    while place is None and not ended and min(left.steps_done, right.steps_done) < until:
        place, ended = _compare_next(left, right)
    last = min(left.steps_done, right.steps_done)
    names: list[str] = []
    if place is not None:
        place = _look_closer(place, left, right)
        if place.samples:
            names = left.ask_main({"do": "names", "samples": list(place.samples[:MOST_NAMED])})["names"]
    states = None
    if wants_states and place is None and not ended and last >= first:
        for side in (left, right):
            side.tell({"do": "state"})
        states = left.hear()[0]["states"], right.hear()[0]["states"]
    return Outcome((ours[0], theirs[0]), before, images, first, last, place, names, ended, states)


def _compare_next(left: Side, right: Side) -> tuple[blame.Place | None, str]:
    """Do the next step on the side that is behind, or on both. Returns (the difference, why both ended)."""
    behind = min(left.steps_done, right.steps_done)
    stepping = [side for side in (left, right) if side.steps_done == behind]
    for side in stepping:
        side.tell({"do": "step"})
    told = [[Step.from_fields(fields) for fields in side.hear()] for side in stepping]
    for side in stepping:
        side.steps_done += 1
    if len(told) == 1:
        error = next((step.error for step in told[0] if step.error), "")
        if error:
            raise TrainingFailedError(
                f"one side ended in step {behind + 1}, before the first step that both do: {error}. "
                f"Its run went further: it had other arithmetic, images or code"
            )
        return None, ""
    place = blame.compare_steps(*told)
    return place, next((step.error for step in told[0] if step.error), "") if place is None else ""


def _look_closer(place: blame.Place, left: Side, right: Side) -> blame.Place:
    if place.direction in blame.KNOWN_AT_ONCE:
        return place
    times: tuple[list[list[Detail]], list[list[Detail]]] = [], []
    for _ in range(NUM_AGAIN):
        for side in (left, right):
            side.tell({"do": "again", "micro_batch": place.micro_batch})
        for side, seen in zip((left, right), times, strict=True):
            seen.append([Detail.from_fields(fields) for fields in side.hear()])
    return blame.refine(place, *times)


def describe_before(one: Start, other: Start) -> blame.Before:
    """What differs before the first step."""
    from signs_dist.distributed.arithmetic import Fingerprint

    ours, theirs = Fingerprint.from_dict(one.arithmetic), Fingerprint.from_dict(other.arithmetic)
    names = ours.differences(theirs) if ours is not None and theirs is not None else []
    return blame.Before(
        arithmetic=names,
        settings=differing_settings([one.settings, other.settings]),
        data=blame.differing_splits(one, other),
        plan=blame.differing_plan(one, other),
        weights=blame.differing_weights(one, other),
        toolkits=(one.toolkit, other.toolkit) if one.toolkit != other.toolkit else (),
    )


def _differing_images(left: Side, right: Side) -> list[str]:
    ours, theirs = (side.ask_main({"do": "images"})["images"] for side in (left, right))
    return compare_images(ours, theirs) if ours is not None and theirs is not None else []


def compare_images(left: Sequence[Sequence[Any]], right: Sequence[Sequence[Any]]) -> list[str]:
    """Of two lists of [name, label, contents] the images that differ, each in words."""
    ours, theirs = ({name: (label, content) for name, label, content in images} for images in (left, right))
    found = []
    for name, (label, content) in ours.items():
        if name not in theirs:
            found.append(f"{name}: only in A")
        elif theirs[name][0] != label:
            found.append(f"{name}: class {label} in A, {theirs[name][0]} in B")
        elif theirs[name][1] != content:
            found.append(f"{name}: other contents")
    return found + [f"{name}: only in B" for name in theirs if name not in ours]
