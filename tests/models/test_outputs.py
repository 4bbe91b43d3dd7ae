"""What a network must return is said before it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from signs_dist.errors import UserError
from signs_dist.models.outputs import describe_output, require_logits, require_own_names
from signs_dist.models.trainable import require_trainable


class Returning(nn.Module):
    """A network that returns what a function makes of its logits."""

    def __init__(self, change: Callable[[Tensor], Any], num_outputs: int = 10) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, num_outputs)
        self.change = change

    def forward(self, images: Tensor) -> Any:
        self.norm.running_mean += 1  # type: ignore[operator]
        return self.change(self.head(self.norm(images).mean(dim=(2, 3))))


def fail(logits: Tensor) -> Any:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda logits: logits[:, :7], "has 7 outputs, and the data 10 classes. Let its last layer have `num_classes`"),
        (lambda logits: torch.cat([logits, logits], dim=1), "has 20 outputs, and the data 10 classes"),
        (
            lambda logits: (logits, logits),
            "returns a tuple. It must return one tensor of logits, floating [2, 10] for 2",
        ),
        (lambda logits: [logits], "returns a list."),
        (lambda logits: {"logits": logits}, "returns a dict."),
        (lambda logits: None, "returns nothing (None)."),
        (lambda logits: logits.argmax(dim=1), "returns a tensor [2]."),
        (lambda logits: logits[0], "returns a tensor [10]."),
        (lambda logits: logits[:1], "returns a tensor [1, 10]."),
        (lambda logits: logits[:, :, None, None], "returns a tensor [2, 10, 1, 1]."),
        (lambda logits: logits.sum(), "returns a tensor []."),
        (lambda logits: logits.long(), "returns int64."),
        (lambda logits: logits.to(torch.complex64), "returns complex64."),
        (lambda logits: logits.detach().numpy(), "returns a ndarray."),
        (fail, "fails for images [2, 3, 8, 8]: RuntimeError: mat1 and mat2 shapes cannot be multiplied at "),
    ],
)
def test_another_output_is_refused(change: Callable[[Tensor], Any], told: str) -> None:
    with pytest.raises(UserError) as refused:
        require_logits(Returning(change), "mynet:Net", num_classes=10, image_size=8)
    assert str(refused.value).startswith(f"model.name=mynet:Net {told}")


def test_a_network_is_left_as_it_was() -> None:
    network = Returning(lambda logits: nn.functional.dropout(logits, training=True))
    network.norm.eval()
    generator = torch.random.get_rng_state()
    require_logits(network, "mynet:Net", num_classes=10, image_size=8)
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert (network.training, network.norm.training) == (True, False)
    assert network.norm.running_mean is not None
    assert network.norm.running_mean.tolist() == [0, 0, 0]
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_any_floating_type_will_do(dtype: torch.dtype) -> None:
    assert describe_output(torch.zeros(3, 4, dtype=dtype), 3, 4) == ""
    autocast = torch.autocast("cpu", torch.bfloat16)
    require_logits(Returning(lambda logits: logits), "a:B", num_classes=10, image_size=8, autocast=autocast)


def test_what_has_no_memory_left_is_no_fault_of_the_network() -> None:
    def run_out(logits: Tensor) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        require_logits(Returning(run_out), "a:B", num_classes=10, image_size=8)


def test_two_weights_of_one_name_are_refused() -> None:
    inner = nn.Linear(2, 2)
    network = nn.Sequential()
    network.module = nn.Linear(2, 2)
    require_own_names(network, "a:B")
    network.weight = inner.weight
    with pytest.raises(UserError, match=r"model\.name=a:B has both weight and module\.weight among its weights"):
        require_own_names(network, "a:B")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (nn.Flatten(), "the model has no parameters, so there is nothing to train"),
        (nn.Linear(2, 3).requires_grad_(False), "all 9 parameters of the model are frozen"),
        (nn.Sequential(nn.LazyLinear(3)), r"the size of 0\.weight is not known before the first image"),
    ],
)
def test_a_network_that_cannot_train_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(UserError, match=told):
        require_trainable(network)
