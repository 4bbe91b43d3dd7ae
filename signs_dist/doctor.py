"""Examine the machines that a run would use, and say what is wrong, what it should be, and what to type.

python -m signs_dist.doctor                                              this machine
python -m signs_dist.doctor --run-dir runs/a --config configs/signs.yaml data.root=PHOTOS
torchrun --nproc_per_node=4 -m signs_dist.doctor                         also what its processes give each other
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from signs_dist.console.command import (
    CommandParser,
    add_config_arguments,
    run_command,
    whole_number,
    write_torchrun_error,
)
from signs_dist.environment.devices import parse_device
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.doctor",
        description="Examine the machines that a run would use: versions, devices, cores, limits, the run folder, "
        "names and ports, the speed of each rank and pair, clocks, all-reduce, arithmetic, data, SLURM. Each line says "
        "ok, warn or fail, what was measured, what is expected, and what to type; skip says why something cannot be "
        "checked here. It trains nothing, and leaves no file but the one that --json names.",
        epilog="Exit codes: 0 no fail (warnings may be there), 1 a fail, 2 wrong input, 3 rank 0 was lost, 75 or 130 "
        "stopped by a signal, 141 nobody reads the output.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="where the run writes, or an earlier run (default: runs/)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings to a file as well")
    parser.add_argument("--quiet", action="store_true", help="print warnings, fails and the last line only")
    parser.add_argument(
        "--signal-seconds",
        type=whole_number(65535),
        default=120,
        metavar="N",
        help="on SLURM, how long before the time limit a run is signalled (default: %(default)s)",
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Examine as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)
    if options.signal_seconds < 1:
        raise UserError(f"--signal-seconds {options.signal_seconds}: at least 1.")
    if options.run_dir is not None and options.run_dir.exists() and not options.run_dir.is_dir():
        raise UserError(f"--run-dir {options.run_dir} is a file. Name a folder.")
    parse_device(options.device)
    started = time.monotonic()

    from signs_dist.console.streams import lasting
    from signs_dist.environment.context import read_context
    from signs_dist.files import require_writable, write_json
    from signs_dist.health.attempts import has_hanging
    from signs_dist.health.examination import Wish, examine
    from signs_dist.health.finding import Finding, as_json, listed, show, summarize, worst
    from signs_dist.train import read_decided_config

    config = read_decided_config(options.config, options.overrides).config
    context = read_context()
    is_main = context.rank == 0
    if is_main:
        require_writable(options.json)

    output = sys.stdout if options.json is None else lasting(sys.stdout)  # the file is wanted, whoever reads the output

    def tell(findings: Sequence[Finding]) -> None:
        for finding in findings:
            if not options.quiet or finding.status in ("warn", "fail"):
                print(show(finding, shutil.get_terminal_size().columns), file=output, flush=True)

    wish = Wish(
        config,
        has_config=options.config is not None or bool(options.overrides),
        run_folder=options.run_dir or Path("runs"),
        is_run=options.run_dir is not None,
        signal_seconds=options.signal_seconds,
        device=options.device,
    )
    findings = examine(wish, context, tell)
    code = EXIT_OK
    if is_main:
        seconds = time.monotonic() - started
        print(f"{summarize(findings)}; {seconds:.0f} s", file=output, flush=True)
        if options.json is not None:
            write_json(options.json, as_json(findings, context.world_size, seconds))
        if worst(findings) == "fail":
            code = EXIT_FAILED
            failed = listed(dict.fromkeys(finding.check for finding in findings if finding.status == "fail"))
            write_torchrun_error(f"the doctor found what is to be mended: {failed}", code)
    if has_hanging():
        from signs_dist.monitoring.signals import end_now

        sys.stdout.flush()
        end_now(code)  # a thread that hangs would keep Python from its end
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
