"""Trackio. Its environment variables are honoured: TRACKIO_DIR, TRACKIO_SPACE_ID, TRACKIO_SERVER_URL, …"""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from typing import Any

import trackio
from PIL import Image
from trackio.sqlite_storage import SQLiteStorage

from signs_dist.tracking.tracker import Ending, RunFacts, numbers_of, plain

PROJECT = "signs_dist"
"""Where TRACKIO_PROJECT does not name another."""


class Trackio:
    """A run of Trackio, which knows a run by its project and name."""

    def __init__(self, facts: RunFacts, run_id: str) -> None:
        self._project = os.environ.get("TRACKIO_PROJECT") or PROJECT
        # Two run folders may have the same name.
        self.run_id = run_id or f"{facts.name}-{uuid.uuid4().hex[:8]}"
        self.url = ""
        self._last_logged = -1
        self._run = trackio.init(
            project=self._project, name=self.run_id, resume="allow", config=plain(facts.settings), embed=False
        )

    def last_step(self) -> int | None:
        """The last step in the local data base, -1 for none; None where the data is on a server."""
        if os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL"):
            return None
        step = SQLiteStorage.get_max_step_for_run(self._project, self.run_id, run_id=self._run.id)
        return -1 if step is None else int(step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        self._run.log(dict(values), step=step)
        self._last_logged = max(self._last_logged, step)

    def flush(self) -> None:
        """Nothing to do: a thread writes within half a second, and `last_step` tells what it has written."""

    def show_picture(self, step: int, name: str, picture: bytes) -> None:
        """Add a picture (PNG)."""
        self._run.log({name: trackio.Image(Image.open(io.BytesIO(picture)))}, step=step)

    def end(self, ending: Ending, result: Mapping[str, Any]) -> None:
        """Add the final numbers, and end the run.

        Raises:
            OSError: the local data base does not have all. Trackio itself only warns where it cannot write.
        """
        if result:
            self.log(int(result.get("steps", 0)), numbers_of(result))
        self._run.finish()
        stored = self.last_step()
        if stored is not None and stored < self._last_logged:
            what = f"nothing after step {stored:,}" if stored >= 0 else "nothing"
            raise OSError(f"Trackio has stored {what}. Its warnings say why; look whether its folder can be written")


def open_tracker(facts: RunFacts, run_id: str) -> Trackio:
    """A new run, or the one with an earlier name."""
    return Trackio(facts, run_id)
