"""Train a classifier: the same command and config on one process, several GPUs or many machines.

python -m signs_dist.train                                              the default recipe; drawn hands without photos
python -m signs_dist.train --config configs/signs.yaml                  a recipe from a file
python -m signs_dist.train --config configs/signs.yaml data.root=PHOTOS optim.lr=0.05
python -m signs_dist.train --dp                                         nn.DataParallel over all visible GPUs
torchrun --nproc_per_node=4 -m signs_dist.train                         DistributedDataParallel
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from signs_dist.console.command import CommandParser, add_config_arguments, run_command
from signs_dist.errors import EXIT_OK, UserError


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.train",
        description="Train an image classifier by one config; everything about the run lands in a run folder.",
        epilog="`--explain` prints every setting. Exit codes: 0 done, 1 failed, 2 wrong input, 3 another process of "
        "the run was lost or never arrived, 74 a checkpoint could not be written, 75 stopped by SIGTERM or SIGUSR2 "
        "with everything saved, 130 interrupted. After all of them but 0 the same command with the same --run-dir "
        "goes on.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        help="run folder to make, or to go on with (default: runs/<config>-<time>)",
    )
    parser.add_argument(
        "--accept-change",
        action="append",
        default=[],
        metavar="NAME",
        help="go on with a run though this setting (or data) is not as it was, and its result another",
    )
    parser.add_argument(
        "--device", default="auto", help="auto, cpu, cuda, cuda:N, or cuda:1,3 for --dp over these (default: auto)"
    )
    parser.add_argument("--dp", action="store_true", help="nn.DataParallel over all visible GPUs, in one process")
    parser.add_argument("--device-ids", metavar="1,3", help="for --dp: the GPUs, counted among the visible ones")
    parser.add_argument("--explain", action="store_true", help="print every setting and where it is from, and stop")
    parser.add_argument("--quiet", action="store_true", help="print results and errors only")
    return parser


def main(arguments: Sequence[str], at_stage: Callable[[str], None] | None = None) -> int:
    """Train as the arguments say; `at_stage` is called with the name of each stage of a save."""
    options = build_parser().parse_intermixed_args(arguments)

    from signs_dist.config.reading import accepted_names, load_config

    loaded = load_config(options.config, options.overrides)
    if options.explain:
        print(loaded.explain())
        return EXIT_OK

    from signs_dist.console.screen import Screen
    from signs_dist.environment.context import read_context
    from signs_dist.run_folder.folder import RunFolder, default_run_path, require_run_or_empty
    from signs_dist.run_folder.lease import find_holder

    config = loaded.config
    context = read_context()
    screen = Screen(is_terminal=context.is_terminal, quiet=options.quiet, is_silent=context.rank != 0)
    name = options.config.stem if options.config else "default"
    if options.run_dir == Path():
        raise UserError(
            "--run-dir is this very folder. Give a name for a folder of the run's own, or leave --run-dir away."
        )
    if options.run_dir is None and context.max_restarts and not context.launch_id:
        raise UserError(
            f"torchrun may start this run again (--max-restarts={context.max_restarts}), and must find its folder "
            "then: add --run-dir."
        )
    launch_id = context.launch_id if context.may_restart else ""
    run_path = options.run_dir or default_run_path(name, datetime.datetime.now(), launch_id=launch_id)
    accepted = accepted_names(options.accept_change)
    if RunFolder(run_path).is_finished:
        from signs_dist.checkpointing.resume_rules import refuse_other_settings

        refuse_other_settings(RunFolder(run_path), config, accepted)
        screen.result(f"finished: {run_path} holds the result of this run. Another --run-dir begins a new one.")
        return EXIT_OK
    if context.rank == 0 and not context.is_requeued:  # of a requeued job the attempt before may be just ending
        # Said now, before seconds of imports; what counts is looked at again when the folder is taken.
        require_run_or_empty(run_path)
        if busy := find_holder(run_path, host=context.host, takeover_seconds=config.checkpoint.takeover_seconds):
            raise UserError(busy)
    from signs_dist.checkpointing.store import no_stage
    from signs_dist.distributed.device_choice import describe_devices, plan_process
    from signs_dist.distributed.exactness import choose_cublas_workspace
    from signs_dist.distributed.strategy import make_strategy
    from signs_dist.training.run import train
    from signs_dist.training.supervisor import Supervisor

    if config.exact:
        choose_cublas_workspace()
    plan = plan_process(context, device=options.device, data_parallel=options.dp, device_ids=options.device_ids)
    if config.exact and len(plan.indices) > 1:
        raise UserError(
            "exact=true cannot hold under --dp: nn.DataParallel adds up in an order of its own. Leave --dp away, or "
            f"type torchrun --nproc_per_node={len(plan.indices)} -m signs_dist.train"
        )
    devices = describe_devices(plan)
    supervisor = Supervisor(context, config.processes, devices, screen)

    def work() -> None:
        strategy = make_strategy(plan, context, config.processes, supervisor.pulse)
        for note in (context.launch_note, plan.note):
            if note:
                screen.say(note)
        train(
            config,
            run_path,
            strategy=strategy,
            devices=devices,
            context=context,
            screen=screen,
            supervisor=supervisor,
            command=["python", "-m", "signs_dist.train", *arguments],
            accepted=accepted,
            at_stage=at_stage or no_stage,
        )
        strategy.close()

    supervisor.run(work)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_command(main))
