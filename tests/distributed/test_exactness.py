"""What exact mode sets, and that all of it is put back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from signs_dist.distributed.exactness import choose_cublas_workspace, exact_arithmetic, threads_kept

VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "TORCHINDUCTOR_DETERMINISTIC")


def settings() -> dict[str, Any]:
    """All that exact mode sets."""
    deterministic: Any = torch.utils.deterministic
    return {
        "mode": torch.get_deterministic_debug_mode(),
        "fill": deterministic.fill_uninitialized_memory,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "threads": torch.get_num_threads(),
        **{name: os.environ.get(name) for name in VARIABLES},
    }


EXACT = {
    "mode": 2,
    "fill": False,
    "cudnn.benchmark": False,
    "cudnn.deterministic": True,
    "threads": 1,
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "TORCHINDUCTOR_DETERMINISTIC": "1",
}


@pytest.fixture
def other_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A caller who has set everything to something else."""
    deterministic: Any = torch.utils.deterministic
    threads = torch.get_num_threads()
    torch.set_deterministic_debug_mode("warn")
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(2)
    monkeypatch.setenv("TORCHINDUCTOR_DETERMINISTIC", "0")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield settings()
    torch.set_deterministic_debug_mode("default")
    deterministic.fill_uninitialized_memory = True
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, False
    torch.set_num_threads(threads)


def test_everything_is_set_and_put_back(other_settings: dict[str, Any]) -> None:
    assert all(other_settings[name] != EXACT[name] for name in EXACT if name != "cudnn.deterministic")
    with exact_arithmetic():
        assert settings() == EXACT
    assert settings() == other_settings


def test_everything_is_put_back_after_an_error(other_settings: dict[str, Any]) -> None:
    with pytest.raises(KeyError), exact_arithmetic(num_threads=1):
        raise KeyError
    assert settings() == other_settings


def test_blocks_within_each_other(other_settings: dict[str, Any]) -> None:
    with exact_arithmetic():
        with exact_arithmetic(num_threads=2):
            assert settings() == EXACT | {"threads": 2}
        assert settings() == EXACT
    assert settings() == other_settings


def test_an_operation_without_a_deterministic_kernel_is_refused_within_the_block_only() -> None:
    def fill() -> None:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))

    fill()
    with exact_arithmetic(), pytest.raises(RuntimeError, match=r"put_.* does not have a deterministic implementation"):
        fill()
    fill()


def test_a_compiler_that_was_imported_within_the_block_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Config:
        deterministic = True  # as it reads the environment within the block

    with exact_arithmetic():
        monkeypatch.setitem(__import__("sys").modules, "torch._inductor.config", Config)
    assert Config.deterministic is False
    with exact_arithmetic():
        assert Config.deterministic is True
    assert Config.deterministic is False


def test_a_workspace_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    choose_cublas_workspace()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_number_of_threads_is_kept() -> None:
    before = torch.get_num_threads()
    with threads_kept(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
