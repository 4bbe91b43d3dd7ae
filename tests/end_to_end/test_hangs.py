"""Machines on which a launch once waited without a word: a name that resolves nowhere, loopback that is down."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from signs_dist.environment.process_table import find_descendants
from tests.processes import finish, listening_addresses, run, started, unshared

SMALL = (
    *("data.image_size=32", "data.synthetic.train=64", "data.synthetic.val=16", "data.synthetic.test=16"),
    *("train.epochs=2", "train.global_batch=16"),
)


@pytest.mark.slow
def test_a_machine_whose_name_resolves_nowhere_trains_and_listens_on_loopback_only(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "launch.local", "--nproc", "2", "--", *SMALL, "--run-dir", "run"]
    command = unshared("--uts", "sh", "-c", 'hostname nowhere.invalid; exec "$@"', "sh", *launch)
    listening: set[tuple[str, int]] = set()
    with started(command, tmp_path) as process:
        while process.poll() is None:
            listening |= listening_addresses(process.pid, *find_descendants(process.pid))
            time.sleep(0.05)
        ended = finish(process, 60)
    assert ended.code == 0, ended.last_lines
    assert "2 processes over gloo" in ended.out
    assert len(listening) >= 2  # the agent's store, and the workers'
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_loopback_that_is_down_is_said_at_once(tmp_path: Path) -> None:
    ended = run(unshared("--net", sys.executable, "-m", "launch.local", "--nproc", "2", "--", *SMALL), tmp_path, {})
    assert ended.code == 2
    assert ended.err.startswith("error: this machine does not reach itself (127.0.0.1: ")
    assert len(ended.err.splitlines()) == 1


def test_a_typo_is_one_line_however_many_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.local", "--nproc", "99", "--", "train.epoch=3"]
    ended = run(command, tmp_path, {})
    assert ended.code == 2
    assert ended.err.startswith("error: train.epoch=3: unknown key train.epoch. Did you mean train.epochs?")
    assert len(ended.err.splitlines()) == 1


STUCK = """
import os, sys
from signs_dist.console.command import run_command
from signs_dist.data.batches import FileBatches
from signs_dist.train import main

reader, writer = os.pipe()
decode, num_decoded = FileBatches._decode, 0

def decode_or_hang(self, *arguments):
    global num_decoded
    num_decoded += 1
    if num_decoded > 16 + 40:  # 16 for training-images.png
        os.read(reader, 1)  # as from a file server that does not answer
    return decode(self, *arguments)

FileBatches._decode = decode_or_hang
sys.exit(run_command(main))
"""


@pytest.mark.slow
def test_one_process_that_hangs_in_a_read_ends_with_a_card(tmp_path: Path) -> None:
    settings = ("data.storage=files", "data.num_workers=0", "data.timeout_seconds=3", "--run-dir", "run", "--quiet")
    ended = run([sys.executable, "-c", STUCK, *SMALL, *settings], tmp_path, {})
    assert ended.code == 1, ended.last_lines
    card = " ".join(ended.err.split())
    assert re.search(r"error LoadingError: rank 0 waited \d+ s for the images of epoch 1, step 3: this process", card)
    assert "set a larger data.timeout_seconds (it is 3)" in card
    end = json.loads((tmp_path / "run" / "attempts.jsonl").read_text().splitlines()[-1])
    assert end["reason"].startswith("LoadingError: rank 0 waited ")
