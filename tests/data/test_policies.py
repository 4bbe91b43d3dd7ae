from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data import policies
from signs_dist.data.photo_operations import OPERATIONS
from signs_dist.data.policies import NUM_MAGNITUDES, SIGNED, Policy, magnitudes_of
from tests.data.chi_square import chi_square, chi_square_limit
from tests.data.test_photo_operations import POLICIES


@pytest.mark.parametrize("policy", POLICIES)
def test_operations_and_magnitudes_are_torchvisions(policy: str) -> None:
    theirs = POLICIES[policy]._AUGMENTATION_SPACE  # type: ignore[attr-defined]
    assert list(OPERATIONS) == list(theirs)
    assert sorted(SIGNED) == sorted(name for name, (_, is_signed) in theirs.items() if is_signed)
    for name, (table, _) in theirs.items():
        expected = table(NUM_MAGNITUDES, 48, 64)
        if expected is not None:
            assert magnitudes_of(policy, 48, 64)[name] == pytest.approx(expected.double().numpy(), abs=1e-5), name


Applied = list[tuple[str, list[int], list[float]]]


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> Applied:
    """What is applied: name, the numbers of the images (their only value), magnitudes."""
    calls: Applied = []

    def recording(name: str) -> Any:
        def apply(images: Tensor, magnitudes: np.ndarray[Any, Any]) -> Tensor:
            calls.append((name, (images[:, 0, 0, 0] * 10_000).round().int().tolist(), magnitudes.tolist()))
            return images

        return apply

    monkeypatch.setattr(policies, "OPERATIONS", {name: recording(name) for name in OPERATIONS})
    return calls


def numbered(count: int) -> Tensor:
    return (torch.arange(count) / 10_000).reshape(-1, 1, 1, 1).expand(-1, 3, 8, 8)


def test_randaugment_applies_so_many_operations_of_one_strength(applied: Applied) -> None:
    config = AugmentConfig(policy="randaugment", num_ops=3, magnitude=12)
    Policy(config, 0)(numbered(4000), np.arange(4000), 0)
    tables = magnitudes_of("randaugment", 8, 8)
    per_operation = dict.fromkeys(OPERATIONS, 0)
    for name, images, magnitudes in applied:
        per_operation[name] += len(images)
        assert set(np.abs(magnitudes)) == {tables[name][12]}
        negative = sum(magnitude < 0 for magnitude in magnitudes)
        if name in SIGNED:
            assert negative == pytest.approx(len(images) / 2, abs=5 * (len(images) / 4) ** 0.5)
        else:
            assert negative == 0
    per_operation["Identity"] = 3 * 4000 - sum(per_operation.values())  # it is not called
    assert chi_square(np.array(list(per_operation.values())), 3 * 4000 / 14) < chi_square_limit(13)


def test_trivialaugment_applies_one_operation_of_any_strength(applied: Applied) -> None:
    Policy(AugmentConfig(policy="trivialaugment", num_ops=5), 0)(numbered(4000), np.arange(4000), 0)
    images = [image for _, numbers, _ in applied for image in numbers]
    assert len(images) == len(set(images))
    table = magnitudes_of("trivialaugment", 8, 8)["Solarize"].tolist()
    drawn = next(magnitudes for name, _, magnitudes in applied if name == "Solarize")
    counts = np.bincount([table.index(magnitude) for magnitude in drawn], minlength=NUM_MAGNITUDES)
    assert chi_square(counts, len(drawn) / NUM_MAGNITUDES) < chi_square_limit(NUM_MAGNITUDES - 1)


def test_epoch_seed_and_sample_each_change_the_result_and_the_given_images_stay() -> None:
    config = AugmentConfig(policy="trivialaugment")
    images = torch.rand(1, 3, 16, 16).expand(40, -1, -1, -1).contiguous()
    untouched = images.clone()
    result = Policy(config, 0)(images, np.arange(40), 0)
    assert torch.equal(images, untouched)
    assert len({tuple(image.flatten().tolist()) for image in result}) > 20
    for other in (
        Policy(config, 0)(images, np.arange(40), 1),
        Policy(config, 1)(images, np.arange(40), 0),
        Policy(config, 0)(images, np.arange(40) + 40, 0),
    ):
        assert not torch.equal(result, other)
    assert torch.equal(Policy(config, 0)(images, np.arange(40), 0), result)
