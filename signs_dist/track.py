"""Send a run to dashboards: TensorBoard, Weights & Biases, MLflow or Trackio.

python -m signs_dist.track RUN_DIR --to wandb
python -m signs_dist.track RUN_DIR --to tensorboard,mlflow
python -m signs_dist.track RUN_DIR --to tensorboard --follow
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, run_command
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError

POLL_SECONDS = 2.0
"""The interval at which a run under way is read."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.track",
        description="Send a run to dashboards, from its run folder. What a dashboard has already is not sent twice. "
        "With log.to=[…] training does this by itself.",
        epilog="Exit codes: 0 done, 1 a dashboard did not take the run, 2 wrong input, 75 or 130 stopped by a signal.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run folder made by signs_dist.train")
    parser.add_argument(
        "--to", required=True, metavar="NAMES", help="tensorboard, wandb, mlflow, trackio; several with commas"
    )
    parser.add_argument("--follow", action="store_true", help="continue until the run ends")
    # For training, which starts one process for each dashboard.
    parser.add_argument("--until-closed", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Feed each dashboard. Returns the exit code."""
    options = build_parser().parse_args(arguments)

    names = _read_names(options.to)
    if (options.follow or options.until_closed) and len(names) > 1:
        raise UserError(f"--follow takes one dashboard, not {options.to}. Start the command once for each.")

    from signs_dist.monitoring.plain_text import one_line
    from signs_dist.monitoring.waiting import telling
    from signs_dist.run_folder.folder import RunFolder
    from signs_dist.tracking.feeding import feed, note_error, polling
    from signs_dist.tracking.installed import require_installed

    folder = RunFolder.open(options.run_dir)
    require_installed(names, "--to ")
    is_over = _make_is_over(folder.path, until_closed=options.until_closed, follow=options.follow)
    code = EXIT_OK
    for name in names:
        try:
            with telling(lambda name=name: f"sends the run to {name}"):  # type: ignore[misc]
                mark = feed(folder.path, name, wait_for_more=polling(is_over, POLL_SECONDS))
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the dashboard's library raises
            reason = one_line(f"{type(error).__name__}: {error}")
            note_error(folder.path, name, reason)
            print(f"{name}: {reason}", file=sys.stderr)
            code = EXIT_FAILED
        else:
            print(f"{name} has {folder.path} up to step {mark.step:,}{f': {mark.url}' if mark.url else ''}")
    return code


def _read_names(text: str) -> list[str]:
    """The dashboards in the value of --to. Raises `UserError` for an unknown one."""
    from signs_dist.tracking.installed import MODULES

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in MODULES]
    if unknown or not names:
        raise UserError(f"--to {text}: give one or more of {', '.join(MODULES)}, with commas between them.")
    return names


def _make_is_over(run_path: Path, *, until_closed: bool, follow: bool) -> Callable[[], bool]:
    """Whether the run gets no further line."""
    if until_closed:
        closed = threading.Event()

        def read_to_end() -> None:
            sys.stdin.read()
            closed.set()

        threading.Thread(target=read_to_end, name="stdin", daemon=True).start()
        return closed.is_set
    if not follow:
        return lambda: True

    from signs_dist.results.summary import summarise_run

    return lambda: summarise_run(run_path).state not in ("running", "waiting")


if __name__ == "__main__":
    sys.exit(run_command(main))
