from __future__ import annotations

import numpy as np
import pytest

from signs_dist.data.hands.anatomy import PartKind
from signs_dist.data.hands.pose import pose_hand


@pytest.mark.parametrize(
    ("num_fingers", "num_straight", "is_thumb_out"),
    [(1, 1, False), (2, 2, False), (3, 2, True), (4, 4, False), (5, 4, True)],
)
def test_as_many_fingers_are_straight_as_the_sign_has(num_fingers: int, num_straight: int, is_thumb_out: bool) -> None:
    for seed in range(40):
        hand = pose_hand(num_fingers, np.random.default_rng(seed))
        *fingers, thumb = (hand.rotation.T @ part.end for part in hand.parts if part.kind is PartKind.TIP)
        from_wrist = [float(np.linalg.norm(tip)) for tip in fingers]  # in centimetres; the wrist is the origin
        assert [distance > 11.5 for distance in from_wrist] == [i < num_straight for i in range(4)], from_wrist
        assert (thumb[0] > 3) == is_thumb_out


def test_a_closed_ring_brings_the_thumb_to_the_finger_tips() -> None:
    for seed in range(40):
        hand = pose_hand(0, np.random.default_rng(seed))
        index, middle, _, _, thumb = (part.end for part in hand.parts if part.kind is PartKind.TIP)
        assert min(np.linalg.norm(index - thumb), np.linalg.norm(middle - thumb)) < 4


@pytest.mark.parametrize("num_fingers", range(6))
def test_a_hand_has_all_its_parts_and_is_rotated_not_stretched(num_fingers: int) -> None:
    hand = pose_hand(num_fingers, np.random.default_rng(7))
    kinds = [part.kind for part in hand.parts]
    assert {kind: kinds.count(kind) for kind in PartKind} == {
        PartKind.PALM: 8,  # seven of the palm, and the first bone of the thumb
        PartKind.FINGER: 9,
        PartKind.TIP: 5,
        PartKind.FOREARM: 4,
    }
    np.testing.assert_allclose(hand.rotation @ hand.rotation.T, np.eye(3), atol=1e-12)
    for part in hand.parts:
        assert np.linalg.norm(part.back) == pytest.approx(1)
