"""The compiler stays unloaded, nothing is computed otherwise, and what compiles still does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import environment, run
from tests.sets import write_colour_set

BEGIN = """
import sys
import torch
from torch import nn
from signs_dist.config.settings import OptimConfig
from signs_dist.learning.optim import build_optimizer

def take_steps(make):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    optimizer, calls = make(model), []
    optimizer.register_step_post_hook(lambda *arguments: calls.append("hook"))
    images, labels = torch.randn(8, 3), torch.arange(8) % 2
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["hook"] * 4
    assert torch.is_grad_enabled()
    return nn.utils.parameters_to_vector(model.parameters())

def loaded():
    return [name for name in ("torch._dynamo", "torch._inductor") if name in sys.modules]
"""
OPTIMIZERS = """
names = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
         "adagrad": torch.optim.Adagrad, "rmsprop": torch.optim.RMSprop}
ours = {name: take_steps(lambda m: build_optimizer(m, OptimConfig(name=name, lr=0.05, weight_decay=0.1, momentum=0.9
        if name == "sgd" else None, nesterov=False if name == "sgd" else None))) for name in names}
assert not loaded(), loaded()
for name, kind in names.items():
    more = {"momentum": 0.9} if name == "sgd" else {}
    def groups(model):
        return [{"params": [p for p in model.parameters() if p.ndim > 1]},
                {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0}]
    fused = {} if name == "rmsprop" else {"fused": True}
    theirs = take_steps(lambda m: kind(groups(m), lr=0.05, weight_decay=0.1, **fused, **more))
    assert torch.equal(ours[name], theirs), name
    assert loaded() == ["torch._dynamo", "torch._inductor"], name  # else this module has nothing to do any more
"""
COMPILES = """
take_steps(lambda m: build_optimizer(m, OptimConfig(name="sgd", lr=0.05)))
from signs_dist.distributed.exactness import choose_exact_kernels
choose_exact_kernels()
assert torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
assert not loaded(), loaded()
import torch._inductor.config  # before anything compiles: that would put it right by itself
assert torch._inductor.config.deterministic
compiled = torch.compile(nn.Linear(3, 5), backend="eager")
assert compiled(torch.randn(2, 3)).shape == (2, 5)
take_steps(lambda m: build_optimizer(m, OptimConfig(name="adam", lr=0.05)))
"""
UNCHANGED = """
import inspect
import os
from torch.nn.parallel import DistributedDataParallel

def state():
    "All that this package could change in torch."
    found = {"environment": dict(os.environ), "threads": torch.get_num_threads(), "torch": set(vars(torch)),
             "mode": torch.get_deterministic_debug_mode(), "cudnn": torch.backends.cudnn.deterministic,
             "benchmark": torch.backends.cudnn.benchmark,
             "fill": torch.utils.deterministic.fill_uninitialized_memory}
    for kind in (torch.optim.Optimizer, torch.optim.SGD, torch.optim.Adam, DistributedDataParallel):
        for name, value in vars(kind).items():
            found[kind, name] = value
            if inspect.isfunction(value):  # torch keeps beside a function what it marked for the compiler
                found[kind, name, "marks"] = dict(vars(inspect.unwrap(value)))
    return found

before = state()
import signs_dist as sd
with sd.connect(exact=True):
    assert state() != before
    take_steps(lambda m: build_optimizer(m, OptimConfig(name="sgd", lr=0.05)))
    from signs_dist.learning.quick_start import distributed_without_compiler
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    torch.distributed.init_process_group("gloo", rank=0, world_size=1)
    wrapped = distributed_without_compiler()(nn.Linear(2, 3))
    assert isinstance(wrapped, DistributedDataParallel)
    wrapped(torch.ones(1, 2)).sum().backward()
    torch.distributed.destroy_process_group()
    del os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    assert not loaded(), loaded()
after = state()
assert after == before, {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
"""


@pytest.mark.slow
@pytest.mark.parametrize("program", [OPTIMIZERS, COMPILES, UNCHANGED], ids=["optimizers", "compiles", "unchanged"])
def test_the_compiler_is_loaded_by_what_compiles_only(program: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, text=True, env=environment(), check=False
    )
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
@pytest.mark.parametrize("mode", [("exact=false",), ("exact=true", "train.micro_batch=8")])
def test_a_whole_run_does_not_load_it(tmp_path: Path, mode: tuple[str, ...]) -> None:
    program = "import sys; from signs_dist.train import main; main(sys.argv[1:]); print('torch._dynamo' in sys.modules)"
    colours = write_colour_set(tmp_path / "colours", counts={"train": 8, "val": 2})
    small = [f"data.root={colours}", f"data.cache={tmp_path}/cache", "data.image_size=16", "model.name=signs_net"]
    more = ["train.epochs=1", "train.global_batch=16", "train.epoch_steps=2", "ema.decay=0.9"]
    ended = run([sys.executable, "-c", program, "--run-dir", "run", *small, *more, *mode], tmp_path)
    assert ended.out.splitlines()[-1] == "False", ended.err
