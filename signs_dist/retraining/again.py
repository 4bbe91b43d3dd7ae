"""Training a recorded run again on this process, from one of its states, without writing into its folder."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from signs_dist.checkpointing.store import Cursor, read_checkpoint
from signs_dist.checkpointing.tensors import Copier
from signs_dist.config.reading import read_config
from signs_dist.config.settings import CheckConfig, Config
from signs_dist.data.sets import DEFAULT_ROOT
from signs_dist.distributed.arithmetic import Fingerprint
from signs_dist.environment.user_cache import user_cache_folder
from signs_dist.errors import UserError
from signs_dist.inference.places import find_writable
from signs_dist.learning.metrics import RunningSums
from signs_dist.own_code import MissingModuleError
from signs_dist.retraining.recorded_run import RecordedRun, State
from signs_dist.training.arithmetic_changes import read_fingerprint
from signs_dist.training.arithmetic_probe import name_only, probe_arithmetic
from signs_dist.training.cached_features import with_features
from signs_dist.training.loop import Observer
from signs_dist.training.prepare import Prepared, prepare, require_same_images
from signs_dist.training.process import Process
from signs_dist.training.run_state import RunState, make_run_state
from signs_dist.training.stepper import Stepper


def config_again(run: RecordedRun, *, data: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The config with which a run is trained again: its own, with its micro-batch and its precision.

    What does not change the weights is left out: checks of the hardware, dashboards, the report, sharding, the
    compiler, CUDA graphs, trials of threads. Relative paths are those of the folder in which the run was started.

    Args:
        run: the run.
        data: where its images lie now; None: where they lay.
        overrides: settings that win, as on the command line.

    Raises:
        UserError: a setting is not legal, or the images are no longer where they lay.
    """
    config = read_config(run.folder.config, overrides, is_saved=True).config
    given = {override.partition("=")[0] for override in overrides}
    changes: dict[str, Any] = {
        "shard_optimizer": False,
        "compile": False,
        "graph": False,
        "autotune": False,
        "micro_batch": config.train.micro_batch or run.micro_batch,
    }
    if "train.precision" not in given and run.precision is not None:
        changes["precision"] = run.precision
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=changes),
            "data": config.data.model_copy(update=_changes_of_data(config, run, data)),
            "check": CheckConfig(),
            "log": config.log.model_copy(update={"to": (), "report": False, "samples": False}),
        }
    )


def _changes_of_data(config: Config, run: RecordedRun, data: str | None) -> dict[str, Any]:
    working_folder = str(run.working_folder) if run.working_folder is not None else None
    cache = find_writable(config.data.cache, working_folder) or user_cache_folder(os.environ)
    changes: dict[str, Any] = {"cache": str(cache)}
    if data is not None:
        return {**changes, "root": data}
    if config.data.reader is not None:
        return changes
    sources = run.data.get("sources")
    if not isinstance(sources, list) or not sources or not all(isinstance(each, str) for each in sources):
        return changes
    missing = [each for each in sources if not Path(each).exists()]
    if not missing:
        return {**changes, "root": sources[0] if len(sources) == 1 else tuple(sources)}
    root = config.data.root
    if not all(Path(each).exists() for each in ([root] if isinstance(root, str) else root or [DEFAULT_ROOT])):
        raise UserError(
            f"the images of {run.path} are no longer in {', '.join(missing)}. Type --data PATH, where they lie now."
        )
    return changes


def _told_where_modules_lie(error: MissingModuleError, run: RecordedRun) -> UserError:
    if run.working_folder is None or run.working_folder == Path.cwd():
        return error
    where = shlex.quote(str(run.working_folder))
    return UserError(f"{error} The run was started in {where}. Type cd {where}, and the command again.")


def begin_again(
    config: Config, process: Process, run: RecordedRun, start: State, *, observe: Observer | None = None
) -> Again:
    """Make a run ready to train on from one of its states. All processes call this with the same arguments.

    Args:
        config: from `config_again`.
        process: where this process runs.
        run: the run.
        start: the state to begin from.
        observe: called after each forward pass.

    Raises:
        UserError: images, network or checkpoint cannot be used.
    """
    strategy = process.strategy

    def make_prepared() -> Prepared:
        try:
            return prepare(config, process, micro_batch=run.micro_batch, division=run.division)
        except MissingModuleError as error:
            raise _told_where_modules_lie(error, run) from error

    prepared = strategy.all_succeed(make_prepared, "wait for all to prepare")
    require_same_images(prepared, strategy)
    prepared = with_features(prepared, process)

    def make() -> Again:
        stepper = Stepper(prepared, process)
        # Before the state is loaded: it is what the network computes from its initial weights.
        exact = config.exact
        arithmetic = probe_arithmetic(stepper.make_trial(), prepared) if exact else name_only(prepared, strategy.device)
        stepper.arithmetic, stepper.state.observe = arithmetic, observe
        run_state = make_run_state(prepared)
        content = read_checkpoint(start.path) if start.path is not None else None
        if content is not None:
            assert start.path is not None
            run_state.restore(content, stepper, start.path)
        before = read_fingerprint(content) if content is not None else run.arithmetic
        fingerprints = content["run"].get("data", {}).get("fingerprints", {}) if content is not None else {}
        return Again(stepper, run_state, process, before, fingerprints or run.fingerprints)

    return strategy.all_succeed(make, "wait for all to load the state")


# Many members: what a caller reads of a run while it trains, and what it compares with the run before.
class Again:
    """A run that trains again on this process.

    Args:
        stepper: with the state loaded.
        run_state: of the state.
        process: where this process runs.
        before: the arithmetic with which the run trained; None where that is not recorded.
        fingerprints: SHA-256 of each split's images, as the run had them; empty where that is not recorded.

    Attributes:
        stepper, run_state: as given.
        sums: losses and hits of this process's images of the epoch so far; of a whole epoch until the next one begins.
        arithmetic: of this process.
        same_images: whether the training images are those of the run; None where that is not recorded.
        same_bits: whether this process computes the bits of the run; None if nothing can tell: in fast mode, or where
            the run has no fingerprint.
        differences: what differs in the arithmetic, by name.
    """

    def __init__(
        self,
        stepper: Stepper,
        run_state: RunState,
        process: Process,
        before: Fingerprint | None,
        fingerprints: dict[str, str],
    ) -> None:
        self.stepper, self.run_state = stepper, run_state
        self._process = process
        strategy, now = process.strategy, stepper.arithmetic
        self.sums = run_state.take_sums(stepper.state.num_classes, strategy.device, is_main=strategy.is_main)
        assert now is not None
        self.arithmetic = now
        own = stepper.prepared.fingerprints["train"]
        self.same_images = fingerprints["train"] == own if "train" in fingerprints else None
        self.same_bits = before.is_same(now) if before is not None else None
        self.differences = before.differences(now) if before is not None else []

    @property
    def steps_done(self) -> int:
        """Steps since the start of the run."""
        return self.run_state.steps_done

    def train_until(self, steps_done: int) -> Iterator[int]:
        """Train on, over the ends of epochs, and yield the steps done after each step. Nothing is evaluated.

        After the last step of an epoch it yields first, and ends the epoch then: whoever evaluates does so in between.

        Args:
            steps_done: where to stop, in steps since the start of the run.

        Raises:
            NonFiniteLossError: of the step whose loss is not finite.
        """
        num_steps = self.stepper.prepared.plan.num_steps
        while self.steps_done < steps_done:
            cursor = self.run_state.cursor
            if cursor.step == num_steps:  # saved between the last step and the evaluation
                self.run_state.end_epoch(None)
                cursor = self.run_state.cursor
            if cursor.step == 0:
                self.sums = RunningSums(self.stepper.state.num_classes, self._process.strategy.device)
            for _ in self._steps(cursor, min(num_steps, cursor.step + steps_done - self.steps_done)):
                yield self.steps_done
            self.stepper.state.sync.settle()
            if self.run_state.cursor.step == num_steps:
                self.run_state.end_epoch(None)

    def _steps(self, cursor: Cursor, last_step: int) -> Iterator[None]:
        with contextlib.closing(self.stepper.steps(cursor, self.sums)) as steps:
            for report in steps:
                self.run_state.advance()
                yield
                if report.step == last_step:
                    return

    def content(self) -> dict[str, Any]:
        """What a checkpoint of this place would hold: copies, on the CPU. The same on every process."""
        return self.run_state.to_content(self.stepper, Copier(), None, {})

    def close(self) -> None:
        """End the worker processes of the loaders."""
        self.stepper.close()
