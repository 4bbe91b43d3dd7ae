"""The console script: `signs-dist train …` runs `python -m signs_dist.train …`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from signs_dist import __version__
from signs_dist.console.command import run_command
from signs_dist.errors import EXIT_OK, UserError

COMMANDS: dict[str, tuple[str, str]] = {
    "train": ("signs_dist.train", "train a classifier"),
    "evaluate": ("signs_dist.evaluate", "score a trained model on a split"),
    "predict": ("signs_dist.predict", "print the class of each photo"),
    "build": ("signs_dist.data.build", "make a data set from photos or a zip"),
    "audit": ("signs_dist.data.audit", "find broken, repeated and unlabelled images"),
    "download": ("signs_dist.data.download", "download the published SIGNS photos"),
    "synthetic": ("signs_dist.data.synthetic", "draw hands showing 0 to 5"),
    "checkpoint": ("signs_dist.checkpoint", "show and verify checkpoints"),
    "drill": ("signs_dist.drill", "kill a short run many times, and check that nothing is lost"),
    "parity": ("signs_dist.parity", "check that any number of processes gives the same result"),
}
"""Command → (module with a function `main(arguments)`, what it does)."""


def usage() -> str:
    """The text of `signs-dist --help`."""
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items())
    return f"usage: signs-dist COMMAND …\n\n{rows}\n\nTo see a command's flags: signs-dist COMMAND --help"


def dispatch(arguments: Sequence[str]) -> int:
    """Run the command that the first argument names, with the other arguments. Returns its exit code.

    Raises:
        UserError: there is no such command.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return EXIT_OK
    name, *rest = arguments
    if name == "--version":
        print(f"signs_dist {__version__}")
        return EXIT_OK
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"signs-dist {name}: no such command.{hint} Commands: {', '.join(COMMANDS)}")
    code: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    return code


def main() -> int:
    """Entry point of the console script."""
    return run_command(dispatch)


if __name__ == "__main__":
    sys.exit(main())
