"""One process on one device, and the choice of the device as a table."""

from __future__ import annotations

import pytest
import torch

from signs_dist.errors import UserError
from signs_dist.strategy import SingleProcess, choose_device, describe_device


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(
    ("requested", "num_gpus", "expected"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda:0"),
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda:0"),
        ("cuda:0", 1, "cuda:0"),
        ("cuda:1", 2, "cuda:1"),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, requested: str, num_gpus: int, expected: str) -> None:
    pretend_gpus(monkeypatch, num_gpus)
    assert str(choose_device(requested)) == expected


@pytest.mark.parametrize(
    ("requested", "num_gpus", "told"),
    [
        ("cuda", 0, "--device cuda: this process has no such GPU; it sees no GPU. Type --device auto."),
        ("cuda:2", 2, "--device cuda:2: this process has no such GPU; it sees cuda:0 to cuda:1. Type --device auto."),
        ("gpu", 2, "--device gpu: it is auto, cpu, cuda or cuda:N, such as cuda:0."),
        *(
            (word, 2, "it is auto, cpu, cuda or cuda:N")
            for word in (
                "",
                "cuda:",
                "cuda:-1",
                "cuda:x",
                "cuda:²",
                "cuda:1,2",
                "CUDA",
                "cpu:0",
                "cuda:0\n",
                "mps",
                "0",
            )
        ),
    ],
)
def test_what_is_no_device_is_refused(
    monkeypatch: pytest.MonkeyPatch, requested: str, num_gpus: int, told: str
) -> None:
    pretend_gpus(monkeypatch, num_gpus)
    with pytest.raises(UserError) as caught:
        choose_device(requested)
    assert told in str(caught.value)


def test_one_process_has_all_of_the_data() -> None:
    strategy = SingleProcess(torch.device("cpu"))
    assert (strategy.name, strategy.world_size, strategy.is_main) == ("single", 1, True)
    assert (strategy.shard.index, strategy.shard.count) == (0, 1)
    network = torch.nn.Linear(2, 2)
    assert strategy.prepare(network) is network
    totals = strategy.total({"loss": torch.tensor(1.5), "counts": torch.tensor([[1, 2], [3, 4]])})
    assert totals["loss"] == 1.5
    assert totals["counts"].tolist() == [[1, 2], [3, 4]]
    assert describe_device(strategy.device) == "cpu"
