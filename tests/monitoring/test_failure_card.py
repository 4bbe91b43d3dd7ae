"""The failure card: what it says, what it takes for the root, and what torchrun makes of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from signs_dist.errors import PeerLostError
from signs_dist.monitoring.beats import Beat, Identity, beat_path
from signs_dist.monitoring.failure_card import (
    WIDTH,
    FailureCard,
    Kind,
    choose_root,
    claim_word,
    clear,
    find_lost_peer,
    find_place,
    hints,
    is_lost_peer,
    killed_card,
    read_failures,
    record,
    render,
    write_error_file,
)
from signs_dist.monitoring.pulse import Pulse

IDENTITY = Identity(2, 4, "node7", 4711, "cuda:2", "runs/a/logs/rank2.log")


def raised(error: ValueError) -> ValueError:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - any
        raise error
    return caught.value


def card(**changes: object) -> FailureCard:
    pulse = Pulse()
    pulse.enter("backward", epoch=3, step=17)
    made = FailureCard.from_exception(raised(ValueError("wrong shape")), IDENTITY, pulse, exit_code=1)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_the_card_says_who_where_what_and_which_log() -> None:
    lines = render(card()).splitlines()
    assert lines[0].startswith("──── signs_dist: rank 2 of 4 failed ─")
    assert lines[1] == " where  node7, cuda:2, in backward, epoch 3, step 17"
    assert lines[2] == " error  ValueError: wrong shape"
    assert lines[3].startswith("    at  ")
    assert "test_failure_card.py:" in lines[3]
    assert lines[4] == "   log  runs/a/logs/rank2.log"
    assert set(lines[5]) == {"─"}


def test_a_card_keeps_its_width_and_shows_no_control_codes() -> None:
    text = render(card(error="E: " + "word " * 900 + "\x1b[31mred\x07", log="/" + "long" * 40))
    assert max(len(line) for line in text.splitlines() if "/long" not in line) <= WIDTH
    assert "/" + "long" * 40 in text  # a path is to be copied
    assert "\x1b" not in text
    assert len(text.splitlines()) < 30


def test_a_single_process_has_no_rank() -> None:
    assert render(card(world_size=1)).startswith("──── signs_dist failed ─")


def test_cards_survive_the_disk(tmp_path: Path) -> None:
    one = card(details=("a", "b"))
    assert FailureCard.from_json(one.to_json()) == one
    record(tmp_path, one, 3)
    (tmp_path / "failure-rank9.json").write_text("{half")
    assert read_failures(tmp_path) == [one]
    assert (tmp_path / "failed.3").exists()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("kinds", "root"),
    [
        ([("lost_peer", 1.0), ("error", 3.0), ("killed", 2.0)], 1),
        ([("lost_peer", 1.0), ("killed", 2.0)], 1),
        ([("error", 5.0), ("error", 3.0)], 1),
        ([], None),
    ],
)
def test_the_root_explains_the_others(kinds: list[tuple[Kind, float]], root: int | None) -> None:
    cards = [card(kind=kind, time=time) for kind, time in kinds]
    assert choose_root(cards) is (cards[root] if root is not None else None)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer"), True),
        (RuntimeError("[/gloo/pair.cc:534] Connection closed by peer [127.0.0.1]:53968"), True),
        (RuntimeError("[…/unbound_buffer.cc:78] Timed out waiting 8000ms for recv operation to complete"), True),
        (RuntimeError("Application timeout caused pair closure"), True),
        (torch.distributed.DistNetworkError("socket closed"), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited or there was a network error"), True),
        (PeerLostError("rank 1 never arrived"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ConnectionResetError("Connection reset by peer"), False),  # of the user's own network use
        (ValueError("timed out waiting"), False),
    ],
)
def test_what_says_only_that_another_has_gone(error: BaseException, is_lost: bool) -> None:
    assert is_lost_peer(error) == is_lost


def test_the_place_is_the_innermost_of_ours() -> None:
    from signs_dist.checkpointing.tensors import put_weights

    with pytest.raises(AttributeError) as caught:
        put_weights(None, {}, Path())  # type: ignore[arg-type]
    assert find_place(caught.value).startswith("signs_dist/models/weights.py:")
    with pytest.raises(RuntimeError) as deep:
        torch.nn.functional.linear(torch.ones(2), torch.ones(3, 3))
    assert "test_failure_card.py:" in find_place(deep.value)
    assert find_place(ValueError("never raised")) == ""


def test_known_errors_come_with_what_to_do() -> None:
    assert "train.micro_batch" in hints(RuntimeError("CUDA out of memory. Tried to allocate"))[0]
    assert "exact=false" in hints(RuntimeError("x does not have a deterministic implementation"))[0]
    assert hints(ValueError("else")) == ()


def write_beat(folder: Path, rank: int, *, phase: str, collective: bool, age: float = 0.0, pid: int = 1) -> None:
    import time

    now = time.time()
    beat = Beat(Identity(rank, 3, "here", pid, "cpu", f"rank{rank}.log"), phase, 2, 9, collective, now - age, now - 7)
    beat_path(folder, rank).write_text(beat.to_json())


@pytest.mark.parametrize(
    ("other", "state", "kind", "error"),
    [
        ({"phase": "forward", "collective": False}, "gone", "killed", "ended without a word"),
        ({"phase": "forward", "collective": False}, "stopped", "lost_peer", "does not answer any more"),
        ({"phase": "forward", "collective": False, "age": 30.0}, "running", "lost_peer", "does not answer any more"),
        ({"phase": "load", "collective": False}, "running", "lost_peer", "did not come to the collective"),
    ],
)
def test_the_suspect_is_found_by_its_heartbeat(
    tmp_path: Path, other: dict[str, object], state: str, kind: str, error: str
) -> None:
    write_beat(tmp_path, 0, phase="sum gradients", collective=True)
    write_beat(tmp_path, 1, pid=55, **other)  # type: ignore[arg-type]
    write_beat(tmp_path, 2, phase="sum gradients", collective=True)
    own = card(rank=0, told_by=0, world_size=3, host="here", kind="lost_peer")
    found = find_lost_peer(tmp_path, own, [], lambda pid: state if pid == 55 else "running")
    assert (found.rank, found.kind, found.told_by, found.log) == (1, kind, 0, "rank1.log")
    assert error in found.error
    assert any("rank 2 waits in a collective (sum gradients, epoch 2 step 9) for 7 s" in row for row in found.details)
    assert "rank 0 waited in backward: ValueError: wrong shape" in found.details[-1]


def test_who_has_told_of_a_loss_and_ended_is_not_the_one_that_was_lost(tmp_path: Path) -> None:
    write_beat(tmp_path, 1, phase="forward", collective=False)
    write_beat(tmp_path, 2, phase="sum gradients", collective=True, pid=55)
    own = card(rank=0, told_by=0, world_size=3, host="here", kind="lost_peer")
    other = card(rank=1, told_by=2, world_size=3, host="here", kind="lost_peer")
    found = find_lost_peer(tmp_path, own, [other], lambda pid: "gone" if pid == 55 else "running")
    assert (found.rank, found.kind) == (1, "lost_peer")
    assert (
        "rank 2 waited in a collective (sum gradients, epoch 2 step 9), and has lost another as well" in found.details
    )


def test_one_process_tells_of_a_loss(tmp_path: Path) -> None:
    assert claim_word(tmp_path)
    assert not claim_word(tmp_path)
    clear(tmp_path)
    assert claim_word(tmp_path)
    assert claim_word(tmp_path / "gone")  # what cannot be written must not hide the card


def test_without_a_suspect_the_card_is_of_the_one_who_tells(tmp_path: Path) -> None:
    write_beat(tmp_path, 1, phase="backward", collective=True)
    own = card(rank=0, told_by=0, world_size=2, host="here", kind="lost_peer")
    assert find_lost_peer(tmp_path, own, [], lambda pid: "running").rank == 0


def test_torchruns_report_shows_the_card_and_the_right_root(tmp_path: Path) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    cards = {0: killed_card(IDENTITY, Pulse()), 1: card(), 2: card(kind="lost_peer")}
    # The killed one's file was written a second before the error: it must not come first.
    cards[0] = dataclasses.replace(cards[0], time=cards[1].time - 1)
    failures = {}
    for rank, each in cards.items():
        path = tmp_path / f"{rank}.json"
        write_error_file(path, each)
        failures[rank] = ProcessFailure(local_rank=rank, pid=1, exitcode=1, error_file=str(path))
    error = ChildFailedError("signs_dist.train", failures)
    assert error.get_first_failure()[0] == 1
    root = str(error)[str(error).index("Root Cause") :]
    assert "  ──── signs_dist: rank 2 of 4 failed ─" in root
    assert "error  ValueError: wrong shape" in root
