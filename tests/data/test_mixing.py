from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data import mixing
from signs_dist.data.mixing import BatchMixer, mixes, require_partners
from signs_dist.errors import UserError
from tests.data.chi_square import chi_square, chi_square_limit

DRAWS = ("is_mixed", "is_cut", "share", "centre_y", "centre_x")


def mixer(micro_batch: int = 4, seed: int = 0, num_classes: int = 3, **settings: Any) -> BatchMixer:
    return BatchMixer(AugmentConfig(**settings), seed, num_classes=num_classes, micro_batch=micro_batch)


def photos(count: int, height: int = 12, width: int = 20) -> Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0))


def set_draws(monkeypatch: pytest.MonkeyPatch, **draws: float) -> None:
    row = np.array([draws.get(name, 0.5) for name in DRAWS], np.float32)
    monkeypatch.setattr(mixing, "uniform", lambda key, samples, num_draws: np.tile(row, (len(samples), 1)))


def test_mixup_blends_each_image_and_label_with_the_next_of_its_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, share=0.25)  # Beta(1, 1) is uniform
    images, labels = photos(6), torch.tensor([0, 1, 2, 2, 1, 1])
    mixed, shares = mixer(micro_batch=3, mixup=1.0)(images, labels, np.arange(6), 0)
    partners = [1, 2, 0, 4, 5, 3]
    torch.testing.assert_close(mixed, 0.75 * images + 0.25 * images[partners])
    expected = [[0.75, 0.25, 0], [0, 0.75, 0.25], [0.25, 0, 0.75], [0, 0.25, 0.75], [0, 1, 0], [0, 0.75, 0.25]]
    torch.testing.assert_close(shares, torch.tensor(expected), atol=1e-6, rtol=0)


def test_cutmix_takes_a_box_from_the_next_image_and_counts_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, share=0.75)  # a quarter of the area: half of each side
    images, labels = photos(2), torch.tensor([0, 1])
    mixed, shares = mixer(micro_batch=2, cutmix=1.0)(images, labels, np.arange(2), 0)
    box = torch.zeros(12, 20, dtype=torch.bool)
    box[3:9, 5:15] = True
    assert torch.equal(mixed[0], torch.where(box, images[1], images[0]))
    assert torch.equal(mixed[1], torch.where(box, images[0], images[1]))
    assert shares.tolist() == [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0]]


def test_a_box_at_the_edge_is_smaller_and_counts_less(monkeypatch: pytest.MonkeyPatch) -> None:
    set_draws(monkeypatch, share=0.75, centre_x=0.0, centre_y=0.0)
    images = photos(2)
    mixed, shares = mixer(micro_batch=2, cutmix=1.0)(images, torch.tensor([0, 1]), np.arange(2), 0)
    assert torch.equal(mixed[0, :, :3, :5], images[1, :, :3, :5])
    assert torch.equal(mixed[0, :, 3:], images[0, :, 3:])
    assert shares[0].tolist() == pytest.approx([1 - 15 / 240, 15 / 240, 0])


def test_an_image_is_mixed_alike_in_any_batch_of_whole_micro_batches() -> None:
    images, labels, samples = photos(12), torch.arange(12) % 3, np.arange(12) * 7
    for settings in ({"mixup": 0.2}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0, "mix_probability": 0.7}):
        mix = mixer(**settings)
        whole, shares = mix(images, labels, samples, 2)
        assert not torch.equal(whole, images)
        for layout in (torch.contiguous_format, torch.channels_last):
            given = images.contiguous(memory_format=layout)
            for part in (slice(0, 4), slice(4, 12), slice(8, 12)):
                mixed, own = mix(given[part], labels[part], samples[part], 2)
                assert torch.equal(mixed, whole[part])
                assert torch.equal(own, shares[part])


def test_epoch_seed_and_sample_each_change_the_result_and_the_given_images_stay() -> None:
    images, labels, untouched = photos(8), torch.arange(8) % 3, photos(8)
    results = [
        mixer(seed=seed, mixup=1.0)(images, labels, np.arange(8) + first, epoch)[0]
        for seed, first, epoch in ((0, 0, 0), (1, 0, 0), (0, 8, 0), (0, 0, 1))
    ]
    assert len({tuple(result.flatten().tolist()) for result in results}) == 4
    assert torch.equal(images, untouched)


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.4, 1.0, 2.0, 10.0, 100.0])
def test_shares_have_a_beta_distribution(alpha: float) -> None:
    draws = (np.arange(20_000) + 0.5) / 20_000
    shares = np.sort(mixing._beta(alpha, draws))
    assert shares[0] >= 0
    assert shares[-1] <= 1
    expected = np.sort(np.random.default_rng(0).beta(alpha, alpha, 20_000))
    assert np.abs(shares - expected)[50:-50].max() < (0.03 if alpha >= 1 else 0.06)
    assert shares.mean() == pytest.approx(0.5, abs=1e-3)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=5e-3)


def test_half_of_the_mixed_images_are_cut_where_both_are_on() -> None:
    images = torch.zeros(4000, 3, 8, 8)
    images[::2] = 1
    mix = mixer(micro_batch=2, mixup=1.0, cutmix=1.0, mix_probability=0.5)
    mixed, shares = mix(images, torch.arange(4000) % 2, np.arange(4000), 0)
    is_mixed = shares.max(dim=1).values < 1
    is_blend = ((mixed > 0) & (mixed < 1)).flatten(1).any(dim=1)
    num_blends, num_cuts = int(is_blend.sum()), int((is_mixed & ~is_blend).sum())
    # A cut box may be empty: a twentieth of them here.
    assert num_blends == pytest.approx(1000, abs=5 * 27)
    assert num_cuts == pytest.approx(950, abs=150)
    shares_of_blends = shares[is_blend].gather(1, (torch.arange(4000) % 2)[is_blend][:, None])[:, 0].double().numpy()
    assert shares_of_blends.min() >= 0.5
    counts = np.bincount(((shares_of_blends - 0.5) * 40).astype(np.int64), minlength=20)
    assert chi_square(counts, num_blends / 20) < chi_square_limit(19)


def test_shares_sum_to_1() -> None:
    _, shares = mixer(mixup=0.2, cutmix=1.0)(photos(8), torch.arange(8) % 3, np.arange(8), 0)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(8))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"mixup": 0.2}, True),
        ({"cutmix": 1.0}, True),
        ({"mixup": 0.2, "mix_probability": 0.0}, False),
    ],
)
def test_what_mixes_needs_partners(settings: dict[str, float], expected: bool) -> None:
    config = AugmentConfig(**settings)  # type: ignore[arg-type]
    assert mixes(config) == expected
    require_partners(config, 2)
    if not expected:
        require_partners(config, 1)
        return
    with pytest.raises(UserError, match=r"augment\.(mixup=0\.2|cutmix=1) mixes .* Type train\.micro_batch=2 or more"):
        require_partners(config, 1)
