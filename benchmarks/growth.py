"""What a step costs on 1, 2, 4 and 8 processes, over loopback and over slow networks, and what they send.

    python benchmarks/growth.py data.root=PHOTOS                                    # 10 minutes on 2 cores
    python benchmarks/growth.py --processes 2 --networks loopback 1gbit --rounds 2
    python benchmarks/growth.py --processes 3 --networks loopback --ways fast exact

Every process has one thread, and a step has the same images on any number of processes (strong growth). Slow networks
are emulated between network namespaces, which needs root: see growth_network.py. Bytes are counted by the interface.
All ways take turns: `compute` sums nothing over processes, so what `fast` takes longer is communication that was not
hidden; `exact` is exact mode, `bfloat16` and `powersgd` are train.gradient_compression, and `accumulate` has four times
the images in a step (shown for as many images as the others).

The tables: milliseconds for the images of a step; what is sent beside the bytes on paper (growth_bytes.py); which ways
are faster than `fast`; and what the model of growth_model.py says of the measured points.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.growth_bytes import BYTES_OF_FLOAT, sent_bytes
from benchmarks.growth_model import Link, Point, largest_error, last_bucket_share, ring_seconds, step_seconds
from benchmarks.growth_network import LOOPBACK, RATES, Place, connected, why_not
from benchmarks.growth_rank import ACCUMULATED, REPOSITORY, WAYS

NOTICEABLE = 0.95
"""A way pays where it takes at most this part of the time of `fast`: less cannot be told from noise."""
LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Measured:
    """What the ranks of a group measured.

    Attributes:
        network: `loopback` or a rate.
        num_ranks: how many they were.
        seconds: of a step, for each way: the median over turns.
        sent: bytes that a rank sent in a step, for each way: the mean over ranks.
        shapes: of the parameters that train.
        num_extras: numbers that are summed beside the gradient.
        sum_seconds: of a sum of one number, and of one of the whole gradient, by themselves.
    """

    network: str
    num_ranks: int
    seconds: Mapping[str, float]
    sent: Mapping[str, float]
    shapes: Sequence[Sequence[int]]
    num_extras: int
    sum_seconds: tuple[float, float]

    @property
    def equal_seconds(self) -> dict[str, float]:
        """Seconds for the images of one step of `fast`, for each way."""
        return {way: time / (ACCUMULATED if way == "accumulate" else 1) for way, time in self.seconds.items()}


def bring_together(network: str, ranks: Sequence[Mapping[str, Any]], num_sharing: int) -> Measured:
    """The figures of a group from those of its ranks; `num_sharing` of them count at one interface."""
    turns = {way: [rank["ways"][way] for rank in ranks] for way in ranks[0]["ways"]}
    middle = {way: [[turn["seconds"] for turn in rank] for rank in of_ranks] for way, of_ranks in turns.items()}
    sent = {}
    for way, of_ranks in turns.items():
        each = [statistics.mean(turn["bytes"] for turn in rank) for rank in of_ranks]
        # Ranks that share an interface all count the bytes of all; who begins to count last misses some.
        sent[way] = max(each) / num_sharing if num_sharing > 1 else statistics.mean(each)
    return Measured(
        network,
        len(ranks),
        {way: statistics.median(seconds[0]) for way, seconds in middle.items()},
        sent,
        ranks[0]["shapes"],
        ranks[0]["num_extras"],
        tuple(ranks[0]["sums"]),
    )


def measure(network: str, num_ranks: int, options: argparse.Namespace, folder: Path, *, isolated: bool) -> Measured:
    """Start a group of ranks, and wait for its figures."""
    out = folder / f"{network}-{num_ranks}"
    out.mkdir()
    alone = ("compute", "bfloat16", "powersgd")
    ways = [way for way in options.ways if num_ranks > 1 or way not in alone]
    arguments = ["--out", str(out), "--ways", *ways, "--steps", str(options.steps), "--rounds", str(options.rounds)]
    arguments += ["--config", str(options.config)] if options.config else []
    arguments += ["--global-batch", str(options.batch), "--micro-batch", str(options.micro_batch)]
    for setting in [f"data.cache={folder / 'cache'}", *options.settings]:
        arguments += ["--setting", setting]
    with connected(network, num_ranks, isolated=isolated) as places, contextlib.ExitStack() as stack:
        ranks = [
            stack.enter_context(_started(place, arguments, out / f"{number}.txt", folder))
            for number, place in enumerate(places)
        ]
        for number, rank in enumerate(ranks):
            if rank.wait(LIMIT_SECONDS):
                text = (out / f"{number}.txt").read_text()
                raise SystemExit(f"rank {number} of {num_ranks} over {network} ended with {rank.returncode}:\n{text}")
        found = [json.loads((out / f"rank{number}.json").read_text()) for number in range(num_ranks)]
        return bring_together(network, found, places[0].num_sharing)


@contextlib.contextmanager
def _started(place: Place, arguments: Sequence[str], log: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A rank at its place, with its output in `log`; it is ended after the block if it still runs."""
    command = [*place.prefix, sys.executable, str(REPOSITORY / "benchmarks/growth_rank.py")]
    command += ["--interface", place.interface, *arguments]
    variables = {**os.environ, **place.variables, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def time_lines(found: Sequence[Measured]) -> list[str]:
    """The first table: milliseconds for the images of a step."""
    ways = list(found[-1].seconds)
    lines = [f"{'':>9} {'ranks':>5}" + "".join(f"{way:>12}" for way in ways)]
    for one in found:
        cells = (f"{one.equal_seconds[way] * 1e3:12.1f}" if way in one.seconds else f"{'':>12}" for way in ways)
        lines.append(f"{one.network:>9} {one.num_ranks:>5}" + "".join(cells))
    return lines


def byte_lines(found: Sequence[Measured], num_micro_batches: int) -> list[str]:
    """The second table: bytes that a rank sends in a step, beside those on paper."""
    lines = []
    for one in found:
        if one.num_ranks == 1:
            continue
        for way, sent in one.sent.items():
            if way == "compute":
                continue
            number = num_micro_batches * (ACCUMULATED if way == "accumulate" else 1)
            paper = sent_bytes(way, one.shapes, one.num_extras, number, one.num_ranks)
            lines.append(
                f"{one.network:>9} {one.num_ranks:>2} ranks  {way:<10} sent {sent / 1e6:8.3f} MB  on paper "
                f"{paper / 1e6:8.3f} MB  {sent / paper:6.3f}"
            )
    return lines


def what_pays(seconds: Mapping[str, float]) -> str:
    """Which ways take less time than `fast` for the same images, the fastest first, with their share of its time.

    >>> what_pays({"fast": 1.0, "bfloat16": 0.6, "powersgd": 0.99})
    'bfloat16 0.60'
    """
    shares = {way: seconds[way] / seconds["fast"] for way in ("bfloat16", "powersgd", "accumulate") if way in seconds}
    paying = sorted((share, way) for way, share in shares.items() if share <= NOTICEABLE)
    return ", ".join(f"{way} {share:.2f}" for share, way in paying) or "none"


def pay_lines(found: Sequence[Measured]) -> list[str]:
    """The third table: when compression and accumulation pay."""
    return [
        f"{one.network:>9} {one.num_ranks:>2} ranks  {what_pays(one.equal_seconds)}"
        for one in found
        if one.num_ranks > 1 and "fast" in one.seconds
    ]


def link_of(one: Measured, loopback: Link) -> Link:
    """What joins the ranks of a group: the rate that was set, and the delay of a message from a sum of one number."""
    messages = 2 * (one.num_ranks - 1)
    message_seconds = one.sum_seconds[0] / messages
    rate = RATES[one.network] / 8 if one.network in RATES else loopback.bytes_per_second
    return Link(min(rate, loopback.bytes_per_second), message_seconds)


def loopback_link(found: Sequence[Measured]) -> Link:
    """What loopback carries, from the sum of a gradient by two ranks, or by the fewest: memory copies of the kernel."""
    of_loopback = [one for one in found if one.network == LOOPBACK and one.num_ranks > 1]
    if not of_loopback:
        return Link(float("inf"), 0.0)
    one = min(of_loopback, key=lambda group: group.num_ranks)
    sent = 2 * (one.num_ranks - 1) / one.num_ranks * _gradient_bytes(one)
    return Link(sent / max(1e-9, one.sum_seconds[1] - one.sum_seconds[0]), 0.0)


def predict(found: Sequence[Measured], num_micro_batches: int) -> list[Point]:
    """The measured points of fast mode beside the model's, which gets compute, gradient and link of each."""
    loopback = loopback_link(found)
    points = []
    for one in found:
        if "compute" not in one.seconds or "fast" not in one.seconds:
            continue
        seconds = ring_seconds(_gradient_bytes(one), one.num_ranks, link_of(one, loopback))
        share = last_bucket_share([_values(shape) for shape in one.shapes])
        passes = -(-num_micro_batches // one.num_ranks)
        predicted = step_seconds(one.seconds["compute"], 0.0, seconds, share, passes)
        points.append(Point(one.network, one.num_ranks, one.seconds["fast"], predicted))
    return points


def _gradient_bytes(one: Measured) -> int:
    return BYTES_OF_FLOAT * sum(_values(shape) for shape in one.shapes)


def _values(shape: Sequence[int]) -> int:
    values = 1
    for side in shape:
        values *= side
    return values


def main() -> None:
    networks = [LOOPBACK, *RATES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=REPOSITORY / "configs/cs230.yaml", help="(default: cs230.yaml)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8], help="how many (default: 1 2 4 8)")
    parser.add_argument("--networks", nargs="+", choices=networks, default=networks, help="(default: all)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="(default: all)")
    parser.add_argument("--batch", type=int, default=32, help="images of a step (default: 32)")
    parser.add_argument("--micro-batch", type=int, default=4, help="images of a micro-batch (default: 4)")
    parser.add_argument("--steps", type=int, default=8, help="steps of a turn (default: 8)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each way (default: 5)")
    parser.add_argument("settings", nargs="*", metavar="section.key=value")
    options = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves no namespace behind
    reason = why_not()
    if reason:
        print(f"no slow networks, and the loopback of the whole machine: no network namespaces here: {reason}")
        options.networks = [network for network in options.networks if network == LOOPBACK]
    found = []
    with tempfile.TemporaryDirectory() as name:
        for network in options.networks:
            for number in sorted(options.processes):
                if number == 1 and network != LOOPBACK:
                    continue
                found.append(measure(network, number, options, Path(name), isolated=not reason))
                print(time_lines(found[-1:])[-1], flush=True)
    cut = options.batch // options.micro_batch
    print(f"\nmilliseconds for {options.batch} images\n" + "\n".join(time_lines(found)))
    print("\nbytes that a rank sends in a step\n" + "\n".join(byte_lines(found, cut)))
    print(f"\nwhat takes at most {NOTICEABLE:g} of the time of fast mode\n" + "\n".join(pay_lines(found)))
    if points := predict(found, cut):
        print("\nthe model and the measured steps\n" + "\n".join(point.to_line() for point in points))
        print(f"largest factor between them: {largest_error(points):.2f}")


if __name__ == "__main__":
    main()
