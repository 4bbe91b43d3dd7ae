"""What to do about an image that cannot be read, by where the images come from."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from signs_dist.data.images import BadImageError
from signs_dist.data.own_reader import OwnReader
from signs_dist.data.readers import ImageReader
from signs_dist.data.shards.reading import ShardReader


@contextlib.contextmanager
def inspection_advised(sources: Sequence[Path], reader: ImageReader) -> Iterator[None]:
    """Say of an image that cannot be read how to find all of them, and how to train without them.

    Args:
        sources: the folders and tables that `data.root` names.
        reader: reads the images.
    """
    try:
        yield
    except BadImageError as error:
        advice = advice_on(error.path, sources, reader)
        if advice is None:
            raise
        raise BadImageError(error.path, error.reason, advice) from error


def advice_on(path: str, sources: Sequence[Path], reader: ImageReader) -> str | None:
    """What to do about the image at `path`; None where no command finds the others. Arguments as above."""
    if isinstance(reader, OwnReader):
        return f"Mend what read gives for it in data.reader={reader.name}, or let images leave it out."
    if isinstance(reader, ShardReader):
        root = shlex.quote(str(reader.root))
        return (
            f"Write the shards again without it. To find all such images, type: python -m signs_dist.inspect {root}. "
            f"To write them into shards without these: python -m signs_dist.data.build --source {root} --shards "
            f"--bad-images skip"
        )
    source = _source_of(path, sources)
    if source is None or not source.exists():
        return None
    command = f"python -m signs_dist.inspect {shlex.quote(str(source))} --write"
    if len(sources) == 1:
        return (
            f"Replace or remove the file. To find all such files, and train without them, type: {command} config.yaml"
        )
    return (
        f"Replace or remove the file. To find all such files, type: {command} usable.yaml. To train without them, give "
        f"usable.csv in data.root instead of {source}"
    )


def _source_of(path: str, sources: Sequence[Path]) -> Path | None:
    """The source that names the file at `path`: the only one, or the folder that holds it, else the first table."""
    if len(sources) == 1:
        return sources[0]
    holding = [source for source in sources if source.is_dir() and source.absolute() in Path(path).absolute().parents]
    return next(iter(holding), next((source for source in sources if source.is_file()), None))
