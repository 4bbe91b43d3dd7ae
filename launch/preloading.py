"""What the parent of the workers imports before it forks them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.environment.collector import importing

from .program import program

if TYPE_CHECKING:
    from signs_dist.config.settings import Config

TRAIN = ("-m", "signs_dist.train")


def preload(arguments: Sequence[str]) -> None:
    """Import what workers import that run `python ARGUMENTS`. What fails is left to the workers, which say why."""
    given = find_training(arguments)
    if given is None:
        with importing():
            import torch  # noqa: F401

        return
    try:
        config = read_given_config(*given)
        with importing():
            from signs_dist.training.preloading import import_for

            import_for(config)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - each worker meets it again, and tells the user
        print(f"note: imported by each worker for itself: {error!r}", file=sys.stderr, flush=True)


def find_training(arguments: Sequence[str]) -> tuple[Path, list[str]] | None:
    """The working folder and the arguments of signs_dist.train; None where the arguments run something else.

    Args:
        arguments: of Python: those of a launch on this machine, or of a job, whose working folder comes first.
    """
    words = list(arguments)
    if tuple(words[:2]) == TRAIN:
        return Path(), words[2:]
    if tuple(words[:2]) == program("job") and len(words) > 3:
        return Path(words[2]), words[4:]
    return None


def read_given_config(folder: Path, arguments: Sequence[str]) -> Config | None:
    """The config that the arguments of signs_dist.train name; None for one that can be read only once.

    Args:
        folder: that a relative path of the config begins at.
        arguments: of signs_dist.train.

    Raises:
        UserError: a setting is wrong.
        SystemExit: a flag is wrong.
    """
    from signs_dist import train
    from signs_dist.config.file_text import is_shell_pipe
    from signs_dist.config.reading import read_config

    options = train.build_parser().parse_intermixed_args(arguments)
    # Python warns of a module that is imported before it is run.
    del sys.modules[train.__name__], sys.modules["signs_dist"].__dict__["train"]
    path: Path | None = options.config
    if path is not None and is_shell_pipe(path):
        return None
    return read_config(path and folder / path, options.overrides).config
