"""A bound for statistical tests: what a good generator exceeds with a probability below one in a million."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def chi_square(counts: npt.NDArray[np.int64], expected: float | npt.NDArray[np.float64]) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def chi_square_limit(degrees: int) -> float:
    """The 1 - 1e-6 quantile of chi-square, by Wilson and Hilferty (PNAS 17, 1931); 4.7534 is the normal's."""
    return float(degrees * (1 - 2 / (9 * degrees) + 4.7534 * (2 / (9 * degrees)) ** 0.5) ** 3)


def pair_table(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.int64]:
    """How often numbers in [0, 1) fall together into each of bins x bins cells."""
    cells = (first * bins).astype(np.int64) * bins + (second * bins).astype(np.int64)
    return np.bincount(cells, minlength=bins * bins)
