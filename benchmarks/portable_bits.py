"""Which operations give the same bits with other instructions: SHA-256 of each, under caps on the instruction set.

python benchmarks/portable_bits.py                 # a table: operations and caps
python benchmarks/portable_bits.py --operations    # internal: the digests of this process, as JSON

Each column is a process of its own, because the libraries read their caps when they are loaded. The last row is a small
fixed run: three steps of signs_fast over fixed images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CAPS: dict[str, dict[str, str]] = {
    "none": {},
    "oneDNN BF16": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "oneDNN AVX512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    "oneDNN AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "ATen avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATen default": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL compatible": {"MKL_CBWR": "COMPATIBLE"},
    "all AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
}
"""Column → variables. In `all AVX2` each library that has a cap gets the same."""
PORTABLE = "all AVX2"
RUN = "three steps of signs_fast"


def digest_operations() -> dict[str, str]:
    """SHA-256 (16 hex digits) of each operation and of the small run, in this process, on one thread."""
    import torch
    from torch.nn import functional as nn_functional

    from signs_dist.distributed.exactness import exact_arithmetic
    from signs_dist.training.arithmetic_probe import fixed_images

    images = fixed_images(64, torch.device("cpu")).contiguous(memory_format=torch.channels_last)
    rows, kernel = images.flatten(1)[:, :1024].contiguous(), images.flatten()[: 32 * 27].reshape(32, 3, 3, 3) / 8
    weight = images.flatten()[: 32 * 1024].reshape(32, 1024) / 32
    labels = torch.arange(4)

    def backward(compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
        def both(one: Tensor, other: Tensor) -> Tensor:
            leaves = [one.clone().requires_grad_(), other.clone().requires_grad_()]
            compute(*leaves).square().sum().backward()  # type: ignore[no-untyped-call]
            return torch.cat([leaf.grad.flatten() for leaf in leaves if leaf.grad is not None])

        return both

    def convolve(one: Tensor, other: Tensor) -> Tensor:
        return nn_functional.conv2d(one, other, padding=1)

    half = torch.bfloat16
    operations: dict[str, Callable[[], Tensor]] = {
        "convolution": lambda: convolve(images, kernel),
        "convolution, backward": lambda: backward(convolve)(images, kernel),
        "convolution, bfloat16": lambda: convolve(images.to(half), kernel.to(half)),
        "convolution, bfloat16, backward": lambda: backward(convolve)(images.to(half), kernel.to(half)),
        "linear": lambda: nn_functional.linear(rows, weight),
        "linear, backward": lambda: backward(nn_functional.linear)(rows, weight),
        "linear, bfloat16": lambda: nn_functional.linear(rows.to(half), weight.to(half)),
        "to bfloat16": lambda: images.to(half),
        "batch norm": lambda: nn_functional.batch_norm(images, None, None, training=True),
        "log softmax": lambda: nn_functional.log_softmax(rows, 1),
        "cross entropy": lambda: nn_functional.cross_entropy(rows, labels, label_smoothing=0.1),
        "exponential": lambda: images.exp(),
        "sum": lambda: images.sum((0, 2, 3)),
        "normal draws": lambda: torch.empty(1000).normal_(generator=torch.Generator().manual_seed(0)),
        "uniform draws": lambda: torch.empty(1000).uniform_(generator=torch.Generator().manual_seed(0)),
        "resize": lambda: nn_functional.interpolate(images, size=48, mode="bilinear", antialias=True),
        RUN: lambda: _train(images, labels),
    }
    with exact_arithmetic():
        return {name: _sha256(compute()) for name, compute in operations.items()}


def _train(images: Tensor, labels: Tensor) -> Tensor:
    """All weights after three steps, in a row."""
    import torch

    from signs_dist.config.reading import load_config
    from signs_dist.training.prepare import build_model

    config = load_config(None, ["model.name=signs_fast", "data.image_size=64", "exact=true", "train.micro_batch=4"])
    model = build_model(config, 6, torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def _sha256(tensor: Tensor) -> str:
    import torch

    plain = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(plain.numpy().tobytes()).hexdigest()[:16]


def digest_under(caps: Mapping[str, str]) -> dict[str, str]:
    """What a new process computes under these caps."""
    known = {name for each in CAPS.values() for name in each}
    environment = {name: value for name, value in os.environ.items() if name not in known}
    ended = subprocess.run(
        [sys.executable, __file__, "--operations"],
        env={**environment, **caps},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    digests: dict[str, str] = json.loads(ended.stdout)
    return digests


def main(arguments: Sequence[str]) -> int:
    """Print the table: `=` where a digest is that of the first column."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--operations", action="store_true", help="print the digests of this process as JSON")
    options = parser.parse_args(arguments)
    if options.operations:
        print(json.dumps(digest_operations()))
        return 0
    columns = {name: digest_under(caps) for name, caps in CAPS.items()}
    first = columns["none"]
    print(" " * 33 + "  ".join(f"{name:>14}" for name in columns))
    for operation, digest in first.items():
        cells = ["=" if each[operation] == digest else each[operation][:8] for each in columns.values()]
        print(f"{operation:<33}" + "  ".join(f"{cell:>14}" for cell in (digest[:8], *cells[1:])))
    return 0


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.exit(main(sys.argv[1:]))
