"""The folder of a sweep, as the sweep itself writes it. `results.sweeps` reads it, and says what it holds."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signs_dist.config.file_text import read_config_text
from signs_dist.errors import UserError
from signs_dist.files import cannot_make, write_text
from signs_dist.results.sweeps import BASE, DEFINITION, OUTPUT, RECORD, STUDY, TRIALS, is_sweep
from signs_dist.run_folder.holder import Holder
from signs_dist.run_folder.lease import NAME as LEASE
from signs_dist.run_folder.lease import Lease
from signs_dist.searching.definition import Definition, to_text, why_other
from signs_dist.searching.definition_file import read_definition
from signs_dist.searching.record import SweepRecord
from signs_dist.searching.space import to_settings
from signs_dist.searching.trials import differences_of_base

MOST_DIFFERENCES = 3
"""How many settings a message names."""
TAKEOVER_SECONDS = 30.0
"""How long a sweep on another machine may give no sign of life before its folder counts as free."""


class SweepFolder:
    """A sweep's folder; each file and subfolder is an attribute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._definition = path / DEFINITION
        self.base = path / BASE
        self.record = SweepRecord(path)
        self.trials = path / TRIALS
        self._output = path / OUTPUT
        self.study = path / STUDY

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a sweep."""
        return is_sweep(self.path)

    def run_path(self, run_id: str) -> Path:
        """The folder of a run."""
        return self.trials / run_id

    def output_path(self, run_id: str) -> Path:
        """The file with what a run's process prints."""
        return self._output / f"{run_id}.txt"

    def read_definition(self) -> Definition:
        """The sweep that the folder holds. Raises `UserError`."""
        if not self.is_begun:
            raise UserError(f"{self.path} holds no sweep. To begin one, type what to search: optim.lr=0.1,0.03")
        definition = read_definition(self._definition)
        return definition if definition.config is None else dataclasses.replace(definition, config=self.base)

    @property
    def has_runs(self) -> bool:
        """Whether a run has begun or was submitted."""
        return any(any(self.trials.glob(f"*/{name}")) for name in ("config.yaml", "submit"))

    def describe_difference(self, definition: Definition, chosen: dict[str, Any]) -> str:
        """In what the sweep that the folder holds is another one; "" if it is the same, or a part of this one.

        Args:
            definition: of the sweep that is to run here.
            chosen: of one of its trials.

        Raises:
            UserError: the folder's own definition cannot be read.
        """
        before = self.read_definition()
        if why := why_other(before, definition):
            return why
        base = (before.config, before.settings), (definition.config, definition.settings)
        differences = differences_of_base(*base, to_settings(chosen))
        more = f"; and {len(differences) - MOST_DIFFERENCES} more" if len(differences) > MOST_DIFFERENCES else ""
        return "; ".join(differences[:MOST_DIFFERENCES]) + more

    def refuse_other(self, definition: Definition, chosen: dict[str, Any]) -> None:
        """Refuse a folder with other files, or with runs of another sweep.

        Args:
            definition, chosen: as in `describe_difference`.

        Raises:
            UserError: the message says what differs.
        """
        if not self.is_begun:
            self._refuse_foreign()
        elif self.has_runs and (why := self.describe_difference(definition, chosen)):
            raise UserError(
                f"--out {self.path} holds another sweep: {why}. Choose another --out. To go on with the sweep there, "
                f"type --out {self.path} without anything to search."
            )

    def clear(self) -> None:
        """Remove the files of a sweep that has no runs, as after a first try with wrong settings."""
        assert not self.has_runs
        for file in (self._definition, self.path / RECORD, self.study, self.base):
            file.unlink(missing_ok=True)

    def _refuse_foreign(self) -> None:
        if self.path.is_symlink() or self.path.exists():
            if not self.path.is_dir():
                raise UserError(f"--out {self.path} is not a folder. Choose another name.")
            # A sweep that was killed while it made its folder leaves these.
            ours = (".", LEASE, DEFINITION, BASE, RECORD, TRIALS, OUTPUT, STUDY)
            if foreign := sorted(each.name for each in self.path.iterdir() if not each.name.startswith(ours)):
                raise UserError(
                    f"--out {self.path} exists and holds other files: {', '.join(foreign[:3])}. Choose another name."
                )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within the block no other sweep works in this folder, also on another machine.

        Raises:
            UserError: another one does, or the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lease = Lease.acquire(self.path, host=platform.node(), pid=os.getpid(), takeover_seconds=TAKEOVER_SECONDS)
        except UserError as error:
            holder = Holder.read(self.path / LEASE)
            if holder is None:
                raise
            raise UserError(
                f"--out {self.path} is in use by another sweep: process {holder.pid} on {holder.host}. Wait until it "
                f"ends, or choose another --out. To look at it: python -m signs_dist.sweep --show {self.path}"
            ) from error
        except OSError as error:
            raise cannot_make(error, self.path) from error
        try:
            yield
        finally:
            lease.release()

    def begin(self, definition: Definition) -> Definition:
        """Write the definition, and a copy of its config. Returns the definition with the copy.

        Raises:
            UserError: the config cannot be read, or the disk is full.
        """
        try:
            for folder in (self.trials, self._output):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_make(error, self.path) from error
        if definition.config is not None:
            write_text(self.base, read_config_text(definition.config))
            definition = dataclasses.replace(definition, config=self.base)
        write_text(self._definition, to_text(definition, None if definition.config is None else BASE))
        return definition
