"""The visible surface of a posed hand, pixel by pixel: depth, normal, and what is there."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from signs_dist.data.hands.anatomy import Hand, Part, PartKind

Grid = npt.NDArray[np.float32]
"""One number a pixel; shape (height, width)."""

Points = npt.NDArray[np.float64]

FAR_AWAY = -1000.0
"""The depth where there is no hand."""
CAMERA_DISTANCE = 55.0
"""Centimetres from the camera to the wrist."""


@dataclasses.dataclass(frozen=True)
class Framing:
    """Where the hand is in the picture.

    Attributes:
        scale: pixels per centimetre at the wrist's distance.
        centre: where the hand's middle is, in pixels from the left and the top.
        middle: the hand's middle in the picture's frame, in centimetres, shape (3,).
    """

    scale: float
    centre: tuple[float, float]
    middle: npt.NDArray[np.float64]


@dataclasses.dataclass
class Surface:
    """What the camera sees. Depth and place are in centimetres, normals have length 1.

    Attributes:
        depth: towards the camera; `FAR_AWAY` where there is no hand.
        normal: shape (3, height, width).
        tone: brightness of the skin's own marks (creases), a factor around 1.
        palmness: 1 where the palm's side is seen, -1 where the back is.
        redness: 0 to 1, at finger tips and knuckles.
        nail: 0 to 1.
        is_palm: 1 where the palm is nearest, else 0.
    """

    depth: Grid
    normal: Grid
    tone: Grid
    palmness: Grid
    redness: Grid
    nail: Grid
    is_palm: Grid


def render_surface(hand: Hand, framing: Framing, size: int) -> Surface:
    """The surface of `hand` on `size` x `size` pixels."""
    layers = np.zeros((9, size, size), dtype=np.float32)
    layers[0] = FAR_AWAY
    layers[4] = 1
    for part in hand.parts:
        _add_part(layers, part, framing)
    normal = layers[1:4]
    normal /= np.maximum(np.sqrt((normal * normal).sum(axis=0)), 1e-6)
    return Surface(layers[0], normal, layers[4], layers[5], layers[6], layers[7], layers[8])


def project(
    points: npt.NDArray[np.float64], framing: Framing
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Pixels (N, 2) of `points` (N, 3), and how much larger each looks than at the wrist's distance (N,)."""
    nearness = CAMERA_DISTANCE / np.maximum(CAMERA_DISTANCE - points[:, 2], 15.0)
    flat = (points - framing.middle)[:, :2] * nearness[:, None] * framing.scale
    return np.array(framing.centre) + flat * np.array([1.0, -1.0]), nearness


def _add_part(layers: Grid, part: Part, framing: Framing) -> None:
    """Merge a part into the layers. Here x runs right, y runs down, and lengths are pixels until depths are stored."""
    size = layers.shape[1]
    pixels, nearness = project(np.stack([part.start, part.end]), framing)
    first, last = nearness * framing.scale * np.array([part.start_radius, part.end_radius])
    low = np.floor(np.minimum(pixels[0] - first, pixels[1] - last)).astype(int)
    high = np.ceil(np.maximum(pixels[0] + first, pixels[1] + last)).astype(int) + 1
    (left, top), (right, bottom) = np.clip(low, 0, size), np.clip(high, 0, size)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5 - pixels[0, 0])
    y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - pixels[0, 1])
    step = (pixels[1] - pixels[0]).astype(np.float32)
    rise = np.float32((part.end[2] - part.start[2]) * framing.scale)
    growth = np.float32(last - first)
    along, height, is_hit = _nearest_on_cone(x, y, step, rise, np.float32(first), growth)

    radius = np.float32(first) + along * growth
    normal_x = (x - along * step[0]) / radius
    normal_y = -(y - along * step[1]) / radius
    normal_z = (height - along * rise) / radius
    depth = np.where(is_hit, height / np.float32(framing.scale) + np.float32(part.start[2]), np.float32(FAR_AWAY))
    backness = normal_x * part.back[0] + normal_y * part.back[1] + normal_z * part.back[2]
    marks = _skin_marks(part, along, backness.astype(np.float32))
    patch = layers[:, top:bottom, left:right]
    _merge(patch, np.stack([depth, normal_x, normal_y, normal_z, *marks]).astype(np.float32), part.blend)


def _nearest_on_cone(
    x: Grid, y: Grid, step: Grid, rise: np.float32, radius: np.float32, growth: np.float32
) -> tuple[Grid, Grid, npt.NDArray[np.bool_]]:
    """Where rays along z first meet the spheres of centre t (step, rise) and radius + t growth, for t from 0 to 1.

    The height is t rise + sqrt(Q(t)), where Q = a t² + b t + c is the square of half the chord through sphere t. It is
    concave in t, so its best t, clipped to 0..1, is the nearest point; the ray misses where Q is negative there.

    Returns:
        (t, height over the first centre, whether the ray hits).
    """
    a = min(growth * growth - step @ step, np.float32(-0.02) * radius * radius)
    b = 2 * (radius * growth + x * step[0] + y * step[1])
    c = radius * radius - x * x - y * y
    middle = b / (-2 * a)
    chord = c - b * b / (4 * a)
    offset = np.sign(rise) * np.sqrt(np.maximum(rise * rise * chord, 0) / (a * a - a * rise * rise))
    along = np.clip(middle + offset, 0, 1)
    square = (a * along + b) * along + c
    return along, along * rise + np.sqrt(np.maximum(square, 0)), (chord > 0) & (square > 0)


def _skin_marks(part: Part, along: Grid, backness: Grid) -> tuple[Grid, Grid, Grid, Grid, Grid]:
    """Tone, palmness, redness, nail and is_palm of a part's pixels; see `Surface`."""
    nothing = np.zeros_like(along)
    if part.kind in (PartKind.PALM, PartKind.FOREARM):
        is_palm = nothing + np.float32(part.kind is PartKind.PALM)
        return nothing + 1, -backness, nothing, nothing, is_palm
    length = float(np.linalg.norm(part.end - part.start))
    from_joint = along * np.float32(length)
    palm_side = np.clip(-backness * 2, 0, 1)
    back_side = np.clip(backness * 2, 0, 1)
    crease = np.exp(-((from_joint / np.float32(0.16)) ** 2)) * (0.34 * palm_side + 0.2 * back_side)
    wrinkle = np.exp(-(((from_joint - 0.35) / np.float32(0.12)) ** 2)) * 0.13 * back_side
    redness = np.exp(-((from_joint / np.float32(0.7)) ** 2)) * 0.5 * back_side
    nail = nothing
    if part.kind is PartKind.TIP:
        redness = redness + along * along * palm_side * 0.8
        nail = np.clip((backness - 0.62) * 8, 0, 1) * np.clip((along - 0.35) * 10, 0, 1)
    return 1 - crease - wrinkle, -backness, np.minimum(redness, 1), nail, nothing


def _merge(patch: Grid, added: Grid, blend: float) -> None:
    """Keep the nearer surface at each pixel; if the depths differ by less than `blend`, mix the two."""
    difference = added[0] - patch[0]
    share = np.clip(0.5 + 0.5 * difference / np.float32(blend), 0, 1)
    swelling = np.float32(blend) * share * (1 - share)
    patch += share * (added - patch)
    patch[0] += swelling
