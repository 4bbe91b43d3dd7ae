"""Gradients in fewer bytes: what is refused and said, and what real processes compute from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signs_dist.config.reading import load_config
from signs_dist.distributed.compression import Compression
from signs_dist.errors import UserError
from tests.processes import program_command, run_ranks

BFLOAT16, POWERSGD = Compression("bfloat16"), Compression("powersgd", rank=2, start_step=5)

SUMS = """
import json
import torch
from torch import nn
from signs_dist.distributed.compression import Compression
from signs_dist.distributed.rendezvous import join
from signs_dist.distributed.strategy import DistributedProcesses, Summing
from signs_dist.environment.context import read_context
from signs_dist.monitoring.pulse import Pulse

cpu = torch.device("cpu")
group = join(read_context(), cpu, rendezvous_seconds=60, timeout_seconds=60, pulse=Pulse())
strategy = DistributedProcesses(cpu, group)
found = {}
for name, compression in {
    "whole": Compression(), "bfloat16": Compression("bfloat16"), "powersgd": Compression("powersgd", 1, 2)
}.items():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(700, 700) for _ in range(3)))  # more than DistributedDataParallel's first bucket
    wrapped = strategy.wrap(model, for_training=True, summing=Summing(compression=compression))
    torch.manual_seed(1 + group.rank)
    images = torch.randn(8, 700)
    gradients = []
    for _ in range(5):
        model.zero_grad()
        wrapped(images).square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    found[name] = gradients
    weight = gradients[-1][-700 * 701 : -700].view(700, 700)
    found[name + " rank"] = int((torch.linalg.svdvals(weight) > 1e-6 * torch.linalg.svdvals(weight)[0]).sum())
whole = found["whole"][0]
errors = {
    name: [float((one - whole).norm() / whole.norm()) for one in found[name]] for name in ("bfloat16", "powersgd")
}
mean = torch.stack(found["powersgd"][2:]).mean(0)
same = all(torch.equal(one, other) for one, other in zip(*group.gather_values(found["powersgd"], "compare")))
print(json.dumps(errors | {
    "ranks": [found["whole rank"], found["powersgd rank"]],
    "mean": float((mean - whole).norm() / whole.norm()),
    "same": same,
}))
strategy.close()
"""


@pytest.mark.slow
def test_what_processes_make_of_compressed_gradients(tmp_path: Path) -> None:
    ended = run_ranks(2, program_command(tmp_path, SUMS), tmp_path)
    assert [one.code for one in ended] == [0, 0], [one.err for one in ended]
    for one in ended:
        found = json.loads(one.out)
        assert all(0 < error < 0.01 for error in found["bfloat16"])
        first, second, *later = found["powersgd"]
        assert first == second == 0, "the first steps are whole"
        assert all(0.05 < error < 2 for error in later), "later ones are approximated"
        assert found["ranks"] == [16, 1]
        assert found["mean"] < max(later), "what a step leaves out is added to the next"
        assert found["same"], "all processes go on from the same gradients"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("exact=true", "train.micro_batch=8", "train.gradient_compression=bfloat16"),
            "exact=true does not work with train.gradient_compression=bfloat16",
        ),
        (("train.powersgd_rank=2",), "train.powersgd_rank is not read with train.gradient_compression=none"),
        (
            ("train.gradient_compression=bfloat16", "train.powersgd_start_step=9"),
            "train.powersgd_start_step is not read with train.gradient_compression=bfloat16",
        ),
        (("train.gradient_compression=powersgd", "train.powersgd_start_step=1"), "train.powersgd_start_step=1"),
    ],
)
def test_what_is_refused(settings: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(None, list(settings))


def test_settings_are_read() -> None:
    settings = ["train.gradient_compression=powersgd", "train.powersgd_rank=2", "train.powersgd_start_step=5"]
    assert Compression.from_config(load_config(None, settings).train) == POWERSGD
    assert Compression.from_config(load_config(None, []).train) == Compression()


def test_powersgd_has_one_bucket_on_the_cpu() -> None:
    assert POWERSGD.bucket_megabytes("cpu", 40 * 2**20 + 1) == 41
    assert POWERSGD.bucket_megabytes("cuda", 40 * 2**20) is None
    assert BFLOAT16.bucket_megabytes("cpu", 40 * 2**20) is None


def test_powersgd_does_not_take_gradients_that_overflow() -> None:
    with pytest.raises(UserError, match=r"powersgd does not work with train\.precision=float16"):
        POWERSGD.require_precision("float16")
    POWERSGD.require_precision("bfloat16")
    BFLOAT16.require_precision("float16")


@pytest.mark.parametrize(
    ("compression", "text"),
    [
        (Compression(), ""),
        (BFLOAT16, "; gradients are sent as bfloat16"),
        (POWERSGD, "; gradients are sent by PowerSGD of rank 2, whole in the first 5 steps"),
        (
            Compression("powersgd", 1, 1120),
            "; gradients are sent whole: the run ends after 1,120 steps, before train.powersgd_start_step=1120",
        ),
    ],
)
def test_the_banner_says_it(compression: Compression, text: str) -> None:
    assert compression.describe(1120) == text
