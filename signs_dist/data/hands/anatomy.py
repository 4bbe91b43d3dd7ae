"""A hand as a list of rounded cones in space, and the measures of an average adult hand.

Lengths are centimetres. The hand's own frame: the wrist is the origin, y runs along the middle finger, x towards the
thumb, z out of the palm. The picture's frame: x to the right, y up, z towards the camera.
"""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
"""Three coordinates in centimetres, or a direction of length 1; shape (3,)."""


class PartKind(enum.Enum):
    """What a part is, which determines the look of its skin."""

    PALM = "palm"
    FINGER = "finger"
    TIP = "tip"
    FOREARM = "forearm"


@dataclasses.dataclass(frozen=True)
class Part:
    """A cone between two spheres.

    Attributes:
        kind: which skin it has.
        start, end: the spheres' centres.
        start_radius, end_radius: in centimetres.
        back: the direction that its back (the side of nails and knuckles) faces.
        blend: centimetres over which it merges with the parts before it.
    """

    kind: PartKind
    start: Vector
    end: Vector
    start_radius: float
    end_radius: float
    back: Vector
    blend: float


@dataclasses.dataclass(frozen=True)
class Finger:
    """The measures of a finger: where it starts, its three bones, the radii at its four joints."""

    base: tuple[float, float, float]
    lengths: tuple[float, float, float]
    radii: tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Hand:
    """A posed hand, turned into the picture's frame, not yet moved or scaled.

    Attributes:
        parts: the palm, the fingers, the thumb, the forearm.
        rotation: from the hand's frame to the picture's, shape (3, 3).
    """

    parts: tuple[Part, ...]
    rotation: npt.NDArray[np.float64]


FINGERS = (
    Finger((2.7, 8.8, 0.0), (4.4, 2.6, 2.1), (1.00, 0.88, 0.80, 0.62)),
    Finger((0.8, 9.2, -0.15), (4.8, 3.0, 2.2), (1.02, 0.90, 0.82, 0.64)),
    Finger((-1.1, 8.8, -0.05), (4.4, 2.8, 2.2), (0.96, 0.85, 0.77, 0.60)),
    Finger((-2.9, 7.9, 0.2), (3.5, 2.1, 1.9), (0.85, 0.74, 0.66, 0.52)),
)
"""Index, middle, ring and little finger of an average adult hand."""
THUMB = Finger((1.7, 1.6, 0.7), (4.3, 3.3, 2.7), (1.70, 1.15, 1.02, 0.72))
"""Its first bone lies in the ball of the thumb."""
