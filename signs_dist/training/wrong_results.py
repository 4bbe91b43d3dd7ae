"""How a run ends whose check has found hardware that gives wrong results: what is written, and what is said."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import NoReturn

from signs_dist.errors import CommandError, FaultyHardwareError, WrongResultError
from signs_dist.monitoring.beats import Identity
from signs_dist.run_folder.folder import RunFolder
from signs_dist.run_folder.other_machine import WRONG_RESULTS, note_other_machine
from signs_dist.run_folder.suspects import NAME, Suspicion, write_suspicion
from signs_dist.training.process import Process
from signs_dist.training.saver import Saver


def end_wrong(
    error: WrongResultError, folder: RunFolder, saver: Saver, process: Process, *, steps_per_epoch: int
) -> NoReturn:
    """Note which states are suspects, and raise. All processes call this.

    Args:
        error: what was found.
        folder: the run folder.
        saver: saves the run.
        process: where this process runs.
        steps_per_epoch: of the run.

    Raises:
        FaultyHardwareError: always. Its message names the process, and the state from which the run resumes.
    """
    with contextlib.suppress(CommandError, OSError):  # neither a full disk nor a lost folder hides what was found
        saver.wait()
    what, unwritten = describe_finding(error), ""
    nodes = tuple(dict.fromkeys(each.host for each in error.suspects))
    if folder.is_writer:
        clean = (error.clean.epoch, error.clean.step) if error.clean is not None else None
        unwritten = _write(folder, Suspicion(error.step, what, clean))
        with contextlib.suppress(CommandError, OSError):
            note_other_machine(folder, process.context.job, nodes, WRONG_RESULTS)
    state = describe_state(error, saver.store.newest_until(error.clean), steps_per_epoch)
    # All processes end together: when one has ended, a launcher ends the others, even while they write.
    process.strategy.gather_values(None, "write down what was found")
    first: Identity = error.suspects[0]
    identity = dataclasses.replace(first, log=str(folder.logs / f"rank{first.rank}.log"))
    raise FaultyHardwareError(f"{what} Nothing was saved since. {state}{unwritten}", identity, nodes) from error


def _write(folder: RunFolder, suspicion: Suspicion) -> str:
    """Write the note about suspects. Returns a sentence if it cannot be written, else ""."""
    try:
        write_suspicion(folder, suspicion)
    except (CommandError, OSError) as error:
        return (
            f" But {folder.logs / NAME} could not be written, which tells this to the next attempt: {error} Before you "
            f"repeat the command, remove the later checkpoints by hand."
        )
    return ""


def describe_finding(error: WrongResultError) -> str:
    """Which process computed what, in a sentence or two."""
    named = ", ".join(f"rank {each.rank} on {each.host} ({each.device})" for each in error.suspects)
    place = f"{error.what}, at step {error.step:,}"
    if error.suspects[0].world_size == 1:
        what = "computed something twice from the same input, with two results"
        return f"{named} {what}: {place}. Its hardware is faulty."
    if error.is_certain:
        what = "got another result than the other processes from the same input"
        return f"{named} {what}: {place}. Its hardware is faulty."
    num_suspects = len(error.suspects)
    count = {2: "two", 3: "three"}.get(num_suspects, str(num_suspects))
    one = "one" if num_suspects == 2 else "at least one"
    return (
        f"{one} of these {count} got another result from the same input: {named}: {place}. The hardware of {one} is "
        f"faulty."
    )


def describe_state(error: WrongResultError, newest: Path | None, steps_per_epoch: int) -> str:
    """The last check without a difference, and the newest state from before it."""
    if error.clean is None:
        return "No check before it was without a difference: the same command begins again."
    step = error.clean.epoch * steps_per_epoch + error.clean.step
    found = f"A check without a difference came after the states up to step {step:,}"
    if newest is None:
        return f"{found}, and none of them is left: the same command begins again."
    return f"{found}; the newest of them is {newest}, from which the same command resumes."
