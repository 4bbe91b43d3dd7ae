"""The trial of a network before an exact run: alone, beside the other processes, and beside a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator

import torch

from signs_dist.config.dotted_names import is_dotted
from signs_dist.config.settings import Config
from signs_dist.distributed.arithmetic import Fingerprint, RankArithmetic
from signs_dist.distributed.exactness import require_repeatable, require_same_in_new_process, require_same_on_ranks
from signs_dist.environment.slurm_job import node_name
from signs_dist.models.create import is_shipped
from signs_dist.models.trainable import thawed
from signs_dist.models.trial import TrialDigest
from signs_dist.training.arithmetic_probe import NUM_IMAGES, probe_arithmetic
from signs_dist.training.process import Process
from signs_dist.training.second_process import NoAnswerError, SecondProcess
from signs_dist.training.stepper import Stepper


def is_pass_shipped(config: Config) -> bool:
    """Whether no code of the user's own runs in a forward or backward pass: neither a network nor a loss."""
    return is_shipped(config.model.name) and not is_dotted(config.loss.name)


@contextlib.contextmanager
def second_process(config: Config, process: Process) -> Iterator[SecondProcess | None]:
    """The process that tries the network as well; it ends with the block. Start it early: it imports torch.

    None where none is needed: in fast mode, on ranks other than 0, and for networks and losses that the project or
    torchvision ships, which are tested.
    """
    if not config.exact or not process.strategy.is_main or is_pass_shipped(config):
        yield None
        return
    second = SecondProcess()
    try:
        yield second
    finally:
        second.close()


def require_exact(
    stepper: Stepper, process: Process, second: SecondProcess | None, before: Fingerprint | None = None
) -> TrialDigest:
    """Try the network of a run in exact mode. Call it on all processes, before a checkpoint is loaded.

    Args:
        stepper: of the run, with its initial weights. Its `arithmetic` is set.
        process: where this process runs.
        second: from `second_process`.
        before: the arithmetic of an earlier attempt; None without one.

    Returns:
        What the network computes, the same on all processes.

    Raises:
        OtherArithmeticError: on all processes, if some compute other bits because of their machine or software.
        UserError: on all processes, if the network breaks exact mode. The message says how.
    """
    strategy, config = process.strategy, stepper.prepared.config

    def try_here() -> tuple[TrialDigest, Fingerprint]:
        trial = stepper.make_trial()
        on_gpu = trial.images.is_cuda
        if second is not None and not on_gpu:
            second.ask(trial, stepper.prepared)
        digest = require_repeatable(trial, thorough=not is_pass_shipped(config))
        if config.model.thaw_after_epochs is not None:  # a layer that does not repeat is refused now, not at the thaw
            with thawed(trial.model):
                require_repeatable(trial, thorough=False)
        if second is not None and on_gpu:  # one after the other: both at once may not fit into its memory
            torch.cuda.empty_cache()
            second.ask(trial, stepper.prepared)
        return digest, probe_arithmetic(trial, stepper.prepared)

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

    digest, fingerprint = strategy.all_succeed(try_here, "try the model")
    own = RankArithmetic(fingerprint, node_name(os.environ, process.context.host), process.devices)
    gather = functools.partial(strategy.gather_values, phase="compare first micro-batches")
    require_same_on_ranks(digest, own, gather, before)
    stepper.arithmetic = fingerprint
    if not fingerprint.digest:
        process.screen.result(
            f"the model fails for the {NUM_IMAGES} images by which exact mode compares machines: they are compared by "
            f"the first micro-batch of the run only"
        )
    strategy.all_succeed(compare, "compare with a second process")
    return digest
