"""Show that one config gives one result on this machine, whatever the number of processes.

python -m signs_dist.parity --config configs/signs.yaml --world-sizes 1,2,3,4 --steps 20 exact=true train.micro_batch=8
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from signs_dist.console.command import CommandParser, add_config_arguments, run_command
from signs_dist.environment.subprocesses import failure_of, launch_command, started
from signs_dist.errors import EXIT_FAILED, EXIT_OK, UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from signs_dist.config.settings import Config
    from signs_dist.data.batches import Batch

LOSS_BOUND = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 5e-2}
"""Fast mode: relative difference of a step's loss that is always taken for rounding."""
NUDGE = 1e-7
"""Relative change of the initial weights in a control run: about float32's rounding."""
CONTROL_FACTOR = 100
"""How much larger than the controls' a difference may be: they show how much this config makes of a rounding error."""
NUM_CONTROLS = 3
"""Control runs. One alone may be lucky: where ReLUs and max-pools switch is a matter of chance."""


def build_parser() -> CommandParser:
    """The command's flags."""
    parser = CommandParser(
        prog="python -m signs_dist.parity",
        description="Train some steps of a config on several numbers of processes and compare: the order of samples, "
        "their augmentation, the losses and the weights.",
        epilog="Exit codes: 0 all the same (in fast mode: within the bound), 1 a difference, 2 wrong input.",
    )
    add_config_arguments(parser)
    parser.add_argument(
        "--world-sizes", default="1,2,3,4", metavar="1,2,3", help="numbers of processes to compare (default: 1,2,3,4)"
    )
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps to train (default: 20)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison to a file as well")
    parser.add_argument("--record", type=Path, help="(internal) be one of the processes and record into this folder")
    parser.add_argument(
        "--nudge", type=int, default=0, help="(internal) start from weights that are a little different, by this seed"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Compare as the arguments say."""
    options = build_parser().parse_intermixed_args(arguments)

    from signs_dist.config.reading import load_config
    from signs_dist.data.plan import cut_global_batch, largest_micro_batch

    world_sizes = parse_world_sizes(options.world_sizes)
    if len(world_sizes) < 2 and options.record is None:
        raise UserError(
            f"--world-sizes {options.world_sizes}: one number of processes has nothing to be compared with. "
            f"Type --world-sizes {'1,2' if world_sizes == [1] else f'1,{world_sizes[0]}'}"
        )
    if options.steps < 1:
        raise UserError(f"--steps {options.steps}: at least 1.")
    overrides = list(options.overrides)
    config = load_config(options.config, overrides).config
    if config.train.micro_batch is None:
        size = largest_micro_batch(config.train.global_batch, max(world_sizes))
        overrides.append(f"train.micro_batch={size}")
        if options.record is None:
            print(f"train.micro_batch is not set: taking {size}, so that all numbers of processes cut alike")
        config = load_config(options.config, overrides).config
    if options.record is None:
        cut_global_batch(config.train.global_batch, config.train.micro_batch, max(world_sizes))
    else:
        return _record(config, options.record, options.steps, options.device, nudge=options.nudge)

    from signs_dist.environment.context import read_context

    context = read_context()
    if context.world_size > 1:
        raise UserError("parity starts its own processes: start it with plain python, without torchrun or srun.")
    config_arguments = (["--config", str(options.config)] if options.config else []) + overrides
    flags = ["--steps", str(options.steps), "--device", options.device, *config_arguments]
    with tempfile.TemporaryDirectory(prefix="signs_dist-parity-") as folder:
        records = []
        for world_size in world_sizes:
            number = f"{world_size} process{'es' if world_size > 1 else ''}"
            print(f"training {options.steps} steps on {number} …", flush=True)
            records.append(train_and_read(world_size, flags, Path(folder) / str(world_size)))
        controls = []
        for seed in range(1, 1 + (0 if config.exact else NUM_CONTROLS)):
            print(
                f"training {options.steps} steps from weights changed by {NUDGE:g}, to see what rounding does: "
                f"{seed} of {NUM_CONTROLS} …",
                flush=True,
            )
            control = ["--nudge", str(seed), *flags]
            controls.append(train_and_read(world_sizes[0], control, Path(folder) / f"control{seed}"))
    bounds = rounding_bounds(records[0], controls) if controls else None
    rows = [compare(records[0], record, bounds) for record in records]
    print(describe_rows(rows, records[0], bounds))
    if options.json is not None:
        from signs_dist.files import write_json

        write_json(options.json, {"exact": config.exact, "rows": [dataclasses.asdict(row) for row in rows]})
    return EXIT_OK if all(row.is_equal for row in rows) else EXIT_FAILED


def parse_world_sizes(text: str) -> list[int]:
    """Numbers of processes from `1,2,3`. Raises `UserError`."""
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words) or len(set(words)) < len(words):
        raise UserError(f"--world-sizes {text}: different whole numbers from 1, such as 1,2,4.")
    return [int(word) for word in words]


def train_and_read(world_size: int, arguments: Sequence[str], folder: Path) -> Record:
    """Record some steps on a number of processes. Raises `UserError` if they fail."""
    folder.mkdir()
    start_processes(world_size, ["--record", str(folder), *arguments], folder / "output")
    return read_record(folder, world_size)


def start_processes(world_size: int, arguments: Sequence[str], output: Path) -> None:
    """Run the recording processes to their end.

    Raises:
        UserError: they were given something wrong.
        TrainingFailedError: they failed; the message ends with what they said.
    """
    with started(launch_command("signs_dist.parity", world_size, arguments), output) as process:
        code = process.wait()
    if code:
        raise failure_of(f"the run on {world_size} process{'es' if world_size > 1 else ''}", code, output)


@dataclasses.dataclass(frozen=True)
class Record:
    """What one number of processes did.

    Attributes:
        world_size: number of processes.
        samples: of each step, the sample numbers in their order.
        images: of each step, a digest of each image as the model saw it.
        losses: of each step.
        weights_sha256: of the final weights.
        weights: file of the final weights.
        precision: arithmetic of the forward pass.
    """

    world_size: int
    samples: list[list[int]]
    images: list[list[str]]
    losses: list[float]
    weights_sha256: str
    weights: dict[str, Tensor]
    precision: str


@dataclasses.dataclass(frozen=True)
class Row:
    """One number of processes beside the first.

    Attributes:
        world_size: number of processes.
        order, augmentation: whether they are equal.
        loss_difference: largest relative difference of a step's loss.
        weights_difference: largest difference of a weight over the largest weight.
        weights_sha256: of the final weights.
        is_equal: the verdict: all equal, in fast mode within the bounds.
    """

    world_size: int
    order: bool
    augmentation: bool
    loss_difference: float
    weights_difference: float
    weights_sha256: str
    is_equal: bool


def loss_differences(first: Record, other: Record) -> list[float]:
    """Relative difference of each step's loss; infinite where one is not a number and the other is."""
    return [_relative(one, another) for one, another in zip(first.losses, other.losses, strict=True)]


def _relative(one: float, other: float) -> float:
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    difference = abs(one - other) / max(abs(one), 1e-12)
    return difference if math.isfinite(difference) else math.inf


def rounding_bounds(first: Record, controls: Sequence[Record]) -> list[float]:
    """For each step, the largest difference of losses that rounding explains, growing as the controls' do."""
    steps = zip(*(loss_differences(first, control) for control in controls), strict=True)
    grown = itertools.accumulate((max(differences) for differences in steps), max)
    return [max(LOSS_BOUND[first.precision], CONTROL_FACTOR * value) for value in grown]


def compare(first: Record, other: Record, bounds: Sequence[float] | None) -> Row:
    """Compare what two numbers of processes did; `bounds` are those of each step's loss, None in exact mode."""
    differences = loss_differences(first, other)
    scale = max(float(tensor.double().abs().max()) for tensor in first.weights.values() if tensor.numel())
    weights_difference = max(
        float((tensor.double() - other.weights[name].double()).abs().max()) / scale
        for name, tensor in first.weights.items()
        if tensor.numel()
    )
    order, augmentation = first.samples == other.samples, first.images == other.images
    if bounds is None:
        close = not any(differences) and first.weights_sha256 == other.weights_sha256
    else:
        close = all(difference <= bound for difference, bound in zip(differences, bounds, strict=True))
    return Row(
        other.world_size,
        order,
        augmentation,
        max(differences),
        weights_difference,
        other.weights_sha256,
        order and augmentation and close,
    )


def describe_rows(rows: Sequence[Row], first: Record, bounds: Sequence[float] | None) -> str:
    """The table and the verdict."""
    lines = [f"{'processes':>9}  {'order':>9}  {'augmented':>9}  {'loss':>11}  {'weights':>11}  weights_sha256"]
    for row in rows:
        cells = [
            "equal" if row.order else "DIFFERENT",
            "equal" if row.augmentation else "DIFFERENT",
            "equal bits" if row.loss_difference == 0 else f"{row.loss_difference:.1e}",
            "equal bits" if row.weights_sha256 == first.weights_sha256 else f"{row.weights_difference:.1e}",
        ]
        lines.append(
            f"{row.world_size:>9}  {cells[0]:>9}  {cells[1]:>9}  {cells[2]:>11}  {cells[3]:>11}  "
            f"{row.weights_sha256[:16]}{'' if row.is_equal else '  <- differs'}"
        )
    if bounds is not None:
        lines.append(
            f"loss: largest relative difference of a step; weights: largest difference over the largest weight.\n"
            f"Bound of the loss: {bounds[0]:.0e} at step 1 to {bounds[-1]:.0e} at step {len(bounds)}: "
            f"{CONTROL_FACTOR} times what weights changed by {NUDGE:g} lead to, and at least "
            f"{LOSS_BOUND[first.precision]:g}. With exact=true there is no difference to bound."
        )
    verdict = "PASS" if all(row.is_equal for row in rows) else "FAIL"
    mode = "exact" if bounds is None else "fast"
    return "\n".join([*lines, f"{verdict}: {len(first.losses)} steps, {mode} mode, {first.precision}"])


def read_record(folder: Path, world_size: int) -> Record:
    """Put together what all ranks recorded."""
    from signs_dist.checkpointing.tensors import weights_sha256
    from signs_dist.models.weights import read_weights

    passes: dict[tuple[int, int], Mapping[str, Any]] = {}
    for rank in range(world_size):
        for entry in json.loads((folder / f"rank{rank}.json").read_text())["passes"]:
            passes[(entry["step"], entry["micro_batch"])] = entry
    num_steps = 1 + max(step for step, _ in passes)
    steps = [[passes[key] for key in sorted(passes) if key[0] == step] for step in range(num_steps)]
    weights = dict(read_weights(folder / "weights.pt"))
    return Record(
        world_size,
        [[sample for entry in step for sample in entry["samples"]] for step in steps],
        [[image for entry in step for image in entry["images"]] for step in steps],
        [math.fsum(float.fromhex(entry["loss"]) for entry in step) for step in steps],
        weights_sha256(weights),
        weights,
        json.loads((folder / "rank0.json").read_text())["precision"],
    )


def _record(config: Config, folder: Path, num_steps: int, device: str, *, nudge: int) -> int:
    """Train some steps as one of the processes, and write down what was seen."""
    from signs_dist.console.screen import Screen
    from signs_dist.distributed.device_choice import describe_devices, plan_process
    from signs_dist.distributed.strategy import make_strategy
    from signs_dist.environment.context import read_context
    from signs_dist.training.supervisor import Supervisor

    context = read_context()
    screen = Screen(is_terminal=False, quiet=True, is_silent=context.rank != 0)
    plan = plan_process(context, device=device)
    supervisor = Supervisor(context, config.processes, describe_devices(plan), screen)

    def work() -> None:
        from signs_dist.checkpointing import tensors as saved
        from signs_dist.training import loop
        from signs_dist.training.run import prepare_run
        from signs_dist.training.trainer import Trainer

        strategy = make_strategy(plan, context, config.processes, supervisor.pulse)
        parts, _ = strategy.all_succeed(
            lambda: prepare_run(
                config,
                folder,
                strategy=strategy,
                devices="",
                context=context,
                screen=screen,
                pulse=supervisor.pulse,
            ),
            "wait for all to prepare",
        )
        if nudge:
            _nudge(parts.model, nudge)
        trainer = Trainer(parts)
        per_epoch = parts.plan.num_steps
        passes: list[dict[str, Any]] = []

        def observe(numbers: range, batch: Batch, images: Tensor, loss: Tensor) -> None:
            passes.append(
                {
                    "step": batch.epoch * per_epoch + batch.step,
                    "micro_batch": numbers.start,
                    "samples": batch.samples.tolist(),
                    "images": [_digest(image) for image in images],
                    "loss": float(loss.detach()).hex(),
                }
            )

        trainer.state.observe = observe
        num_done = 0
        while num_done < num_steps:
            epoch = num_done // per_epoch
            for _ in loop.train_epoch(
                trainer.state,
                trainer.train_loader.epoch(epoch),
                trainer.prepare_train,
                first_step=0,
                first_run_step=epoch * per_epoch,
            ):
                num_done += 1
                if num_done == num_steps:
                    break
        (folder / f"rank{context.rank}.json").write_text(
            json.dumps({"passes": passes, "precision": parts.precision.name})
        )
        if strategy.is_main:
            saved.save(folder / "weights.pt", saved.plain_weights(parts.model))
        strategy.close()

    supervisor.run(work)
    return EXIT_OK


def _nudge(model: nn.Module, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.mul_((1 + NUDGE * noise).to(parameter.device, parameter.dtype))


def _digest(image: Tensor) -> str:
    return hashlib.sha256(image.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(run_command(main))
