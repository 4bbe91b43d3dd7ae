"""What all commands share: the parser, and turning errors into messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from signs_dist.errors import EXIT_FAILED, EXIT_USAGE, CommandError, UserError
from signs_dist.files import explained
from signs_dist.monitoring.endings import exit_code, final_line

SETTINGS = "overrides"
"""The attribute of the parsed arguments that holds `section.key=value …`."""
LATER_SECONDS = 3.0
"""How long all processes except rank 0 wait before they print an error in the user's input."""
Main = Callable[[Sequence[str]], int]


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors name the nearest flag, or say how to write a setting that was given as a flag.

    Attributes:
        passes_on: for a launcher, the parser of the command that gets the arguments after `--`; else None.
    """

    passes_on: CommandParser | None = None
    _given: tuple[str, ...] = ()

    def flags(self) -> list[str]:
        """All flags, as they are typed."""
        return list(self._option_string_actions)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in ArgumentParser. Keeps the given arguments for error messages."""
        self._given = self._given or tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the message and what to type instead, and exit with code 2."""
        prefix = "unrecognized arguments: "
        hint = ""
        if message.startswith(prefix):
            argument = message.removeprefix(prefix).split()[0]
            hint = self._suggest_place(argument) or self._suggest(argument)
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            near = difflib.get_close_matches(choice[1], re.findall(r"[^\s',]+", choice[2]), n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"error: {message}.{hint}\n")

    def _suggest_place(self, argument: str) -> str:
        if self.passes_on is None:
            return ""
        flag = argument.split("=", 1)[0]
        self.passes_on._given = self._given
        if flag in self.passes_on._option_string_actions:
            return f" It is a flag of {self.passes_on.prog}: type it after --, as in {self.prog} … -- {argument} …"
        setting = self.passes_on._suggest_setting(flag, argument, cutoff=1.0)
        return f"{setting}, after --" if setting else ""

    def _suggest(self, argument: str) -> str:
        flag = argument.split("=", 1)[0]
        setting = self._suggest_setting(flag, argument, cutoff=1.0)
        if setting:
            return setting
        near = difflib.get_close_matches(flag, self._option_string_actions, n=1, cutoff=0.7)
        if near:
            return f" Did you mean {near[0]}?"
        return self._suggest_setting(flag, argument, cutoff=0.75)

    def _suggest_setting(self, flag: str, argument: str, *, cutoff: float) -> str:
        if not flag.startswith("--") or not any(action.dest == SETTINGS for action in self._actions):
            return ""
        from signs_dist.config.messages import find_setting  # pydantic: not for --help

        name = find_setting(flag[2:], cutoff=cutoff)
        if not name:
            return ""
        _, equals, value = argument.partition("=")
        place = self._given.index(argument) + 1 if argument in self._given else len(self._given)
        if not equals and place < len(self._given) and not self._given[place].startswith("--"):
            following = self._given[place]
            value = "" if "=" in following else following
        return f" Settings are written without dashes: {name}={value or 'VALUE'}"


MOST_PROCESSES = 1024
"""Of one machine."""
MOST_SEED = 2**63 - 1


def whole_number(most: int) -> Callable[[str], int]:
    """A type for `add_argument`: whole numbers of at most `most`. The command knows the least."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = most + 1
        if abs(value) > most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not legal: type a whole number of at most {most}")
        return value

    return read


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE` and `section.key=value …`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings; see configs/")
    parser.add_argument(
        SETTINGS,
        nargs="*",
        metavar="section.key=value",
        help="settings that override the file, such as optim.lr=0.05",
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `RUN_DIR`, `--weights NAME` and `--device DEVICE`: which trained model to load, and where."""
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run folder made by signs_dist.train")
    parser.add_argument(
        "--weights", default="final", metavar="NAME", help="final, best, last or a file (default: final)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")


def config_arguments(config: Path | None, overrides: Sequence[str]) -> list[str]:
    """The arguments that `add_config_arguments` reads, to pass them on to another command.

    Raises:
        UserError: the config is a pipe, which the other command cannot read.
    """
    from signs_dist.config.file_text import refuse_pipe

    refuse_pipe(config)
    return [*(["--config", str(config)] if config else []), *overrides]


def _let_rank_0_print() -> None:
    """Let rank 0 print an error in flags or config, which usually all processes of a run have.

    Each other process waits for its launcher to end it. If that does not happen, only this process has the error, and
    prints it.
    """
    from signs_dist.environment.launchers import find_launch

    try:
        launch = find_launch(os.environ)
    except UserError:
        return
    if launch.rank != 0:
        time.sleep(LATER_SECONDS)


def _write_torchrun_error(line: str, code: int) -> None:
    """Write the line to torchrun's error file, so that torchrun's report shows it and not only an exit code."""
    from signs_dist.environment.launchers import find_error_file

    path = find_error_file(os.environ)
    if path is not None:
        from signs_dist.monitoring.error_file import write_error_line

        with contextlib.suppress(OSError):
            write_error_line(path, line, code)


def run_command(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. A `CommandError` is printed on standard error, without a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Characters that the terminal's encoding lacks, and file names that are not UTF-8, must not end a run.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = main(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except UserError as error:
        _let_rank_0_print()
        print(final_line(error), file=sys.stderr)
        _write_torchrun_error(final_line(error), exit_code(error))
        return exit_code(error)
    except (CommandError, KeyboardInterrupt) as error:
        print(final_line(error), file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it: print nothing, and keep Python's exit silent too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except OSError as error:
        described = explained(error, Path(str(error.filename or "the output")))
        if not isinstance(described, UserError):
            raise
        print(final_line(described), file=sys.stderr)
        return exit_code(described)
    return code
