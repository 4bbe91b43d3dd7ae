"""Train a classifier: the same command and config on one process, several GPUs or many machines.

python -m signs_dist.train                                              the default recipe; drawn hands without photos
python -m signs_dist.train --config configs/signs.yaml                  a recipe from a file
python -m signs_dist.train --config configs/signs.yaml data.root=PHOTOS optim.lr=0.05
python -m signs_dist.train --dp                                         nn.DataParallel over all visible GPUs
torchrun --nproc_per_node=4 -m signs_dist.train                         DistributedDataParallel
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from signs_dist.console.command import CommandParser, add_config_arguments, run_command, whole_number
from signs_dist.console.streams import unblocked
from signs_dist.environment.collector import importing
from signs_dist.errors import EXIT_OK, UserError

if TYPE_CHECKING:
    from signs_dist.config.reading import LoadedConfig
    from signs_dist.config.settings import Config
    from signs_dist.environment.context import Context

MOST_PROFILED_STEPS = 200
"""The largest legal `--profile`: longer traces are too large to be looked at."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.train",
        description="Train an image classifier as one config says. All files of the run are written to its run folder.",
        epilog="`--explain` prints every setting. Exit codes: 0 done, 1 failed, 2 wrong input, 3 another process of "
        "the run was lost or never arrived, 4 in exact mode the machines compute other bits than each other or than "
        "the run did, 74 a checkpoint could not be written, 75 stopped by SIGTERM, SIGUSR2 or SIGHUP with everything "
        "saved, 130 interrupted. After any code but 0, the same command with the same --run-dir resumes the run.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="run folder, a new one or one to resume (default: runs/<config>-<time>)",
    )
    parser.add_argument(
        "--accept-change",
        action="append",
        default=[],
        metavar="NAME",
        help="resume although this setting has changed, and with it the result (data: the images; arithmetic: what the "
        "model computes on this machine in exact mode; suspects: checkpoints from before faulty hardware was found)",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N, or cuda:1,3 for --dp over these (default: auto)"
    )
    parser.add_argument("--dp", action="store_true", help="nn.DataParallel over all visible GPUs, in one process")
    parser.add_argument("--device-ids", metavar="1,3", help="for --dp: the GPUs, counted among the visible ones")
    parser.add_argument(
        "--profile",
        type=whole_number(MOST_PROFILED_STEPS),
        metavar="N",
        help=f"trace N steps (1 to {MOST_PROFILED_STEPS}) by torch.profiler into the run folder, for "
        "https://ui.perfetto.dev, and print the five most expensive operations",
    )
    parser.add_argument("--explain", action="store_true", help="print every setting and its origin, and exit")
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Train as the arguments say. A run does not need anybody who reads its output: the log has all of it."""
    with unblocked(sys.stdout) as output:
        return train(arguments, output)


def train(arguments: Sequence[str], output: TextIO) -> int:
    """Train as the arguments say, and write to `output` what a person sees."""
    options = build_parser().parse_intermixed_args(arguments)

    if options.profile is not None and options.profile < 1:
        raise UserError(f"--profile {options.profile}: type the number of steps to trace, 1 to {MOST_PROFILED_STEPS}.")

    from signs_dist.config.file_text import is_shell_pipe, refuse_pipe
    from signs_dist.config.reading import accepted_names

    if options.config is not None and is_shell_pipe(options.config):
        from signs_dist.environment.launchers import find_launch

        if find_launch(os.environ).world_size > 1:
            refuse_pipe(options.config)
    loaded = read_decided_config(options.config, options.overrides, options.run_dir)
    if options.explain:
        print(loaded.explain())
        return EXIT_OK

    from signs_dist.console.screen import Screen
    from signs_dist.environment.context import read_context

    config, accepted = loaded.config, accepted_names(options.accept_change)
    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet, is_silent=context.rank != 0, file=output)
    run_path, is_new_folder = choose_run_path(options.run_dir, options.config, context)
    # Several processes may look at different moments: they decide together, in training/earlier_attempt.py.
    if context.world_size == 1 and is_finished(run_path, config, accepted):
        from signs_dist.checkpointing.resume_rules import finished_line

        screen.result(finished_line(run_path))
        if options.profile is not None:
            screen.result(f"--profile {options.profile}: no step is left to trace; name another --run-dir")
        return EXIT_OK
    if not is_new_folder:
        refuse_used_folder(run_path, context, config.checkpoint.takeover_seconds)

    with importing():
        from signs_dist.training.start import start_run

    start_run(
        config,
        run_path,
        context=context,
        screen=screen,
        device=options.device,
        data_parallel=options.dp,
        device_ids=options.device_ids,
        accepted=accepted,
        command=["python", "-m", "signs_dist.train", *arguments],
        is_new_folder=is_new_folder,
        profile_steps=options.profile,
    )
    return EXIT_OK


def read_decided_config(path: Path | None, overrides: Sequence[str], run_path: Path | None = None) -> LoadedConfig:
    """Read a config as `read_config` does; published weights say what is not given of image size, mean and std.

    Args:
        path: a YAML file; None: defaults only.
        overrides: settings that override the file.
        run_path: the run folder, whose earlier attempt is asked first; None if it is not known.

    Raises:
        UserError: as `read_config`; or the weights are of a library that is not installed.
    """
    from signs_dist.config.preprocessing import undecided
    from signs_dist.config.reading import LoadedConfig, read_config

    loaded = read_config(path, overrides)
    if not undecided(loaded.config):
        return loaded

    from signs_dist.models.preprocessing import decide

    decided = decide(loaded.config, run_path)
    return LoadedConfig(decided.config, {**loaded.origins, **decided.origins})


def choose_run_path(given: Path | None, config_path: Path | None, context: Context) -> tuple[Path, bool]:
    """The run folder as given, or the name of one below runs/; and whether it must be a new folder.

    Raises:
        UserError: it is the working directory; or none is given, and a restart by torchrun could not find a new one.
    """
    if given == Path():
        raise UserError("--run-dir is the working directory. Name another folder, or omit --run-dir.")
    if given is not None:
        return given, False
    if context.max_restarts and not context.launch_id:
        raise UserError(
            f"torchrun may restart this run (--max-restarts={context.max_restarts}), and a restart must find the run "
            "folder: add --run-dir."
        )

    from signs_dist.run_folder.folder import default_run_path

    name = config_path.stem if config_path else "default"
    launch_id = context.launch_id if context.may_restart else ""
    return default_run_path(name, datetime.datetime.now(), launch_id=launch_id), not launch_id


def is_finished(run_path: Path, config: Config, accepted: Collection[str]) -> bool:
    """Whether the folder holds the result of this config already. A quick check: `find_earlier_attempt` repeats it.

    Raises:
        UserError: it holds the result of other settings.
    """
    from signs_dist.run_folder.folder import RunFolder

    folder = RunFolder(run_path)
    if not folder.is_finished:
        return False

    from signs_dist.checkpointing.resume_rules import is_result_of

    return is_result_of(folder, config, accepted)


def refuse_used_folder(run_path: Path, context: Context, takeover_seconds: float) -> None:
    """Refuse a folder with other files, or in which another process trains, before the slow imports.

    This check is quick; `RunFolder.create` and `Lease.acquire` check again. A requeued job skips it, because its
    previous attempt may still be ending.

    Raises:
        UserError: the message names the other files or the other process.
    """
    if context.rank != 0 or context.is_requeued:
        return

    from signs_dist.run_folder.folder import require_run_or_empty
    from signs_dist.run_folder.lease import find_holder

    require_run_or_empty(run_path)
    if busy := find_holder(run_path, host=context.host, takeover_seconds=takeover_seconds):
        raise UserError(busy)


if __name__ == "__main__":
    sys.exit(run_command(main))
