"""Images per second of a small network by the way in which OpenMP's threads wait, idle and beside a busy program.

python benchmarks/waiting_threads.py                   # 3 minutes on 2 cores
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

WAYS = {
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "by default": {},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
}
"""Name → variables of the environment."""
BUSY = "while True: pass"
MEASURED = """
import time, torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(64 * 256, 6),
)
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
images, labels = torch.randn(32, 3, 64, 64), torch.randint(0, 6, (32,))
def step():
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(images), labels).backward()
    optimizer.step()
for _ in range(3):
    step()
number, started = 0, time.perf_counter()
while time.perf_counter() - started < SECONDS:
    step()
    number += 1
print(32 * number / (time.perf_counter() - started))
"""


def measure(variables: dict[str, str], seconds: float) -> float:
    """Images per second in a new process with these variables."""
    others = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in others} | variables
    command = [sys.executable, "-c", MEASURED.replace("SECONDS", str(seconds))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return float(done.stdout)


def main(arguments: Sequence[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, alternating (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement (%(default)s)")
    parser.add_argument(
        "--way", action="append", choices=tuple(WAYS), help="measure this way only; may be repeated (default: all)"
    )
    options = parser.parse_args(arguments)
    ways = {name: variables for name, variables in WAYS.items() if name in (options.way or WAYS)}
    for title, num_busy in (("idle", 0), ("beside one busy program", 1)):
        found: dict[str, list[float]] = {name: [] for name in ways}
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num_busy)]
        try:
            for _ in range(options.rounds):
                for name, variables in ways.items():
                    found[name].append(measure(variables, options.seconds))
        finally:
            for process in busy:
                process.kill()
                process.wait()
        print(title)
        for name, rates in found.items():
            print(f"  {name:<24} {statistics.median(rates):8,.0f} images/s  ({min(rates):,.0f} to {max(rates):,.0f})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
