"""A real SLURM for tests, where it is installed, and what a person does on its login node.

The Python of a job is that of its submission. Here it is `warm_processes.python`, except in tests with the mark `cold`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from slurm.dev_cluster import INSTALL, DevCluster, find_missing
from tests import warm_processes
from tests.processes import PATIENCE, REPOSITORY, environment

CONFIG = REPOSITORY / "configs" / "signs.yaml"
EPOCHS = 4
STEPS_PER_EPOCH = 27
OPTIMIZER = """
import os, time
import torch

class Patient(torch.optim.SGD):
    def __init__(self, parameters, lr, weight_decay):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, momentum=0.9)

    def step(self):
        if "SLURM_JOB_ID" in os.environ:
            time.sleep(0.03)
        return super().step()
"""
"""In a job, each step takes its time without computing: what happens to a job happens before its end."""
TRIVIAL = ("model.name=mlp", "model.args={}", "train.epochs=1", "train.epoch_steps=2", "exact=false")
"""Settings of a run that is over at once."""
REQUIRED = "SIGNS_DIST_REQUIRE_SLURM"
"""Set where the tests that need SLURM may not be skipped."""

requires_slurm = pytest.mark.skipif(
    bool(find_missing()) and REQUIRED not in os.environ, reason=f"SLURM is not installed: {INSTALL}"
)


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """The name of a folder that is not there yet, short enough for munge's socket."""
    parent = Path(tempfile.mkdtemp(prefix="sd-", dir="/tmp"))
    parent.chmod(0o755)
    try:
        yield parent / "c"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@dataclasses.dataclass
class Site:
    """A working folder on a cluster's login node."""

    cluster: DevCluster
    folder: Path
    photos: Path

    def __post_init__(self) -> None:
        (self.folder / "patient.py").write_text(OPTIMIZER)

    def settings(self, *more: str) -> list[str]:
        return [
            *("--config", str(CONFIG), f"data.root={self.photos}", f"data.cache={self.folder}/cache", "exact=true"),
            *("data.image_size=32", "train.micro_batch=8", f"train.epochs={EPOCHS}", "log.every_steps=1"),
            "train.progressive_sizes=[]",  # tests choose networks for one size
            *("model.name=signs_net", "model.args={channels: 4}", "optim.name=patient:Patient", *more),
        ]

    def type_in(
        self, *arguments: str, timeout: float = PATIENCE, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As a person would, in this folder; with further variables in the environment."""
        return subprocess.run(
            [warm_processes.python(), str(REPOSITORY / "launch" / "submit.py"), *arguments],
            cwd=self.folder,
            env=environment(**self.cluster.environment) | {"PYTHONPATH": ""} | dict(variables or {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def submit(self, *arguments: str) -> str:
        """The job's id."""
        ended = self.type_in(*arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        found = re.search(r"^ +job +(\d+)$", ended.stdout, re.MULTILINE)
        assert found is not None, ended.stdout
        return found[1]

    def await_step(self, run: str, step: int, timeout: float = PATIENCE) -> None:
        """Wait until a run has written down a step."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if f'"step": {step},' in (self.folder / run / "metrics.jsonl").read_text():
                    return
            time.sleep(0.1)
        raise AssertionError(self.type_in("status", run).stdout + self.type_in("logs", run).stdout)

    def show(self, job: str) -> dict[str, str]:
        text = self.cluster.run("scontrol", "--oneliner", "show", "job", job)
        return dict(re.findall(r"(\w+)=(\S*)", text))

    def result(self, run: str) -> dict[str, Any]:
        value = json.loads((self.folder / run / "result.json").read_text())
        assert isinstance(value, dict)
        return value

    def attempts(self, run: str) -> list[dict[str, Any]]:
        """The lines of attempts.jsonl; none before there is one."""
        path = self.folder / run / "attempts.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def require_each_step_once(self, run: str) -> None:
        lines = [json.loads(line) for line in (self.folder / run / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if line["kind"] in ("step", "epoch")]
        assert steps == list(range(1, EPOCHS * STEPS_PER_EPOCH + 1))


def put_scontrol(folder: Path, *answers: str) -> None:
    """A scontrol that does one after the other, and the last again and again."""
    lines = "\n".join(f"  {number}) {answer} ;;" for number, answer in enumerate(answers[:-1]))
    (folder / "scontrol").write_text(
        f"#!/bin/sh\ntouch {folder}/calls\nn=$(wc -l < {folder}/calls)\necho >> {folder}/calls\n"
        f"case $n in\n{lines}\n  *) {answers[-1]} ;;\nesac\n"
    )
    (folder / "scontrol").chmod(0o755)


def answer_with(folder: Path, name: str, text: str, code: int = 0) -> None:
    """Put a program of SLURM's there that prints a text and ends with a code."""
    (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    (folder / name).chmod(0o755)
