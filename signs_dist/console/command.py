"""What all commands share: the parser, and turning errors into messages and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from signs_dist.console.streams import finish_output, is_output_lost, prepared_streams
from signs_dist.environment.core_use import set_waiting
from signs_dist.environment.limit_errors import explain_limit
from signs_dist.errors import EXIT_OUTPUT_LOST, EXIT_USAGE, CommandError, UserError
from signs_dist.files import NO_SPACE, explain_file_size, explained
from signs_dist.monitoring.endings import exit_code, final_line
from signs_dist.monitoring.plain_text import without_control
from signs_dist.monitoring.signals import CommandSignals

SETTINGS = "overrides"
"""The attribute of the parsed arguments that holds `section.key=value …`."""
LATER_SECONDS = 3.0
"""How long all processes except rank 0 wait before they print an error in the user's input."""
MOST_MEGAPIXELS = 10_000.0
"""The largest legal `--max-megapixels`: two images of the largest size that JPEG allows."""
Main = Callable[[Sequence[str]], int]


class CommandParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors name the nearest flag, or say how to write a setting that was given as a flag.

    Attributes:
        passes_on: for a launcher, the parser of the command that gets the arguments after `--`; else None.
    """

    passes_on: CommandParser | None = None
    _given: tuple[str, ...] = ()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.register("type", Path, read_path)

    def flags(self) -> list[str]:
        """All flags, as they are typed."""
        return list(self._option_string_actions)

    def _flags_of_all(self) -> list[str]:
        """All flags, and those of its subcommands."""
        below = [action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return [*self.flags(), *(flag for choices in below for each in choices.values() for flag in each.flags())]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in ArgumentParser. Keeps the given arguments for error messages."""
        self._given = self._given or tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def print_help(self, file: Any = None) -> None:
        """As in ArgumentParser, which passes over an output that cannot be written. Raises OSError for it."""
        print(self.format_help(), end="", file=file, flush=True)

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
        self.exit(EXIT_USAGE, f"error: {without_control(message)}.{without_control(hint)}\n")

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
        near = difflib.get_close_matches(flag, self._flags_of_all(), n=1, cutoff=0.7)
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


def read_path(text: str) -> Path:
    """The type of each path: as `Path`, which would take an empty text for the current folder."""
    return Path(filled_text(text))


def filled_text(text: str) -> str:
    """A type for `add_argument`: text that is not empty, as `"$FOLDER"` is where the variable is not set."""
    if not text:
        raise argparse.ArgumentTypeError("the text is empty. Is a variable of the shell not set? Type a name")
    return text


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


def add_max_megapixels(parser: argparse.ArgumentParser) -> None:
    """Add `--max-megapixels N`: how large an image may be."""
    parser.add_argument(
        "--max-megapixels",
        type=float,
        metavar="N",
        help="largest width times height of an image, in millions; larger ones are refused (default: 250)",
    )


def add_looking(parser: argparse.ArgumentParser, source: str, metavar: str | None, quiet: str) -> None:
    """Add what the commands share that look at photos: where they are, how they are read, and how much is told.

    Args:
        parser: of the command.
        source: help of the photos.
        metavar: their name in the usage; None: source.
        quiet: help of `--quiet`.
    """
    parser.add_argument("source", type=read_path, metavar=metavar, help=source)
    parser.add_argument(
        "--processes",
        type=whole_number(MOST_PROCESSES),
        metavar="N",
        help="worker processes (default: all usable cores)",
    )
    add_max_megapixels(parser)
    parser.add_argument("--all", action="store_true", help="name every file, however many have the same fault")
    parser.add_argument("--quiet", action="store_true", help=quiet)


def checked_megapixels(given: float | None) -> float | None:
    """The value of `--max-megapixels`, None if it is not given. Raises `UserError` if it is out of its range."""
    if given is not None and not 0 < given <= MOST_MEGAPIXELS:
        raise UserError(f"--max-megapixels {given:g} is not above 0 and at most {MOST_MEGAPIXELS:g}.")
    return given


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
    if not _is_rank_0():
        time.sleep(LATER_SECONDS)


def _is_rank_0() -> bool:
    from signs_dist.environment.launchers import find_launch

    try:
        return find_launch(os.environ).rank == 0
    except UserError:  # the variables of its launcher are wrong: each process says so
        return True


def write_torchrun_error(line: str, code: int) -> None:
    """Write the line to torchrun's error file, so that torchrun's report shows it and not only an exit code."""
    from signs_dist.environment.launchers import find_error_file

    path = find_error_file(os.environ)
    if path is not None:
        from signs_dist.monitoring.error_file import write_error_line

        with contextlib.suppress(OSError):
            write_error_line(path, line, code)


def _describe_limit(error: OSError | ImportError | MemoryError) -> UserError | None:
    """What to print for an error that a limit, a full disk or missing permission explains; None for another error."""
    if limit := explain_limit(error):
        return UserError(f"{str(error) or 'out of memory'}. {limit}")
    if not isinstance(error, OSError):
        return None
    if error.filename is None:  # no file: standard output
        if error.errno == errno.EFBIG:
            return UserError(f"cannot write the output: {error.strerror}. {explain_file_size()}")
        full = f"no space left while writing the output: {error.strerror}."
        return (
            UserError(f"{full} Free some space there, or choose another folder.") if error.errno in NO_SPACE else None
        )
    described = explained(error, Path(str(error.filename)), "open")
    return described if isinstance(described, UserError) else None


def run_command(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    A `CommandError` and a signal are printed in one line on standard error, without a traceback. A command that prints
    to `sys.stdout` ends with 141 when nobody reads it any more, and with 2 on a full disk.

    Args:
        main: the command, called with its arguments.
        arguments: None: those of this process, which exits when the command has ended.
    """
    set_waiting(os.environ)
    signals = CommandSignals()
    with prepared_streams(), signals.handling(until_exit=arguments is None):
        try:
            code = _run(main, sys.argv[1:] if arguments is None else arguments)
            signals.note_ending(code)
        except KeyboardInterrupt as error:
            code = exit_code(error)
            signals.note_ending(code)
            if _is_rank_0():  # all processes of a run get the signal
                print(final_line(error), file=sys.stderr)
        finally:
            finish_output()
    return code


def _run(main: Main, arguments: Sequence[str]) -> int:
    try:
        code = main(arguments)
        sys.stdout.flush()
    except UserError as error:
        _let_rank_0_print()
        print(final_line(error), file=sys.stderr)
        write_torchrun_error(final_line(error), exit_code(error))
        return exit_code(error)
    except CommandError as error:
        print(final_line(error), file=sys.stderr)
        return exit_code(error)
    except (OSError, ImportError, MemoryError) as error:
        if isinstance(error, OSError) and error.filename is None and is_output_lost():
            return EXIT_OUTPUT_LOST
        described = _describe_limit(error)
        if described is None:
            raise
        print(final_line(described), file=sys.stderr)
        return exit_code(described)
    return code
