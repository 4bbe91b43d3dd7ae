"""What every command shares: its parser, and turning errors into messages and exit codes."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from signs_dist.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, TrainingFailedError, UserError
from signs_dist.files import explained

Main = Callable[[Sequence[str]], int]


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser that names the nearest flag, and says how a setting is written when a flag is a setting."""

    def error(self, message: str) -> NoReturn:
        """Print the message and what to type instead, and exit with 2."""
        prefix = "unrecognized arguments: "
        hint = self._suggest(message.removeprefix(prefix).split()[0]) if message.startswith(prefix) else ""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {message}.{hint}\n")

    def _suggest(self, word: str) -> str:
        flag = word.split("=", 1)[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1)
        if near:
            return f" Did you mean {near[0]}?"
        if flag.startswith("--") and "." in flag:
            return f" Settings are written without dashes: {word[2:]}{'' if '=' in word else '=VALUE'}"
        return ""


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE` and `section.key=value …`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings; see configs/")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="settings that win over the file, such as optim.lr=0.05",
    )


def run_command(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; a mistake of the user is told on standard error, without a traceback."""
    try:
        code = main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except TrainingFailedError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (such as `head`) has gone; there is nobody to tell. Keep Python's exit silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USAGE
    except OSError as error:
        mended = explained(error, Path(str(error.filename or "the output")))
        if not isinstance(mended, UserError):
            raise
        print(f"error: {mended}", file=sys.stderr)
        return EXIT_USAGE
    return code
