"""The collectives, between real processes; and the message of several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from signs_dist.distributed.group import describe_messages, describe_wait, total
from tests.processes import program_command, run_ranks

COLLECTIVES = """
import os
import sys
import time
import torch
import torch.distributed
from signs_dist.distributed.rendezvous import join
from signs_dist.distributed.group import total
from signs_dist.environment.context import read_context
from signs_dist.errors import UserError
from signs_dist.monitoring.pulse import Pulse

pulse = Pulse()
context, cpu = read_context(), torch.device("cpu")
num_threads_before = len(os.listdir("/proc/self/task"))
group = join(context, cpu, rendezvous_seconds=60, timeout_seconds=60, pulse=pulse)
rank = group.rank
assert (group.rank, group.world_size) == (context.rank, 2)
assert pulse.phase == "prepare"
assert group.sum(torch.tensor([1 + rank, 10])).tolist() == [3, 20]
assert group.start_sum(torch.tensor([1.0 + rank])).wait().tolist() == [3.0]

# Rank 0 has one piece, rank 1 has two; row r goes to process r.
pieces = torch.arange(4.0).view(2, 1, 2) if rank == 0 else 10 + torch.arange(8.0).view(2, 2, 2)
own = group.start_exchange(pieces, [1, 2]).wait()
assert own.tolist() == ([[0, 1], [10, 11], [12, 13]] if rank == 0 else [[2, 3], [14, 15], [16, 17]]), own
assert group.start_gather(torch.tensor([1.0 + rank]), torch.empty(2)).wait().tolist() == [1.0, 2.0]

assert group.gather_values({"rank": rank}, "phase") == [{"rank": 0}, {"rank": 1}]
assert group.share_value(rank + 5, "phase") == 5
sums = total({"a": torch.tensor([[1, rank]]), "b": torch.tensor(2)}, group)
assert {name: value.tolist() for name, value in sums.items()} == {"a": [[2, 1]], "b": 4}

assert group.all_succeed(lambda: "result", "phase") == "result"
def fail_on_1():
    if rank == 1:
        raise UserError("no such file")
try:
    group.all_succeed(fail_on_1, "phase")
except UserError as error:
    print(error)
try:
    join(context, cpu, rendezvous_seconds=60, timeout_seconds=60, pulse=pulse)
except UserError as error:
    assert "is in a group of torch.distributed already" in str(error)
    print("joined once")
channel = group.open_channel()
if rank == 1:
    channel.send(torch.tensor([7.0]), 0)
else:
    assert channel.receive(torch.empty(1), 1).tolist() == [7.0]
group.close()
assert not torch.distributed.is_initialized()
deadline = time.monotonic() + 20
while len(os.listdir("/proc/self/task")) > num_threads_before:  # of the channel too, to which this program refers
    assert time.monotonic() < deadline, "threads of the group have not ended"
    time.sleep(0.05)
"""


@pytest.mark.slow
def test_what_processes_send_to_each_other(tmp_path: Path) -> None:
    ended = run_ranks(2, program_command(tmp_path, COLLECTIVES), tmp_path)
    expected = (0, "rank 1: no such file\njoined once\n")
    assert [(one.code, one.out) for one in ended] == [expected, expected], [one.err for one in ended]


def test_one_process_sums_nothing() -> None:
    value = torch.tensor([3])
    assert total({"loss": value}, None)["loss"] is value


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([None, None], ""),
        (["bad", "bad"], "bad"),
        ([None, "no file", "no file"], "ranks 1, 2: no file"),
        (["a", None, "b"], "rank 0: a\nrank 2: b"),
    ],
)
def test_messages_of_several_processes_are_said_once(messages: list[str | None], text: str) -> None:
    assert describe_messages(messages) == text


@pytest.mark.parametrize(
    ("rank", "absent", "expected"),
    [
        (0, [1], "rank 0 of 4 waits for rank 1 (prepare)"),
        (0, [1, 3], "rank 0 of 4 waits for ranks 1, 3 (prepare)"),
        (1, [0], "rank 1 of 4 waits for rank 0 (prepare)"),
        (2, [0], ""),  # rank 1 says it
        (2, [0, 1], "rank 2 of 4 waits for ranks 0, 1 (prepare)"),
        (0, [], "rank 0 of 4 waits for the network: all ranks are there (prepare)"),
    ],
)
def test_one_process_says_for_whom_all_wait(rank: int, absent: list[int], expected: str) -> None:
    assert describe_wait(rank, absent, 4, "prepare") == expected


def test_many_absent_ranks_are_cut_short() -> None:
    assert "18, 19, 20 … (prepare)" in describe_wait(0, range(1, 64), 64, "prepare")


SLOW = """
import time
import torch
from signs_dist.distributed import group as module
from signs_dist.distributed.rendezvous import join
from signs_dist.environment.context import read_context
from signs_dist.monitoring.pulse import Pulse
from signs_dist.monitoring.waiting import WaitWatcher

module.MARK_SECONDS = 0.2
group = join(read_context(), torch.device("cpu"), rendezvous_seconds=60, timeout_seconds=60, pulse=Pulse())
group._watcher = WaitWatcher(print, notice_seconds=0.3)
if group.rank == 1:
    time.sleep(2)  # it draws images
assert group.gather_values(group.rank, "wait for all to prepare") == [0, 1]
group.close()
"""


@pytest.mark.slow
def test_a_slow_process_is_named_and_not_punished(tmp_path: Path) -> None:
    ended = run_ranks(2, program_command(tmp_path, SLOW), tmp_path)
    assert [each.code for each in ended] == [0, 0], ended
    assert "rank 0 of 2 waits for rank 1 (wait for all to prepare) (" in ended[0].out
    assert ended[1].out == ""
