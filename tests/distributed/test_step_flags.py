"""When the host reads the flags of a step."""

from __future__ import annotations

import pytest
import torch

from signs_dist.distributed.step_flags import LateFlags, PromptFlags, make_flags

GPU = torch.device("cuda", 0)


def test_prompt_flags_are_those_of_the_step() -> None:
    flags = PromptFlags()
    assert flags.publish(torch.tensor([1.0, 0.0, 2.0])) == [1, 0, 2]
    assert flags.flush() == [0, 0, 0]


@pytest.mark.parametrize(
    ("device", "prompt", "kind"),
    [(torch.device("cpu"), False, PromptFlags), (GPU, False, LateFlags), (GPU, True, PromptFlags)],
)
def test_only_a_gpu_that_need_not_be_waited_for_is_read_late(device: torch.device, prompt: bool, kind: type) -> None:
    assert type(make_flags(device, prompt=prompt)) is kind


def test_late_flags_are_those_of_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def record(self) -> None: ...
        def synchronize(self) -> None: ...

    real_empty = torch.empty
    monkeypatch.setattr("signs_dist.distributed.step_flags.torch.cuda.Event", Event)
    monkeypatch.setattr("signs_dist.distributed.step_flags.torch.empty", lambda *size, pin_memory: real_empty(*size))
    flags = LateFlags()
    assert flags.publish(torch.tensor([1.0, 0.0, 0.0])) == [0, 0, 0]
    assert flags.publish(torch.tensor([0.0, 2.0, 3.0])) == [1, 0, 0]
    assert flags.flush() == [0, 2, 3]
    assert flags.flush() == [0, 0, 0]
