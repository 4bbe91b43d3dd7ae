"""Choose which training photos become validation photos."""

from __future__ import annotations

import random
from collections.abc import Sequence

PUBLISHED_SEED = 230
"""The seed of the split that the CS230 course published SIGNS with."""
PUBLISHED_VAL_SHARE = 0.2


def published_split(
    names: Sequence[str], *, seed: int = PUBLISHED_SEED, val_share: float = PUBLISHED_VAL_SHARE
) -> tuple[list[str], list[str]]:
    """Divide names into (train, val), each sorted, as SIGNS was published.

    The sorted names are shuffled by Python's generator; the first `int((1 - val_share) * n)` are train. The order
    of `names` does not matter. With the defaults and the 1,080 training photos this is the published split.
    """
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    num_train = int((1 - val_share) * len(shuffled))
    return sorted(shuffled[:num_train]), sorted(shuffled[num_train:])
