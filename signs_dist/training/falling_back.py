"""Resuming from the newest checkpoint that fits the run, where a newer one does not, whatever its digest says."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from signs_dist.checkpointing.fitting import find_misfits
from signs_dist.checkpointing.resume_rules import Found, set_aside
from signs_dist.checkpointing.store import SUSPECT, CheckpointStore, read_checkpoint
from signs_dist.config.settings import Config
from signs_dist.errors import CheckpointError
from signs_dist.run_folder.folder import RunFolder
from signs_dist.training.earlier_attempt import EarlierAttempt, take_up
from signs_dist.training.process import Process
from signs_dist.training.run_state import expected_of
from signs_dist.training.stepper import Stepper


def fall_back(
    earlier: EarlierAttempt,
    config: Config,
    folder: RunFolder,
    stepper: Stepper,
    accepted: Collection[str],
    process: Process,
) -> EarlierAttempt:
    """`earlier`, or the attempt that resumes from the newest checkpoint that fits the run, if that is another one.

    If no checkpoint fits, the run is another one than the folder's: `resume_from` refuses it then.

    Raises:
        UserError: the checkpoint that fits was made with settings that differ.
    """
    strategy, newest, content = process.strategy, earlier.path, earlier.content
    if newest is None or content is None:
        return earlier

    def look() -> Found:
        expected = expected_of(stepper)
        if not strategy.is_main or not find_misfits(content, expected):
            return Found(newest, earlier.broken)
        broken = list(earlier.broken)
        files = [path for _, path in _store_of(folder, config).files()]
        for path in files[files.index(newest) :]:
            try:
                misfits = find_misfits(read_checkpoint(path), expected)
            except CheckpointError as error:
                broken.append((path, str(error)))
                continue
            if not misfits:
                return Found(path, tuple(broken))
            broken.append((path, f"{path} is broken: {misfits[0]}."))
        return Found(newest, earlier.broken)

    found = strategy.share_value(strategy.all_succeed(look, "look for a checkpoint that fits"), "agree on it")
    return earlier if found.path == newest else take_up(found, earlier, config, accepted, strategy)


def set_broken_aside(earlier: EarlierAttempt, config: Config, folder: RunFolder) -> EarlierAttempt:
    """Rename broken checkpoints and suspects of a run that now resumes. Returns `earlier` with a note about each."""
    if not folder.is_writer:
        return earlier
    store = _store_of(folder, config)
    renamed = set_aside(store, [path for path, _ in earlier.broken]) + set_aside(store, earlier.suspects, SUSPECT)
    return dataclasses.replace(earlier, notes=(*earlier.notes, *renamed))


def _store_of(folder: RunFolder, config: Config) -> CheckpointStore:
    return CheckpointStore(folder.checkpoints, config.checkpoint.keep)
