from __future__ import annotations

import itertools

import pytest

from signs_dist.config.settings import ScheduleConfig
from signs_dist.learning.schedule import learning_rate_factor

TOTAL, EPOCH = 1000, 100  # 10 epochs of 100 images


def factor(config: ScheduleConfig, images_seen: int) -> float:
    return learning_rate_factor(config, images_seen=images_seen, images_total=TOTAL, images_per_epoch=EPOCH)


@pytest.mark.parametrize(
    ("config", "images_seen", "expected"),
    [
        (ScheduleConfig(name="constant"), 0, 1),
        (ScheduleConfig(name="constant"), 999, 1),
        (ScheduleConfig(name="constant", warmup_epochs=2), 0, 0),
        (ScheduleConfig(name="constant", warmup_epochs=2), 50, 0.25),
        (ScheduleConfig(name="constant", warmup_epochs=2), 200, 1),
        (ScheduleConfig(name="step", step_epochs=3, step_factor=0.1), 299, 1),
        (ScheduleConfig(name="step", step_epochs=3, step_factor=0.1), 300, 0.1),
        (ScheduleConfig(name="step", step_epochs=3, step_factor=0.1), 600, 0.01),
        (ScheduleConfig(name="step", step_epochs=3, step_factor=0.1, warmup_epochs=1), 50, 0.5),
        (ScheduleConfig(name="step", step_epochs=3, step_factor=0.1, warmup_epochs=1), 300, 0.1),
        (ScheduleConfig(name="cosine"), 0, 1),
        (ScheduleConfig(name="cosine"), 500, 0.5),
        (ScheduleConfig(name="cosine"), 1000, 0),
        (ScheduleConfig(name="cosine", final_factor=0.2), 500, 0.6),
        (ScheduleConfig(name="cosine", final_factor=0.2), 1000, 0.2),
        (ScheduleConfig(name="cosine", warmup_epochs=2), 100, 0.5),
        (ScheduleConfig(name="cosine", warmup_epochs=2), 200, 1),
        (ScheduleConfig(name="cosine", warmup_epochs=2), 600, 0.5),
        (ScheduleConfig(), 0, 0.04),
        (ScheduleConfig(), 150, 0.52),
        (ScheduleConfig(), 300, 1),
        (ScheduleConfig(), 650, 0.5),
        (ScheduleConfig(), 1000, 0),
        (ScheduleConfig(final_factor=0.1, peak_at=0.5, start_factor=0), 0, 0),
        (ScheduleConfig(final_factor=0.1, peak_at=0.5, start_factor=0), 500, 1),
        (ScheduleConfig(final_factor=0.1, peak_at=0.5, start_factor=0), 1000, 0.1),
    ],
)
def test_factor(config: ScheduleConfig, images_seen: int, expected: float) -> None:
    assert factor(config, images_seen) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["constant", "step", "cosine", "one_cycle"])
def test_past_the_end_is_the_end_and_before_the_start_is_the_start(name: str) -> None:
    config = ScheduleConfig.model_validate({"name": name})
    assert factor(config, TOTAL + 500) == factor(config, TOTAL)
    assert factor(config, -1) == factor(config, 0)


def test_a_warmup_as_long_as_the_run_never_divides_by_zero() -> None:
    config = ScheduleConfig(name="cosine", warmup_epochs=50)
    assert factor(config, 500) == 0.5
    assert factor(config, TOTAL) == 0


@pytest.mark.parametrize(
    ("step_epochs", "images_per_epoch", "num_drops", "images_seen"),
    [(0.3, 10, 1, 3), (1.1, 100, 1, 110), (1.1, 864, 5, 4752), (0.1, 864, 15, 1296)],
)
def test_drops_fall_on_the_image_that_ends_their_epochs(
    step_epochs: float, images_per_epoch: int, num_drops: int, images_seen: int
) -> None:
    config = ScheduleConfig(name="step", step_epochs=step_epochs, step_factor=0.5)
    before, at = (
        learning_rate_factor(config, images_seen=seen, images_total=10**6, images_per_epoch=images_per_epoch)
        for seen in (images_seen - 1, images_seen)
    )
    assert (before, at) == (0.5 ** (num_drops - 1), 0.5**num_drops)


@pytest.mark.parametrize("peak_at", [0.1, 0.3, 0.9])
def test_one_cycle_rises_to_its_peak_then_falls(peak_at: float) -> None:
    config = ScheduleConfig(peak_at=peak_at)
    factors = [factor(config, seen) for seen in range(0, TOTAL + 1, 10)]
    peak = factors.index(max(factors))
    assert peak == round(peak_at * 100)
    assert all(first < second for first, second in itertools.pairwise(factors[: peak + 1]))
    assert all(first > second for first, second in itertools.pairwise(factors[peak:]))
