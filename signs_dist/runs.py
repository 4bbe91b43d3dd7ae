"""All runs at a glance, one run live, and removing runs.

python -m signs_dist.runs                                    all runs below runs/
python -m signs_dist.runs list FOLDER --sort val_accuracy    the best first; --json for programs
python -m signs_dist.runs watch runs/a                       one run, live, until it ends
python -m signs_dist.runs rm runs/a runs/b                   remove runs that have ended
python -m signs_dist.runs prune runs/ --keep-best 5          remove all but the five best
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signs_dist.console.command import CommandParser, run_command, whole_number
from signs_dist.console.streams import lasting
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError
from signs_dist.monitoring.plain_text import one_line

if TYPE_CHECKING:
    from rich.console import Console

    from signs_dist.results.queued import QueueAnswer
    from signs_dist.results.summary import RunSummary
    from signs_dist.results.watching import View

RUNS = Path("runs")
"""Where training makes its run folders."""
POLL_SECONDS = 1.0
"""How often `watch` reads the folder."""
COMMANDS = ("list", "watch", "rm", "prune")


def build_parser() -> CommandParser:
    """The commands and their flags."""
    parser = CommandParser(
        prog="python -m signs_dist.runs",
        description="All runs at a glance (list, which may be omitted), one run live, and removing runs.",
        epilog="Exit codes: 0 done, 1 a run could not be removed, 2 wrong input; of watch the run's own: 0 finished, "
        "1 failed or killed, 75 or 130 stopped by a signal. Ctrl-C in watch leaves the run alone.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{list,watch,rm,prune}")
    listing = commands.add_parser("list", help="a table of all runs below a folder")
    listing.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="where to look (default: runs/)")
    listing.add_argument(
        "--sort", metavar="KEY", help="a column, such as val_accuracy (default: started, newest first)"
    )
    listing.add_argument("--json", action="store_true", help="a JSON object a line, for programs")
    watch = commands.add_parser("watch", help="one run live: progress, curves, attempts; ends when the run ends")
    watch.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="a run folder, also of a run on another machine")
    remove = commands.add_parser("rm", help="remove runs that have ended")
    remove.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="run folders")
    prune = commands.add_parser("prune", help="remove all runs below a folder but the best")
    prune.add_argument("folder", type=Path, metavar="FOLDER", help="where to look")
    prune.add_argument("--keep-best", type=whole_number(10**9), required=True, metavar="N", help="how many to keep")
    prune.add_argument(
        "--by",
        default="val_accuracy",
        metavar="KEY",
        help="val_accuracy, test_accuracy or val_loss (default: the first)",
    )
    prune.add_argument(
        "--checkpoints", action="store_true", help="remove only the checkpoints of the others, where they are finished"
    )
    for each in (remove, prune):
        each.add_argument("--yes", action="store_true", help="do not ask")
    for each, run in ((listing, list_runs), (watch, watch_run), (remove, remove_runs), (prune, prune_runs)):
        each.set_defaults(run=run)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments say."""
    is_named = bool(arguments) and arguments[0] in (*COMMANDS, "-h", "--help")
    options = build_parser().parse_args(list(arguments) if is_named else ["list", *arguments])
    code: int = options.run(options)
    return code


def list_runs(options: argparse.Namespace) -> int:
    """Print the table of runs, or a line of JSON for each."""
    import json

    from signs_dist.results.finding import require_folder
    from signs_dist.results.listing import count_states, sort_runs, table_lines, to_json
    from signs_dist.results.overview import read_runs

    sort_runs([], options.sort)  # refuses a wrong column before the work
    folder = RUNS if options.folder is None else options.folder
    if options.folder is not None:
        require_folder(folder)
    summaries, answer = read_runs(folder)
    _tell_problem(answer)
    summaries = sort_runs(summaries, options.sort)
    if options.json:
        for summary in summaries:
            print(json.dumps(to_json(summary), ensure_ascii=True, allow_nan=False))
        return EXIT_OK
    if not summaries:
        print(f"no runs below {folder}/. To make one below runs/, type: python -m signs_dist.train")
        return EXIT_OK
    console = _make_console()
    for line in table_lines(summaries, folder, console.width if console.is_terminal else None):
        console.print(line, soft_wrap=True)
    console.print(f"{folder}: {count_states(summaries)}", style="dim", markup=False, soft_wrap=True)
    return EXIT_OK


def watch_run(options: argparse.Namespace) -> int:
    """Show a run until it ends, and exit with its exit code. Ctrl-C ends this command and not the run."""
    from signs_dist.results.finding import require_run
    from signs_dist.results.watching import ending_code

    require_run(options.run_dir)
    console = _make_console()
    try:
        view = _watch_live(options.run_dir, console) if console.is_terminal else _watch_lines(options.run_dir)
    except KeyboardInterrupt:
        again = shlex.quote(str(options.run_dir))
        print(f"the run is left alone. To watch it again: python -m signs_dist.runs watch {again}")
        raise
    return ending_code(view)


def _watch_live(path: Path, console: Console) -> View:
    """Redraw the terminal at each poll, in a screen of its own, and print the last view when the run has ended."""
    from rich.live import Live

    from signs_dist.results.watching import polls, render_view

    has_colour = console.color_system is not None
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for view in polls(path, POLL_SECONDS):
            size = console.size  # of the terminal now: it may have been resized
            live.update(render_view(view, size.width, size.height, has_colour=has_colour), refresh=True)
    console.print(render_view(view, console.width, max(console.height, 24), has_colour=has_colour))
    return view


def _watch_lines(path: Path) -> View:
    """Print a line for each change: for a pipe, a CI log, or a terminal that cannot move its cursor."""
    from signs_dist.console.screen import Screen, Throttle
    from signs_dist.results.watching import card_text, new_epochs, news, polls, progress_line

    screen = Screen(is_terminal=False, file=lasting(sys.stdout))  # the exit code is wanted, whoever reads the output
    before: View | None = None
    steps = Throttle()  # in a long epoch, a line every 30 s
    for view in polls(path, POLL_SECONDS):
        summary, epochs = view.summary, new_epochs(before, view)
        for line in epochs:
            is_last = line is view.lines[-1]
            text = progress_line(line, summary.num_epochs, summary.seconds_left if is_last else None)
            screen.epoch(line.epoch, summary.num_epochs or line.epoch, text)
        if epochs:
            steps = Throttle()
        elif before is not None and len(view.lines) > len(before.lines) and steps.lets_through(0, 0):
            screen.say(progress_line(view.lines[-1], summary.num_epochs, summary.seconds_left))
        for text in news(before, view):
            screen.say(text)
        before = view
    if card := card_text(view):
        screen.say(card)
    return view


def remove_runs(options: argparse.Namespace) -> int:
    """Remove the run folders that are named, if none of them is alive."""
    from signs_dist.results.finding import find_named
    from signs_dist.results.overview import read_named_runs
    from signs_dist.results.pruning import find_obstacle
    from signs_dist.run_folder.removal import find_runs_within

    paths, gone = find_named(options.run_dirs)
    for path in gone:
        print(f"{one_line(str(path))} does not exist: nothing to remove there", file=sys.stderr)
    summaries, answer = read_named_runs(paths)
    nested = {path: [] if path.is_symlink() else find_runs_within(path) for path in paths}
    obstacles = [find_obstacle(summary, answer, nested[summary.path]) for summary in summaries]
    if any(obstacles):
        raise UserError("\n".join([*filter(None, obstacles), "Nothing was removed."]))
    return _remove(summaries, paths, options, "remove")


def prune_runs(options: argparse.Namespace) -> int:
    """Remove the runs below a folder that are not among the best, and not alive."""
    from signs_dist.results.finding import require_folder
    from signs_dist.results.overview import read_runs
    from signs_dist.results.pruning import CRITERIA, choose_removed, sort_out
    from signs_dist.run_folder.removal import has_checkpoints

    if options.by not in CRITERIA:
        raise UserError(f"--by {options.by}: no such number. Legal: {', '.join(CRITERIA)}.")
    if options.keep_best < 1:
        raise UserError(
            f"--keep-best {options.keep_best}: type 1 or more. To remove runs by name, type: runs rm RUN_DIR"
        )
    require_folder(options.folder)
    summaries, answer = read_runs(options.folder)
    _tell_problem(answer)
    alive, left_over, ended = sort_out(summaries, answer)
    if alive:
        names = ", ".join(one_line(str(each.path)) for each in alive)
        print(f"not touched, since they run, wait or cannot be judged: {names}", file=sys.stderr)
    removed = choose_removed(ended, options.keep_best, options.by)
    if options.checkpoints:
        whole = [each for each in removed if each.state == "finished" and (each.path / "model.pt").is_file()]
        removed = [each for each in whole if has_checkpoints(each.path)]
        parts = [each.path / "checkpoints" for each in removed]
        return _remove(removed, parts, options, "remove the checkpoints of")
    removed = [*left_over, *removed]
    return _remove(removed, [each.path for each in removed], options, "remove")


def _remove(summaries: Sequence[RunSummary], parts: Sequence[Path], options: argparse.Namespace, doing: str) -> int:
    """Show what is to be removed and what that frees, ask, and remove it. Returns the exit code.

    Args:
        summaries: of the runs.
        parts: of each run, the folder that is removed: the run's, or that of its checkpoints.
        options: of the command.
        doing: for people.
    """
    import platform

    from rich.filesize import decimal

    from signs_dist.console.screen import columns
    from signs_dist.results.liveness import find_holder_elsewhere
    from signs_dist.results.pruning import removed_rows
    from signs_dist.results.queued import ask_queue
    from signs_dist.results.summary import takeover_seconds
    from signs_dist.run_folder.removal import freed_bytes, remove_checkpoints, remove_run

    if not summaries:
        print("nothing to remove")
        return EXIT_OK
    sizes = [freed_bytes([part]) for part in parts]
    print(columns(removed_rows(summaries, sizes)))
    what = f"{len(summaries)} run{'' if len(summaries) == 1 else 's'}"
    if not options.yes and not _agrees(f"{doing} {what}, {decimal(freed_bytes(parts))}"):
        print("nothing was removed")
        return EXIT_OK
    later = ask_queue([] if options.yes else summaries)  # a person may have thought for long
    host, freed, num_removed = platform.node(), 0, 0
    for summary, part, size in zip(summaries, parts, sizes, strict=True):
        seconds = takeover_seconds(summary.path)
        try:
            if summary.path in later.jobs:
                raise UserError(f"a job was submitted for {summary.path} meanwhile: {later.jobs[summary.path].job}")
            if elsewhere := find_holder_elsewhere(summary.path):
                print(f"waiting up to {seconds:g} s, to be sure that the run on {one_line(elsewhere)} is gone")
            remove = remove_run if part == summary.path else remove_checkpoints
            remove(summary.path, host=host, takeover_seconds=seconds)
        except UserError as error:
            print(f"kept: {error}", file=sys.stderr)
            continue
        freed, num_removed = freed + size, num_removed + 1
    print(f"{num_removed} of {what} done, {decimal(freed)} freed")
    return EXIT_OK if num_removed == len(summaries) else EXIT_FAILED


def _agrees(what: str) -> bool:
    """Ask on the terminal. Raises `UserError` without one."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError(f"this would {what}. There is no terminal to ask on: add --yes to do it. Nothing was removed.")
    try:
        return input(f"{what[0].upper()}{what[1:]}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _tell_problem(answer: QueueAnswer) -> None:
    if answer.problem:
        print(f"states of waiting jobs are missing: {answer.problem}", file=sys.stderr)


def _make_console() -> Console:
    """The terminal, or plain text elsewhere."""
    from rich.console import Console

    from signs_dist.console.screen import without_wrong_sizes
    from signs_dist.environment.context import is_watched

    is_terminal = is_watched()
    return Console(
        force_terminal=is_terminal,
        force_jupyter=False,
        color_system="auto" if is_terminal else None,
        highlight=False,
        _environ=without_wrong_sizes(os.environ),
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
