"""What an exception means: its place, hints, and lost peers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from signs_dist.errors import PeerLostError
from signs_dist.monitoring.diagnosis import find_place, hints, is_lost_peer


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
def test_which_errors_mean_a_lost_peer(error: BaseException, is_lost: bool) -> None:
    assert is_lost_peer(error) == is_lost


def test_the_place_is_the_innermost_frame_of_this_package() -> None:
    from signs_dist.checkpointing.tensors import put_weights

    with pytest.raises(AttributeError) as caught:
        put_weights(None, {}, Path())  # type: ignore[arg-type]
    assert find_place(caught.value).startswith("signs_dist/models/weights.py:")
    with pytest.raises(RuntimeError) as deep:
        torch.nn.functional.linear(torch.ones(2), torch.ones(3, 3))
    assert "test_diagnosis.py:" in find_place(deep.value)
    assert find_place(ValueError("never raised")) == ""


def test_known_errors_come_with_what_to_do() -> None:
    assert "train.micro_batch" in hints(RuntimeError("CUDA out of memory. Tried to allocate"))[0]
    assert "exact=false" in hints(RuntimeError("x does not have a deterministic implementation"))[0]
    assert "remove or freeze" in hints(RuntimeError("Expected to have finished reduction in the prior iteration"))[0]
    assert "train.micro_batch" in hints(ValueError("Expected more than 1 value per channel when training"))[0]
    assert "TMPDIR=/tmp" in hints(OSError("AF_UNIX path too long"))[0]
    assert "open files of a process" in hints(OSError(24, "Too many open files"))[0]
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert "data.num_workers" in hints(killed)[0]
    assert hints(ValueError("else")) == ()
