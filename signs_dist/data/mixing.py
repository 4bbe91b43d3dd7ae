"""MixUp and CutMix: each training image is mixed with the next one of its micro-batch, and so are their labels.

How an image is mixed depends on (seed, epoch, sample). Its partner is in its micro-batch, which no process shares with
another: the result is the same on any number of processes.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from signs_dist.config.settings import AugmentConfig
from signs_dist.data.batch_pixels import Numbers, on_device
from signs_dist.data.order import Indices
from signs_dist.data.randomness import Stream, stream_key, uniform
from signs_dist.errors import UserError

_IS_MIXED, _IS_CUT, _SHARE, _CENTRE_Y, _CENTRE_X, _NUM_DRAWS = range(6)
NUM_QUANTILES = 4096


def mixes(config: AugmentConfig) -> bool:
    """Whether images are mixed."""
    return (config.mixup > 0 or config.cutmix > 0) and config.mix_probability > 0


def require_partners(config: AugmentConfig, micro_batch: int) -> None:
    """Raise `UserError` if images are to be mixed, and a micro-batch is a single image."""
    if mixes(config) and micro_batch == 1:
        name = "mixup" if config.mixup > 0 else "cutmix"
        raise UserError(
            f"augment.{name}={getattr(config, name):g} mixes each image with another one of its micro-batch, and a "
            f"micro-batch is 1 image. Type train.micro_batch=2 or more, use fewer processes, or type "
            f"augment.mixup=0 augment.cutmix=0"
        )


class BatchMixer:
    """MixUp (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019) of augmented images.

    Args:
        config: the augment section.
        seed: the run's seed.
        num_classes: C.
        micro_batch: images of a micro-batch, at least 2.
    """

    def __init__(self, config: AugmentConfig, seed: int, *, num_classes: int, micro_batch: int) -> None:
        self.micro_batch = micro_batch
        self._config = config
        self._seed = seed
        self._num_classes = num_classes

    def __call__(self, images: Tensor, labels: Tensor, samples: Indices, epoch: int) -> tuple[Tensor, Tensor]:
        """Mix whole micro-batches, one after the other.

        Args:
            images: float32 [B, C, H, W]. They are not modified.
            labels: int64 [B], on the same device.
            samples: sample numbers, int64 [B], on the host.
            epoch: the epoch.

        Returns:
            (mixed images, the share of each class float32 [B, C]).
        """
        assert len(images) % self.micro_batch == 0
        mixture = self._draw(samples, epoch, *images.shape[2:])
        partners = torch.from_numpy(self._partners(len(images))).to(images.device, non_blocking=True)
        weights = _weights(mixture, images)
        own = on_device(mixture.shares, images)[:, :, 0, 0]  # [B, 1]
        one_hot = F.one_hot(labels, self._num_classes).to(torch.float32)  # [B, C]
        mixed = images * weights + images[partners] * (1 - weights)
        return mixed, one_hot * own + one_hot[partners] * (1 - own)

    def _draw(self, samples: Indices, epoch: int, height: int, width: int) -> _Mixture:
        draws = uniform(stream_key(self._seed, Stream.MIX, epoch), samples, _NUM_DRAWS).astype(np.float64)
        is_cut = draws[:, _IS_CUT] < _share_of_cuts(self._config)
        blend, cut = (_beta(alpha, draws[:, _SHARE]) for alpha in (self._config.mixup, self._config.cutmix))
        # An image has the larger share of its blend. Else some photos would be seen twice, and others hardly.
        shares = np.where(is_cut, cut, np.maximum(blend, 1 - blend))
        shares[draws[:, _IS_MIXED] >= self._config.mix_probability] = 1.0
        rows, columns = _box(shares, draws[:, _CENTRE_Y], height), _box(shares, draws[:, _CENTRE_X], width)
        areas = (rows[1] - rows[0]) * (columns[1] - columns[0])
        return _Mixture(np.where(is_cut, 1 - areas / (height * width), shares), is_cut, rows, columns)

    def _partners(self, num_images: int) -> Indices:
        """The position of each image's partner, int64 [B]: the next one of its micro-batch, of the last the first."""
        first, place = np.divmod(np.arange(num_images, dtype=np.int64), self.micro_batch)
        partners: Indices = first * self.micro_batch + (place + 1) % self.micro_batch
        return partners


@dataclasses.dataclass(frozen=True)
class _Mixture:
    """How each of B images is mixed.

    Attributes:
        shares: of the image itself, float64 [B].
        is_cut: whether a box of it comes from the partner, bool [B]; else all of it is blended.
        rows, columns: first and last (exclusive) pixel of the box, each int64 [B].
    """

    shares: Numbers
    is_cut: npt.NDArray[np.bool_]
    rows: tuple[Indices, Indices]
    columns: tuple[Indices, Indices]


def _weights(mixture: _Mixture, like: Tensor) -> Tensor:
    """The share of the image itself in its pixels, float32 [B, 1, 1, 1], or where boxes are cut [B, 1, H, W]."""
    shares = on_device(mixture.shares, like)
    if not mixture.is_cut.any():
        return shares
    height, width = like.shape[2:]
    by_row, by_column = _is_within(mixture.rows, height, like), _is_within(mixture.columns, width, like)
    inside = by_row[:, None, :, None] & by_column[:, None, None, :]
    return torch.where(on_device(mixture.is_cut, like), 1 - inside.to(torch.float32), shares)


def _share_of_cuts(config: AugmentConfig) -> float:
    """The probability that a mixed image is cut: half where both are on."""
    return (config.cutmix > 0) / ((config.cutmix > 0) + (config.mixup > 0))


def _box(shares: Numbers, draws: Numbers, side: int) -> tuple[Indices, Indices]:
    """First and last (exclusive) pixel along one axis of boxes with 1 - share of the area, clipped to the image."""
    centres, halves = np.floor(draws * side), np.floor(np.sqrt(1 - shares) * side / 2)
    start, end = (np.clip(centres + sign * halves, 0, side).astype(np.int64) for sign in (-1, 1))
    return start, end


def _is_within(bounds: tuple[Indices, Indices], side: int, like: Tensor) -> Tensor:
    """Whether a pixel is in its image's interval, bool [B, side]."""
    numbers = torch.arange(side, device=like.device)
    start, end = (on_device(values, like)[:, 0, 0] for values in bounds)  # [B, 1]
    return (numbers >= start) & (numbers < end)


def _beta(alpha: float, draws: Numbers) -> Numbers:
    """Numbers of a Beta(alpha, alpha) distribution from uniform draws; ones where alpha is 0."""
    if alpha == 0:
        return np.ones_like(draws)
    levels, quantiles = _beta_quantiles(alpha)
    # Interpolated one by one: a vectorised power may round differently at another position in the batch.
    lower = np.interp(np.minimum(draws, 1 - draws), levels, quantiles)
    return np.where(draws < 0.5, lower, 1 - lower)


@functools.lru_cache(maxsize=8)
def _beta_quantiles(alpha: float) -> tuple[Numbers, Numbers]:
    """Probabilities from 0 to 0.5 and their quantiles in Beta(alpha, alpha).

    The density x**(a - 1) · (1 - x)**(a - 1) is integrated over x; for a below 1 over x**a, where it has no pole.
    """
    power = min(alpha, 1.0)
    quantiles = np.linspace(0, 0.5**power, NUM_QUANTILES) ** (1 / power)
    density = quantiles ** (alpha - power) * (1 - quantiles) ** (alpha - 1)
    areas = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return areas / areas[-1] / 2, quantiles
