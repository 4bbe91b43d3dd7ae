from __future__ import annotations

import numpy as np
import pytest

from signs_dist.data.hands.anatomy import Hand, Part, PartKind
from signs_dist.data.hands.surface import CAMERA_DISTANCE, FAR_AWAY, Framing, project, render_surface

FRAMING = Framing(scale=4.0, centre=(16.0, 16.0), middle=np.zeros(3))


def rod(z: float, radius: float, kind: PartKind = PartKind.PALM) -> Part:
    """A horizontal rod of 4 cm with round ends, its middle at (0, 0, z), with its back away from the camera."""
    start, end = np.array([-2.0, 0.0, z]), np.array([2.0, 0.0, z])
    return Part(kind, start, end, radius, radius, np.array([0.0, 0.0, -1.0]), 0.1)


def test_the_wrist_s_distance_is_not_scaled_and_nearer_points_are_larger() -> None:
    pixels, nearness = project(np.array([[1.0, 2.0, 0.0], [1.0, 2.0, CAMERA_DISTANCE / 2]]), FRAMING)
    assert pixels.tolist() == [[20.0, 8.0], [24.0, 0.0]]  # x to the right; y down, as rows of a picture go
    assert nearness.tolist() == [1.0, 2.0]


def test_a_rod_faces_the_camera_in_its_middle() -> None:
    surface = render_surface(Hand((rod(0.0, 2.0),), np.eye(3)), FRAMING, 32)
    is_hand = surface.depth > FAR_AWAY / 2
    assert is_hand.sum() == pytest.approx(16 * 16 + np.pi * 8**2, rel=0.03)  # at 4 pixels per centimetre
    assert surface.depth.max() == pytest.approx(2.0, abs=0.02)
    np.testing.assert_allclose(surface.normal[:, 16, 16], [0, 0, 1], atol=0.1)
    assert surface.palmness[16, 16] == pytest.approx(1, abs=0.02)
    assert surface.is_palm[16, 16] == 1
    assert surface.depth[0, 0] == FAR_AWAY


@pytest.mark.parametrize("is_nearer_first", [False, True])
def test_the_nearer_of_two_parts_is_seen(is_nearer_first: bool) -> None:
    far, near = rod(0.0, 2.0), rod(5.0, 0.5, PartKind.FOREARM)
    parts = (near, far) if is_nearer_first else (far, near)
    surface = render_surface(Hand(parts, np.eye(3)), FRAMING, 32)
    assert surface.depth[16, 16] == pytest.approx(5.5, abs=0.05)
    assert surface.is_palm[16, 16] == 0
    assert surface.is_palm[10, 16] == 1  # above the nearer rod
