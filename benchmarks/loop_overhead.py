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

from signs_dist.config.reading import load_config
from signs_dist.data.augment import BatchAugmenter
from signs_dist.data.loader import LoaderSettings, TrainLoader
from signs_dist.data.plan import EpochPlan
from signs_dist.data.sets import open_data_set, open_split
from signs_dist.distributed.device_choice import choose_device
from signs_dist.distributed.strategy import SingleProcess
from signs_dist.environment.context import read_context
from signs_dist.learning.losses import build_loss
from signs_dist.learning.optim import build_optimizer
from signs_dist.learning.precision import choose_precision, find_capability
from signs_dist.monitoring.pulse import Pulse
from signs_dist.training import loop
from signs_dist.training.prepare import build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--epochs", type=int, default=10, help="epochs that are measured (default: 10)")
    parser.add_argument("--no-augment", action="store_true", help="do not augment the images")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    config = load_config(options.config, options.overrides)
    context = read_context()
    torch.set_num_threads(context.usable_cores)
    strategy = SingleProcess(choose_device(context, "auto"))
    precision = choose_precision(config.train.precision, find_capability(strategy.device))
    data = open_data_set(config.data, num_processes=context.usable_cores, report=lambda *_: None)
    source, _ = open_split(data.splits["train"], config.data, num_threads=context.usable_cores, report=lambda *_: None)
    plan = EpochPlan(len(data.splits["train"]), config.train.global_batch, config.seed)
    num_classes = len(data.classes)
    model = build_model(config, num_classes, strategy.device)
    loss_function = build_loss(config.loss, num_classes)
    forward = loop.ForwardWithLoss(model, loss_function, precision)
    sync = strategy.sync(model, forward, plan.micro_batches, (lambda: False, lambda: False), exact=False)
    state = loop.TrainingState(
        model=model,
        forward=forward,
        sync=sync,
        num_classes=num_classes,
        optimizer=build_optimizer(model, config.optim),
        scaler=precision.scaler(),
        learning_rate=lambda _: 1e-4,
        clip_norm=None,
        average=None,
        seed=0,
        pulse=Pulse(),
    )
    augment = None if options.no_augment else BatchAugmenter(config.augment, config.seed)
    channels_last = config.train.channels_last
    prepare = loop.ImagePreparer.create(config.data, strategy.device, channels_last=channels_last, augment=augment)
    on_gpu = strategy.device.type == "cuda"
    loader = TrainLoader(source, plan, strategy.shard, LoaderSettings(0, 2, pin_memory=on_gpu))
    side = config.data.image_size
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = torch.randn(plan.global_batch, 3, side, side, device=strategy.device).contiguous(memory_format=layout)
    labels = torch.randint(num_classes, (plan.global_batch,), device=strategy.device)

    def step_alone() -> None:
        with precision.autocast():
            logits = model(images)
        loss = loss_function(logits, labels).mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        state.optimizer.step()

    def take_turns(epoch: int) -> tuple[float, float]:
        """Seconds of an epoch by signs_dist, and of as many steps of the network alone."""
        seconds = [0.0, 0.0]
        steps = loop.train_epoch(state, loader.epoch(epoch), prepare, first_step=0, first_run_step=0)

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
