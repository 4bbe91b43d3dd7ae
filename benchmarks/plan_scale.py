"""Measure the plan against torch's DistributedSampler: 10^6 to 10^9 samples, on 1, 64 and 4,096 ranks.

    python benchmarks/plan_scale.py                                # DistributedSampler up to 10^7 samples
    python benchmarks/plan_scale.py --torch-up-to 100000000        # up to 10^8; needs 12 GB and a minute

Each line is a process of its own: the time until the first batch of an epoch is known, the time of 1,000 batches after
it, both in processor time, and how much memory the process took at its peak beyond what it had after its imports. The
global batch is 32 samples for each rank. The rank is the last one. What DistributedSampler would need beyond the given
size is estimated from its largest measured one, in proportion, and marked with ~.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

SAMPLES = (10**6, 10**8, 10**9)
RANKS = (1, 64, 4096)
BATCH = 32
"""Samples of a rank in a step."""
NUM_BATCHES = 1000


class Measured(NamedTuple):
    """Seconds until the first batch, seconds of the batches after it, their number, and bytes at the peak."""

    first_seconds: float
    more_seconds: float
    num_more: int
    peak_bytes: int


class Samples:
    """A dataset of which only the size matters."""

    def __init__(self, num_samples: int) -> None:
        self._num_samples = num_samples

    def __len__(self) -> int:
        return self._num_samples


def batches_of_plan(num_samples: int, num_ranks: int, order: str) -> Iterator[object]:
    """The batches of the last rank, by the plan. `order`: shuffled or balanced."""
    import numpy

    from signs_dist.data.order import BalancedOrder
    from signs_dist.data.plan import EpochPlan, Shard
    from signs_dist.data.samplers import PlanSampler

    chosen = None
    if order == "balanced":
        chosen = BalancedOrder(numpy.arange(num_samples) % 1000, 0)
    plan = EpochPlan(num_samples, BATCH * num_ranks, seed=0, micro_batch=BATCH, order=chosen)
    sampler = PlanSampler(Samples(num_samples), plan, Shard(num_ranks - 1, num_ranks))  # type: ignore[arg-type]
    sampler.set_epoch(1)
    return sampler.steps()


def batches_of_torch(num_samples: int, num_ranks: int) -> Iterator[object]:
    """The same by DistributedSampler and BatchSampler, as torch's documents have them."""
    from torch.utils.data import BatchSampler, DistributedSampler

    data = Samples(num_samples)
    sampler: DistributedSampler[int] = DistributedSampler(
        data,  # type: ignore[arg-type]
        num_replicas=num_ranks,
        rank=num_ranks - 1,
        shuffle=True,
        drop_last=True,
    )
    sampler.set_epoch(1)
    return iter(BatchSampler(sampler, BATCH, drop_last=True))


def measure(which: str, num_samples: int, num_ranks: int) -> Measured:
    """Measure in this process, which has done nothing else."""
    importlib.import_module("signs_dist.data.samplers")  # and torch: imports are not measured
    before = peak_bytes()
    begun = time.process_time()
    if which == "torch":
        batches = batches_of_torch(num_samples, num_ranks)
    else:
        batches = batches_of_plan(num_samples, num_ranks, which)
    next(batches)
    first = time.process_time()
    num_more = sum(1 for _ in itertools.islice(batches, NUM_BATCHES))
    return Measured(first - begun, time.process_time() - first, num_more, peak_bytes() - before)


def peak_bytes() -> int:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured_apart(which: str, num_samples: int, num_ranks: int) -> Measured:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", which, str(num_samples), str(num_ranks)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return Measured(*json.loads(done.stdout))


def to_line(name: str, num_samples: int, num_ranks: int, found: Measured, mark: str = " ") -> str:
    """A line of the output; `mark` is ~ before estimates."""
    per_thousand = found.more_seconds * NUM_BATCHES / found.num_more if found.num_more else float("nan")
    return (
        f"{name:20} {num_samples:>13,} samples {num_ranks:>5,} ranks  {mark}first batch "
        f"{found.first_seconds * 1e3:10,.2f} ms  1,000 batches {per_thousand * 1e3:8,.1f} ms "
        f"{mark}{found.peak_bytes / 1e6:9,.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=list(SAMPLES), help="sizes (default: 10^6 10^8 10^9)")
    parser.add_argument("--ranks", type=int, nargs="+", default=list(RANKS), help="default: 1 64 4096")
    parser.add_argument("--torch-up-to", type=int, default=10**7, help="samples for DistributedSampler (default: 10^7)")
    parser.add_argument("--balanced", action="store_true", help="data.order=balanced too, up to 10^7 samples")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        which, num_samples, num_ranks = options.one
        print(json.dumps(measure(which, int(num_samples), int(num_ranks))))
        return
    for num_samples, num_ranks in itertools.product(options.samples, options.ranks):
        print(to_line("plan", num_samples, num_ranks, measured_apart("shuffled", num_samples, num_ranks)), flush=True)
        if options.balanced and num_samples <= 10**7:
            found = measured_apart("balanced", num_samples, num_ranks)
            print(to_line("plan, balanced", num_samples, num_ranks, found), flush=True)
        size = min(num_samples, options.torch_up_to)
        found = measured_apart("torch", size, num_ranks)
        factor = num_samples / size
        estimated = found._replace(
            first_seconds=found.first_seconds * factor, peak_bytes=int(found.peak_bytes * factor)
        )
        mark = " " if size == num_samples else "~"
        print(to_line("DistributedSampler", num_samples, num_ranks, estimated, mark), flush=True)


if __name__ == "__main__":
    main()
