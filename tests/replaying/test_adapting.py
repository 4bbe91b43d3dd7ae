"""What a machine cannot compute is replaced, and told."""

from __future__ import annotations

import pytest

from signs_dist.config.reading import load_config
from signs_dist.learning.precision import Capability
from signs_dist.replaying.adapting import adapt

CPU, OLD_GPU, GPU = Capability("cpu", False), Capability("cuda", False), Capability("cuda", True)


@pytest.mark.parametrize(
    ("setting", "capability", "world_size", "after", "told"),
    [
        ("train.precision=float16", CPU, 1, ("float32", False, "none"), "does not compute train.precision=float16"),
        ("train.precision=float16", GPU, 1, ("float16", False, "none"), None),
        ("train.precision=bfloat16", CPU, 1, ("bfloat16", False, "none"), None),
        (
            "train.precision=bfloat16",
            OLD_GPU,
            1,
            ("float32", False, "none"),
            "does not compute train.precision=bfloat16",
        ),
        ("train.sync_batchnorm=true", CPU, 4, ("auto", False, "none"), "over the 4 GPUs of the run"),
        ("train.sync_batchnorm=true", GPU, 2, ("auto", False, "none"), "over the 4 GPUs of the run"),
        ("train.sync_batchnorm=true", GPU, 4, ("auto", True, "none"), None),
        ("train.gradient_compression=bfloat16", GPU, 4, ("auto", False, "none"), "the run sent its gradients by"),
        ("train.epochs=2", CPU, 1, ("auto", False, "none"), None),
    ],
)
def test_what_changes(
    setting: str, capability: Capability, world_size: int, after: tuple[object, ...], told: str | None
) -> None:
    config = load_config(None, [setting])
    adapted, notes = adapt(config, capability, world_size=world_size, world_size_of_run=4)
    train = adapted.train
    assert (train.precision, train.sync_batchnorm, train.gradient_compression) == after
    assert (told is None) == (notes == []) == (adapted is config)
    assert told is None or told in notes[0]
