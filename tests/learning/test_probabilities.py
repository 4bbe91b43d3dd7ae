from __future__ import annotations

import numpy as np
import pytest
import torch

from signs_dist.learning.probabilities import ROWS_AT_ONCE, KeptProbabilities, ProbabilityTable
from signs_dist.results.predictions import MOST_CLASSES_IN_FULL, NUM_KEPT

LOGITS = torch.tensor([[0.0, 1.0, 2.0], [5.0, 0.0, 0.0]])
LABELS = torch.tensor([2, 1])


def test_probabilities_are_the_softmax_of_the_logits_in_the_order_of_the_batches() -> None:
    kept = KeptProbabilities(3)
    kept.add(LOGITS, LABELS)
    kept.add(LOGITS[:1].to(torch.bfloat16), LABELS[:1])
    table = kept.table()
    expected = LOGITS.softmax(dim=1)
    assert table.numbers is None
    assert table.values == pytest.approx(torch.cat([expected, expected[:1]]).numpy())
    assert list(table.rows())[1] == pytest.approx(expected[1].tolist())


def test_with_many_classes_the_most_probable_ones_and_the_images_own_are_kept() -> None:
    logits = torch.linspace(0, 1, 200).repeat(2, 1)
    kept = KeptProbabilities(200)
    kept.add(logits, torch.tensor([3, 199]))
    table = kept.table()
    assert table.values.shape == (2, NUM_KEPT + 1)
    first, second = table.rows()
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert sorted(first) == [3, *range(190, 200)]
    assert sorted(second) == list(range(190, 200))
    assert first[3] == pytest.approx(logits.softmax(dim=1)[0, 3].item())


@pytest.mark.parametrize("num_classes", [3, 200])
def test_a_process_without_images_adds_none(num_classes: int) -> None:
    some = KeptProbabilities(num_classes)
    some.add(torch.zeros(2, num_classes), torch.zeros(2, dtype=torch.int64))
    joined = ProbabilityTable.joined([some.table(), KeptProbabilities(num_classes).table()])
    assert len(list(joined.rows())) == 2
    assert joined.values.dtype == np.float32


def test_a_table_longer_than_a_block_keeps_its_order() -> None:
    values = np.arange(2 * ROWS_AT_ONCE + 1, dtype=np.float32)[:, None]
    assert [row[0] for row in ProbabilityTable(values).rows()] == values[:, 0].tolist()


def test_all_probabilities_are_kept_for_own_metrics_whatever_the_number_of_classes() -> None:
    num_classes = MOST_CLASSES_IN_FULL + 50
    logits, labels = torch.randn(4, num_classes), torch.arange(4)
    kept = KeptProbabilities(num_classes, keeps_all=True)
    kept.add(logits[:3], labels[:3])
    kept.add(logits[3:], labels[3:])
    assert np.allclose(kept.in_full(), logits.softmax(dim=1).numpy())
    assert kept.table().numbers is not None  # the file of predictions has the most probable ones, as before
