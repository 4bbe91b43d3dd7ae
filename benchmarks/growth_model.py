"""A model on paper of a training step on many processes: step = max(compute, data) + exposed communication.

    python benchmarks/growth_model.py                     # ResNet-50 on 8 to 1,024 GPUs, three networks
    python benchmarks/growth_model.py --bytes-of-value 2   # gradients sent as bfloat16
    python benchmarks/growth_model.py --accumulate 4       # steps of four times the images

Nothing is measured here. benchmarks/growth.py prints what the model says of small groups beside what it measures.

Assumptions:
1. Weak growth: each GPU has the same number of images in a step, so compute does not depend on the number of GPUs.
2. Loading is ready ahead of the step that needs it: the slower of compute and data counts.
3. Sums are rings: each of W ranks sends 2(W-1)/W of the gradient, in 2(W-1) messages, each with a fixed delay.
   Between nodes of 8 GPUs the sum has three parts: within the node, between nodes, and within the node again. Each GPU
   of a node sends an eighth of the gradient between nodes, all over the one network card of the node.
4. A sum hides behind the backward pass, two thirds of compute, but for its last bucket, whose gradients the backward
   pass computes at its end. Of a step that is cut into micro-batches, only the last one hides it.
5. No rank is slower than the others. A straggler adds its delay to each step.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass

BACKWARD_SHARE = 2 / 3
"""Of a step: the backward pass computes two products for each one of the forward pass."""
FIRST_BUCKET_BYTES = 2**20
BUCKET_BYTES = 25 * 2**20
"""DistributedDataParallel closes a bucket when it holds so much; the first one is smaller."""
GPUS_PER_NODE = 8
BYTES_OF_FLOAT = 4


@dataclass(frozen=True)
class Link:
    """What joins ranks: bytes a second in each direction, and the seconds of a message without content."""

    bytes_per_second: float
    message_seconds: float


def ring_bytes(num_bytes: float, num_ranks: int) -> float:
    """What each rank sends for a sum of `num_bytes` over a ring."""
    return 2 * (num_ranks - 1) / num_ranks * num_bytes


def ring_seconds(num_bytes: float, num_ranks: int, link: Link) -> float:
    """The seconds of a sum over a ring."""
    return ring_bytes(num_bytes, num_ranks) / link.bytes_per_second + 2 * (num_ranks - 1) * link.message_seconds


def node_seconds(num_bytes: float, num_gpus: int, inside: Link, between: Link) -> float:
    """The seconds of a sum over whole nodes of 8 GPUs: in the node, between nodes, and in the node again."""
    within = ring_seconds(num_bytes, min(num_gpus, GPUS_PER_NODE), inside)
    num_nodes = num_gpus // GPUS_PER_NODE
    if num_nodes <= 1:
        return within
    # The card of a node carries the eighths of its 8 GPUs: the whole gradient.
    return within + ring_seconds(num_bytes, num_nodes, between)


def exposed_seconds(sum_seconds: float, hiding_seconds: float, last_share: float) -> float:
    """What a step waits for a sum that begins during the backward pass.

    Args:
        sum_seconds: of the whole sum.
        hiding_seconds: of the backward pass during which it can run.
        last_share: which share of the gradients is in the last bucket.
    """
    return max(sum_seconds * last_share, sum_seconds - hiding_seconds)


def step_seconds(compute: float, data: float, sum_seconds: float, last_share: float, num_passes: int = 1) -> float:
    """The seconds of a step: max(compute, data) + exposed communication.

    Args:
        compute: seconds of forward and backward passes and the optimizer of a step.
        data: seconds in which the loader makes the images of a step.
        sum_seconds: of the sum of the gradients.
        last_share: see `exposed_seconds`.
        num_passes: micro-batches of a rank in a step.
    """
    hiding = BACKWARD_SHARE * compute / num_passes
    return max(compute, data) + exposed_seconds(sum_seconds, hiding, last_share)


def last_bucket_share(gradients: Sequence[int]) -> float:
    """Which share of the gradients DistributedDataParallel sums last.

    Args:
        gradients: the numbers of values, in the order of the parameters: the backward pass computes the last first.
    """
    buckets, limit = [0], FIRST_BUCKET_BYTES
    for values in reversed(gradients):
        if buckets[-1] >= limit:
            buckets.append(0)
            limit = BUCKET_BYTES
        buckets[-1] += values * BYTES_OF_FLOAT
    return buckets[-1] / sum(buckets)


def to_lines(options: argparse.Namespace) -> list[str]:
    """The table: a row for each number of GPUs, and for each network the step and the share of perfect growth."""
    num_bytes = options.parameters * options.bytes_of_value
    share = min(1.0, BUCKET_BYTES / (options.parameters * BYTES_OF_FLOAT))
    passes = options.accumulate
    compute, data = passes * options.compute_ms / 1e3, passes * options.batch / options.data_rate
    inside = Link(options.inside_gbytes * 1e9, options.inside_us / 1e6)
    lines = ["GPUs   " + "".join(f"{rate:>9g} Gbit/s a node" for rate in options.between_gbits)]
    num_gpus = GPUS_PER_NODE
    while num_gpus <= options.most_gpus:
        cells = []
        for rate in options.between_gbits:
            between = Link(rate * 1e9 / 8, options.between_us / 1e6)
            total = step_seconds(compute, data, node_seconds(num_bytes, num_gpus, inside, between), share, passes)
            cells.append(f"{total * 1e3:12.1f} ms {max(compute, data) / total:5.0%}    ")
        lines.append(f"{num_gpus:>5,}  " + "".join(cells).rstrip())
        num_gpus *= 2
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    of_network = parser.add_argument_group("the network; by default ResNet-50")
    of_network.add_argument("--parameters", type=float, default=25.6e6, help="default: %(default)g")
    of_network.add_argument("--batch", type=int, default=128, help="images of a GPU in a step (default: 128)")
    of_network.add_argument("--compute-ms", type=float, default=50.0, help="of a step on one GPU (default: 50)")
    of_network.add_argument("--data-rate", type=float, default=6000, help="images/s of a GPU's loader (default: 6000)")
    of_network.add_argument("--bytes-of-value", type=float, default=4, help="of a gradient as it is sent (default: 4)")
    of_network.add_argument("--accumulate", type=int, default=1, help="micro-batches of a GPU in a step (default: 1)")
    of_links = parser.add_argument_group("what joins the GPUs")
    of_links.add_argument("--inside-gbytes", type=float, default=200, help="GB/s of a GPU in its node (default: 200)")
    of_links.add_argument("--inside-us", type=float, default=5, help="of a message there (default: 5)")
    of_links.add_argument(
        "--between-gbits", type=float, nargs="+", default=[400, 100, 10], help="Gbit/s of a node (default: 400 100 10)"
    )
    of_links.add_argument("--between-us", type=float, default=20, help="of a message between nodes (default: 20)")
    parser.add_argument("--most-gpus", type=int, default=1024, help="default: 1024")
    print("\n".join(to_lines(parser.parse_args(arguments))))
    return 0


@dataclass(frozen=True)
class Point:
    """A measured step beside what the model says: seconds."""

    network: str
    num_ranks: int
    measured: float
    predicted: float

    def to_line(self) -> str:
        """A row of the table."""
        return (
            f"{self.network:>9} {self.num_ranks:>2} ranks  predicted {self.predicted * 1e3:8.1f} ms  measured "
            f"{self.measured * 1e3:8.1f} ms  {self.predicted / self.measured:5.2f}"
        )


def largest_error(points: Sequence[Point]) -> float:
    """The largest factor between a prediction and its measurement, at least 1."""
    ratios = (point.predicted / point.measured for point in points)
    return max(itertools.chain([1.0], (max(ratio, 1 / ratio) for ratio in ratios)))


if __name__ == "__main__":
    sys.exit(main())
