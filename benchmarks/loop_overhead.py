"""Measure the time of loop and data: training by signs_dist, compared with the same network alone on random tensors.

    python benchmarks/loop_overhead.py --config configs/signs.yaml data.root=PHOTOS

Both sides use the same model, optimizer, precision and memory format, and take turns, so that a drift of the machine's
speed affects both: step by step on a CPU; epoch by epoch on a GPU, which computes while the host prepares the next
step. signs_dist also fetches, converts, augments and normalises a batch of photos, and counts losses and hits.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from signs_dist.checkpointing.store import Cursor
from signs_dist.config.reading import load_config
from signs_dist.console.screen import Screen
from signs_dist.distributed.device_choice import choose_device
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import read_context
from signs_dist.learning.losses import build_loss
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training.prepare import prepare
from signs_dist.training.process import Process
from signs_dist.training.stepper import Stepper


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--epochs", type=int, default=10, help="epochs that are measured (default: 10)")
    parser.add_argument("--no-augment", action="store_true", help="do not augment the images")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    # What both sides do alike: images of one size, no loader workers, no average, no clipping, one small learning rate.
    alike = [
        "train.progressive_sizes=[]",
        "data.num_workers=0",
        "ema.decay=null",
        "optim.clip_norm=null",
        "optim.lr=0.0001",
        "schedule.name=constant",
    ]
    if options.no_augment:
        alike.append("augment.backend=none")
    config = load_config(options.config, [*alike, *options.overrides])
    context = read_context()
    torch.set_num_threads(context.usable_cores)
    strategy = SingleProcess(choose_device(context, "auto"))
    on_gpu = strategy.device.type == "cuda"
    process = Process(context, strategy.device.type, strategy, Screen(is_terminal=False, quiet=True), Pulse())
    prepared = prepare(config, process)
    stepper = Stepper(prepared, process)
    plan, model, precision, optimizer = prepared.plan, prepared.model, prepared.precision, stepper.state.optimizer
    num_classes = len(prepared.data.classes)
    loss_function = build_loss(config.loss, num_classes)
    side = config.data.image_size
    layout = torch.channels_last if config.train.channels_last else torch.contiguous_format
    images = torch.randn(plan.global_batch, 3, side, side, device=strategy.device).contiguous(memory_format=layout)
    labels = torch.randint(num_classes, (plan.global_batch,), device=strategy.device)

    def step_alone() -> None:
        with precision.autocast():
            logits = model(images)
        loss = loss_function(logits, labels).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def take_turns(epoch: int) -> tuple[float, float]:
        """Seconds of an epoch by signs_dist, and of as many steps of the network alone."""
        seconds = [0.0, 0.0]
        steps = stepper.steps(Cursor(epoch, 0))

        def own_step(step: int) -> None:
            report = next(steps)
            if (step + 1) % config.log.every_steps == 0:
                strategy.total(report.sums.tensors())

        def measure(side: int, action: Callable[[], None]) -> None:
            started = time.perf_counter()
            action()
            if on_gpu:
                torch.cuda.synchronize()
            seconds[side] += time.perf_counter() - started

        def repeat(action: Callable[[int], None]) -> None:
            for step in range(plan.num_steps):
                action(step)

        if on_gpu:
            measure(0, lambda: repeat(own_step))
            measure(1, lambda: repeat(lambda _: step_alone()))
        else:
            for step in range(plan.num_steps):
                measure(0, functools.partial(own_step, step))
                measure(1, step_alone)
        return seconds[0], seconds[1]

    take_turns(0)  # warms up
    ours, alone = zip(*(take_turns(1 + number) for number in range(options.epochs)), strict=True)
    num_images = plan.num_steps * plan.global_batch
    ratios = [own / bare for own, bare in zip(ours, alone, strict=True)]
    print(f"network alone on random tensors   {num_images / statistics.median(alone):8,.0f} images/s")
    print(f"training by signs_dist            {num_images / statistics.median(ours):8,.0f} images/s")
    print(f"time by signs_dist / time alone   {statistics.median(ratios):8.3f} (median over {len(ratios)} epochs)")


if __name__ == "__main__":
    main()
