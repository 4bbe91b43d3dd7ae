"""Is what `auto` chooses the fastest? The network alone in other ways: threads, memory format, precision, and more.

    python benchmarks/choices.py --short          # this CPU: under 3 minutes on 2 cores
    python benchmarks/choices.py                  # and older kinds of CPU: under 10 minutes
    python benchmarks/choices.py --network resnet18 --kind avx2 --repeats 9

It trains the three networks of the configs, and torchvision's resnet18 at 224 pixels, on one batch of random images.
Each measurement is a process of its own, and the ways take turns. A way that took more than twice the shortest time the
first time is not repeated. Milliseconds are medians; those of the processor tell more where other programs run.

Older kinds of CPU are emulated: the variables ONEDNN_MAX_CPU_ISA, ATEN_CPU_CAPABILITY and MKL_ENABLE_INSTRUCTIONS keep
the libraries from newer instructions. Caches and clock stay those of this machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
NETWORKS: Mapping[str, tuple[str | None, tuple[str, ...]]] = {
    "mlp": ("tutorial.yaml", ()),
    "signs_net": ("cs230.yaml", ()),
    "signs_fast": ("signs.yaml", ("train.progressive_sizes=[]",)),
    "resnet18": (None, ("model.name=torchvision:resnet18", "data.image_size=224", "train.global_batch=8")),
}
"""Name → (config, settings)."""
KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "native": ("this CPU", {}),
    "avx512": ("emulated: AVX-512 without bfloat16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    "avx2": (
        "emulated: AVX2",
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    ),
}
"""Name → (for people, variables that keep libraries from newer instructions)."""
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
HOPELESS = 2.0
"""A way that takes more than this times the shortest time is not repeated."""
WARM_UP_STEPS = 2


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to compute a network.

    Attributes:
        num_threads: of one operation.
        channels_last: the memory format of images and weights.
        precision: of the forward pass.
        change: one thing that is otherwise than `auto` has it; "" for nothing.
    """

    num_threads: int
    channels_last: bool
    precision: str
    change: str = ""

    @property
    def name(self) -> str:
        """For the tables."""
        layout = "channels_last" if self.channels_last else "contiguous"
        threads = "1 thread" if self.num_threads == 1 else f"{self.num_threads} threads"
        return ", ".join(filter(None, (threads, layout, self.precision, self.change)))


@dataclasses.dataclass(frozen=True)
class Step:
    """Seconds of a step, on the wall and on the processor."""

    seconds: float
    processor_seconds: float


def kinds_of(flags: Collection[str]) -> list[str]:
    """The kinds of CPU that a processor with these flags of /proc/cpuinfo is, or can emulate."""
    found = ["native"]
    if "avx512f" in flags and BFLOAT16_FLAGS & set(flags):
        found.append("avx512")
    if "avx512f" in flags:
        found.append("avx2")
    return found


def list_ways(auto: Way, counts: Sequence[int], precisions: Sequence[str], *, compiles: bool) -> list[Way]:
    """What is measured: `auto` first, then all of the grid, then one thing at a time that is otherwise."""
    grid = [Way(count, layout, precision) for precision in precisions for count in counts for layout in (True, False)]
    changes = [*CHANGES, *(["torch.compile"] if compiles else [])]
    return list(dict.fromkeys([auto, *grid, *(dataclasses.replace(auto, change=change) for change in changes)]))


def verdict(auto: Way, steps: Mapping[Way, Step]) -> str:
    """Whether `auto` is the fastest, in a sentence."""
    best = min(steps, key=lambda way: steps[way].seconds)
    share = steps[best].seconds / steps[auto].seconds
    if best == auto:
        return f"auto is the fastest: {auto.name}"
    return f"auto reaches {share:.2f} of the speed of the fastest: {auto.name}; the fastest: {best.name}"


def table(auto: Way, steps: Mapping[Way, Step]) -> list[str]:
    """The ways, the fastest first, each with its speed as a part of the fastest."""
    width = max(len(way.name) for way in steps)
    ordered = sorted(steps, key=lambda way: steps[way].seconds)
    shortest = steps[ordered[0]].seconds
    return [
        f"  {way.name:<{width}} {1000 * steps[way].seconds:9.1f} ms {shortest / steps[way].seconds:6.2f}"
        f" {1000 * steps[way].processor_seconds:9.1f} ms{'   auto' if way == auto else ''}"
        for way in ordered
    ]


def take_turns(ways: Sequence[Way], measure: Callable[[Way, float], Step], repeats: int) -> dict[Way, Step]:
    """The medians of each way over processes that take turns.

    Args:
        ways: `auto` first.
        measure: from a way, and the shortest seconds of a step until then, to its step.
        repeats: measurements of each way that is not hopeless.
    """
    found: dict[Way, list[Step]] = {way: [] for way in ways}
    for number in range(repeats):
        for way, steps in found.items():
            known = [step.seconds for others in found.values() for step in others]
            shortest = min(known, default=float("inf"))
            if number == 0 or statistics.median(step.seconds for step in steps) <= HOPELESS * shortest:
                steps.append(measure(way, shortest))
    return {way: median_of(steps) for way, steps in found.items()}


def median_of(steps: Sequence[Step]) -> Step:
    """The median of each of the two times."""
    return Step(
        statistics.median(step.seconds for step in steps), statistics.median(step.processor_seconds for step in steps)
    )


def _with_system_malloc(network: Any) -> None:
    """`measure_step` has not asked malloc to keep freed memory."""


def _without_fused(network: Any) -> None:
    for group in network.optimizer.param_groups:
        group["fused"] = False


def _without_onednn(network: Any) -> None:
    import torch

    torch.backends.mkldnn.set_flags(False)


CHANGES: Mapping[str, Callable[[Any], None]] = {
    "train.allocator=system": _with_system_malloc,
    "optimizer not fused": _without_fused,
    "without oneDNN": _without_onednn,
}
"""What is otherwise → how it is set, on a network."""


def measure_step(name: str, way: Way, seconds: float, shortest: float) -> Step:
    """A step of a network in a way, in this process, which measures nothing else.

    Args:
        name: of `NETWORKS`.
        way: how it computes.
        seconds: to measure for, about.
        shortest: of another way's step: one that takes much longer is measured once.
    """
    import torch

    from signs_dist.environment.allocator import keep_freed_memory
    from signs_dist.training.bare import BareNetwork

    if way.change != "train.allocator=system":
        keep_freed_memory("auto", "cpu")
    config, device = config_of(name), torch.device("cpu")
    network = BareNetwork(config, 6, config.train.global_batch, device, channels_last=way.channels_last)
    if way.change in CHANGES:
        CHANGES[way.change](network)
    if way.change == "torch.compile":
        network.model = torch.compile(network.model)  # type: ignore[assignment]
    work = network.way(way.num_threads, way.precision)

    def take(num_steps: int) -> Step:
        wall, processor = time.perf_counter(), time.process_time()
        work(num_steps)
        taken = time.perf_counter() - wall, time.process_time() - processor
        return Step(*(each / num_steps for each in taken))

    for _ in range(WARM_UP_STEPS):
        step = take(1)
        if way.change != "torch.compile" and step.seconds > 2 * HOPELESS * shortest:
            return step
    return take(max(1, round(seconds / step.seconds)))


def config_of(name: str) -> Any:
    """The config of a network."""
    from signs_dist.config.reading import load_config

    file, settings = NETWORKS[name]
    return load_config(None if file is None else CONFIGS / file, settings)


def in_fork(compute: Callable[[], Step]) -> Step:
    """What `compute` returns in a forked process: torch is imported once, and has started no thread yet."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        code = 1
        try:
            os.write(writing, json.dumps(dataclasses.astuple(compute())).encode())
            code = 0
        except BaseException:  # noqa: BLE001  this process ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"a measurement has failed, with status {status}")
    return Step(*json.loads(text))


def measure_kind(options: argparse.Namespace) -> None:
    """Measure the networks on the kind of CPU that this process's variables ask for, and print the tables."""
    import torch

    import signs_dist.training.bare  # noqa: F401  once, before the forks that need it
    from signs_dist.environment.cores import read_usable_cores
    from signs_dist.learning.precision import find_capability
    from signs_dist.tuning.variants import precisions, thread_counts

    has_bfloat16 = options.measure == "native" and find_capability(torch.device("cpu")).has_bfloat16
    cores = read_usable_cores(os.environ)
    # On an emulated kind bfloat16 is emulated too; that it is slow there is worth a row.
    names = ["float32", "bfloat16"] if options.bfloat16 or has_bfloat16 else precisions("cpu", has_bfloat16=False)
    auto = Way(cores, channels_last=True, precision="bfloat16" if has_bfloat16 else "float32")
    for name in options.network:
        ways = list_ways(auto, thread_counts(cores), names, compiles=options.compile)

        def measure(way: Way, shortest: float, name: str = name) -> Step:
            return in_fork(lambda: measure_step(name, way, options.seconds, shortest))

        steps = take_turns(ways, measure, options.repeats)
        print(f"{name} on {KINDS[options.measure][0]}: a step, speed, processor time of a step")
        print("\n".join([*table(auto, steps), f"  {verdict(auto, steps)}"]), flush=True)


def read_flags() -> frozenset[str]:
    """The flags of the first processor in /proc/cpuinfo."""
    from signs_dist.environment.processor import CPUINFO, find_flags

    return find_flags(CPUINFO.read_text(encoding="utf-8", errors="replace"))


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="this CPU only, and 3 measurements of each way")
    parser.add_argument("--network", action="append", choices=tuple(NETWORKS), help="may be repeated (default: all)")
    parser.add_argument("--kind", action="append", choices=tuple(KINDS), help="may be repeated (default: all)")
    parser.add_argument("--repeats", type=int, help="measurements of each way (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--bfloat16", action="store_true", help="measure it on kinds of CPU without it as well")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, a minute or more a network")
    parser.add_argument("--measure", choices=tuple(KINDS), help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Measure each kind in a process with its variables."""
    options = build_parser().parse_args(arguments)
    options.network = options.network or list(NETWORKS)
    options.repeats = options.repeats or (3 if options.short else 5)
    if options.measure:
        measure_kind(options)
        return 0
    wanted = options.kind or (["native"] if options.short else list(KINDS))
    possible = kinds_of(read_flags())
    command = [sys.executable, __file__, "--repeats", str(options.repeats), "--seconds", str(options.seconds)]
    command += [word for name in options.network for word in ("--network", name)]
    command += [f"--{name}" for name in ("bfloat16", "compile") if getattr(options, name)]
    for kind in wanted:
        if kind not in possible:
            print(f"{KINDS[kind][0]}: not on this CPU")
            continue
        environment = {**os.environ, **KINDS[kind][1]}
        ended = subprocess.run([*command, "--measure", kind], env=environment, check=False)
        if ended.returncode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
