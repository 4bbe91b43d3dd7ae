from __future__ import annotations

import pytest
import torch
from torch import nn

from signs_dist.models.on_meta import EmptyOnMeta, describe_refusal, forward_on_meta


def test_only_what_is_empty_goes_there() -> None:
    with EmptyOnMeta():
        assert nn.Linear(2, 2).weight.is_meta
        assert not torch.linspace(0, 1, 3).is_meta


def test_a_size_that_does_not_suit_raises_without_numbers() -> None:
    with EmptyOnMeta():
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    forward_on_meta(model, 8)
    with pytest.raises(RuntimeError):
        forward_on_meta(model, 9)


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("too small.\nmore"), "too small"), (AssertionError(), "AssertionError")]
)
def test_a_refusal_is_one_line(error: Exception, text: str) -> None:
    assert describe_refusal(error) == text
