"""The trial of a network before an exact run: alone, beside the other processes, and beside a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from signs_dist.config.settings import Config
from signs_dist.distributed.exactness import require_repeatable, require_same_in_new_process, require_same_on_ranks
from signs_dist.models.create import is_shipped
from signs_dist.models.trainable import thawed
from signs_dist.models.trial import TrialDigest
from signs_dist.training.process import Process
from signs_dist.training.second_process import NoAnswerError, SecondProcess
from signs_dist.training.stepper import Stepper


@contextlib.contextmanager
def second_process(config: Config, process: Process) -> Iterator[SecondProcess | None]:
    """The process that tries the network as well; it ends with the block. Start it early: it imports torch.

    None where none is needed: in fast mode, on ranks other than 0, and for networks that the project or torchvision
    ships, which are tested.
    """
    if not config.exact or not process.strategy.is_main or is_shipped(config.model.name):
        yield None
        return
    second = SecondProcess()
    try:
        yield second
    finally:
        second.close()


def require_exact(stepper: Stepper, process: Process, second: SecondProcess | None) -> TrialDigest:
    """Try the network of a run in exact mode. Call it on all processes, before a checkpoint is loaded.

    Args:
        stepper: of the run, with its initial weights.
        process: where this process runs.
        second: from `second_process`.

    Returns:
        What the network computes, the same on all processes.

    Raises:
        UserError: on all processes, if the network breaks exact mode. The message says how.
    """
    strategy, config = process.strategy, stepper.prepared.config

    def try_here() -> TrialDigest:
        trial = stepper.make_trial()
        on_gpu = trial.images.is_cuda
        if second is not None and not on_gpu:
            second.ask(trial, stepper.prepared)
        digest = require_repeatable(trial, thorough=not is_shipped(config.model.name))
        if config.model.thaw_after_epochs is not None:  # a layer that does not repeat is refused now, not at the thaw
            with thawed(trial.model):
                require_repeatable(trial, thorough=False)
        if second is not None and on_gpu:  # one after the other: both at once may not fit into its memory
            torch.cuda.empty_cache()
            second.ask(trial, stepper.prepared)
        return digest

    def compare() -> None:
        if second is None:
            return
        process.pulse.enter("try the model in a second process")
        try:
            require_same_in_new_process(digest, second.answer())
        except NoAnswerError as error:
            process.screen.result(
                f"the model was not tried in a second process: {error}. Whether it reads hash(), the process id or the "
                f"time is not known."
            )
        finally:
            second.close()

    digest = strategy.all_succeed(try_here, "try the model")
    require_same_on_ranks(digest, lambda value: strategy.gather_values(value, "compare first micro-batches"))
    strategy.all_succeed(compare, "compare with a second process")
    return digest
