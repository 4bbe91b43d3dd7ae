"""A place in a run, and the name of the checkpoint at that place."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

_NAME = re.compile(r"epoch-(?P<epoch>[0-9]{4,9})(?:-step-(?P<step>[0-9]{6,12}))?\.pt")
_OLD_NAME = re.compile(r"epoch(?P<epoch>[0-9]{4,9})-step(?P<step>[0-9]{6,12})\.pt")


@dataclasses.dataclass(frozen=True, order=True)
class Cursor:
    """A place in a run: the number of finished epochs, and of steps done in the next epoch."""

    epoch: int
    step: int

    @property
    def file_name(self) -> str:
        """The name of the checkpoint at this place: epoch-0005-step-000120.pt, or epoch-0005.pt for an epoch's end."""
        return f"epoch-{self.epoch + 1:04}-step-{self.step:06}.pt" if self.step else f"epoch-{self.epoch:04}.pt"

    @classmethod
    def of_file(cls, path: Path) -> Cursor | None:
        """The place in the name of a checkpoint, also of an earlier release's; None for other files."""
        if found := _NAME.fullmatch(path.name):
            if found["step"] is None:
                return cls(int(found["epoch"]), 0)
            is_place = int(found["epoch"]) > 0 and int(found["step"]) > 0
            return cls(int(found["epoch"]) - 1, int(found["step"])) if is_place else None
        found = _OLD_NAME.fullmatch(path.name)
        return cls(int(found["epoch"]), int(found["step"])) if found else None

    def __str__(self) -> str:
        """The place in words, with epochs from 1: `epoch 5, step 120`, `epoch 5` for its end, or `the beginning`."""
        if self.step:
            return f"epoch {self.epoch + 1}, step {self.step}"
        return f"epoch {self.epoch}" if self.epoch else "the beginning"
