"""TensorBoard: event files in the run folder.

`tensorboard --logdir runs` shows all runs. The event files are written without torch, whose import takes seconds.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DataType
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from signs_dist.config.yaml_text import format_mapping
from signs_dist.tracking.tracker import Ending, RunFacts, numbers_of, plain

FOLDER = "tensorboard"
"""In the run folder."""


class TensorBoard:
    """A run's event files. Each attempt writes a new file; TensorBoard reads them as one run."""

    def __init__(self, facts: RunFacts, run_id: str) -> None:
        folder = facts.path / FOLDER
        self._writer = EventFileWriter(str(folder))
        self._is_new = not run_id
        self._settings = plain(facts.settings)
        self._has_begun = False
        self.run_id, self.url = facts.name, ""

    def last_step(self) -> int | None:
        """None: `log` lets TensorBoard drop the steps that were written after the mark."""
        return None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        self._begin(step)
        self._add(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def flush(self) -> None:
        """Write to the disk."""
        self._writer.flush()

    def show_picture(self, step: int, name: str, picture: bytes) -> None:
        """Add a picture (PNG)."""
        width, height = Image.open(io.BytesIO(picture)).size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=picture)
        self._add(step, [Summary.Value(tag=name, image=image)])

    def end(self, ending: Ending, result: Mapping[str, Any]) -> None:
        """Add the final numbers, and close the file."""
        if result:
            values = numbers_of(result).items()
            self._add(
                int(result.get("steps", 0)), [Summary.Value(tag=name, simple_value=each) for name, each in values]
            )
        self._writer.close()

    def _begin(self, step: int) -> None:
        """Before the first step of an attempt: the settings of a new run, or from where a resumed run goes on.

        TensorBoard drops what earlier files hold from a START on, such as steps written by a feeder that was killed
        before it wrote its mark.
        """
        if self._has_begun:
            return
        self._has_begun = True
        if self._is_new:
            self._add(0, [_text("config", f"```\n{format_mapping(self._settings)}\n```")])
        else:
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(step=step, wall_time=time.time(), session_log=start))

    def _add(self, step: int, values: list[Any]) -> None:
        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))


def _text(tag: str, markdown: str) -> Any:
    """A text in Markdown, as TensorBoard's text plugin reads it."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DataType.DT_STRING, string_val=[markdown.encode()], tensor_shape=shape)
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def open_tracker(facts: RunFacts, run_id: str) -> TensorBoard:
    """The run's event files."""
    return TensorBoard(facts, run_id)
