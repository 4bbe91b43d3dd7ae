"""Measure what `train.allocator=auto` gives: the bare network, with malloc as it is and with freed memory kept.

    python benchmarks/allocator.py
    python benchmarks/allocator.py --network torchvision:resnet18 --image-size 224 --steps 4

Each measurement is a process of its own, and the two ways take turns: plain torch trains the network on one batch of
random images, without data. It prints images/s, page faults and seconds in the system in each step, and the largest
resident memory. To compare another allocator, preload it: `LD_PRELOAD=libjemalloc.so.2 python benchmarks/allocator.py`
then shows twice the same, since `auto` leaves it as it is.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

WARM_UP_STEPS = 5


def measure(options: argparse.Namespace) -> None:
    """Print the figures of one process as JSON."""
    import torch

    from signs_dist.config.settings import ModelConfig
    from signs_dist.environment.allocator import keep_freed_memory
    from signs_dist.models import create_model

    kept = keep_freed_memory(options.measure, "cpu")
    settings = ModelConfig(name=options.network)
    network = create_model(settings, num_classes=6, image_size=options.image_size).train()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    images = torch.randn(options.batch, 3, options.image_size, options.image_size)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(6, (options.batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(network(images).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    for _ in range(WARM_UP_STEPS):
        step()
    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(options.steps):
        step()
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "rate": options.batch * options.steps / seconds,
        "faults": (after.ru_minflt - before.ru_minflt) / options.steps,
        "system_seconds": (after.ru_stime - before.ru_stime) / options.steps,
        "megabytes": after.ru_maxrss / 1024,
        "kept": kept,
    }
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="signs_net", help="a name for model.name (default: signs_net)")
    parser.add_argument("--image-size", type=int, default=64, help="side in pixels (default: 64)")
    parser.add_argument("--batch", type=int, default=32, help="images of a step (default: 32)")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="(default: float32)")
    parser.add_argument("--steps", type=int, default=60, help="steps that are measured (default: 60)")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each way (default: 5)")
    parser.add_argument("--measure", choices=("auto", "system"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options)
        return
    found: dict[str, list[dict[str, float]]] = {"system": [], "auto": []}
    for _ in range(options.repeats):
        for way, figures in found.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", way]
            figures.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    print(f"{options.network} at {options.image_size} pixels in {options.precision}, medians of {options.repeats}")
    rates = {}
    for way, figures in found.items():
        middle = {name: statistics.median(each[name] for each in figures) for name in figures[0]}
        rates[way] = middle["rate"]
        print(
            f"train.allocator={way:<7} {middle['rate']:8,.1f} images/s  {middle['faults']:8,.0f} page faults and "
            f"{1000 * middle['system_seconds']:5.1f} ms in the system a step  {middle['megabytes']:,.0f} MB at most"
        )
    if not found["auto"][0]["kept"]:
        print("auto leaves malloc as it is here: see train.allocator in docs/settings.md")
    print(f"auto is {rates['auto'] / rates['system']:.2f} times as fast")


if __name__ == "__main__":
    main()
