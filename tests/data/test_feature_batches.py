from __future__ import annotations

import numpy as np

from signs_dist.data.feature_batches import FeatureBatches
from signs_dist.data.plan import BatchKey


def test_a_batch_has_the_rows_of_its_samples() -> None:
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    batches = FeatureBatches(features, np.array([0, 1, 2, 0, 1, 2]))
    batch = batches[BatchKey(3, 7, np.array([4, 0, 5]))]
    assert batch.images.tolist() == [[8, 9], [0, 1], [10, 11]]
    assert batch.labels.tolist() == [1, 0, 2]
    assert batch.samples.tolist() == [4, 0, 5]
    assert (batch.epoch, batch.step, len(batches)) == (3, 7, 6)
    batch.images.zero_()  # a copy: the stored features stay
    assert features[5].tolist() == [10, 11]
