"""Random, anatomically plausible poses of hands that sign 0 to 5."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from signs_dist.data.hands.anatomy import FINGERS, THUMB, Finger, Hand, Part, PartKind, Vector

Flexions = Sequence[tuple[float, float, float]]
"""For each of the four fingers, the bend of its three joints in degrees."""


def pose_hand(num_fingers: int, random: np.random.Generator) -> Hand:
    """A right hand that shows `num_fingers`, seen from a random side; mirror the picture for a left one."""
    assert 0 <= num_fingers <= 5, num_fingers
    stature = _stature(random)
    flexions = _sample_flexions(num_fingers, random)
    spreads = _sample_spreads(num_fingers, random)
    chains = [
        _finger_joints(finger, spread, flexion, stature)
        for finger, spread, flexion in zip(FINGERS, spreads, flexions, strict=True)
    ]
    thumb = _thumb_joints(num_fingers, [joints for joints, _ in chains], stature, random)
    parts = [*_palm(thumb, stature)]
    for finger, (joints, backs) in zip(FINGERS, chains, strict=True):
        parts += _chain(joints, [radius * stature.girth for radius in finger.radii], backs)
    parts += _chain(thumb, [radius * stature.girth for radius in THUMB.radii], _thumb_backs(thumb), is_thumb=True)
    rotation, forearm = _sample_view(num_fingers, random)
    turned = [_turned(part, rotation) for part in parts]
    return Hand((*turned, *_forearm(rotation, forearm, stature)), rotation)


@dataclasses.dataclass(frozen=True)
class _Stature:
    """How this hand differs from the average: factors on the length of the fingers and on all girths."""

    length: float
    girth: float


def _stature(random: np.random.Generator) -> _Stature:
    return _Stature(length=random.uniform(0.9, 1.12), girth=random.uniform(0.95, 1.19))


def _sample_flexions(num_fingers: int, random: np.random.Generator) -> list[tuple[float, float, float]]:
    if num_fingers == 0:
        knuckle, middle, last = random.uniform(48, 72), random.uniform(42, 68), random.uniform(20, 42)
        more = random.uniform(0, 7)  # the ring closes tighter towards the little finger
        return [
            (knuckle + more * i + random.normal(0, 3), middle + more * i + random.normal(0, 3), last) for i in range(4)
        ]
    num_straight = {1: 1, 2: 2, 3: 2, 4: 4, 5: 4}[num_fingers]
    slack = random.uniform(12, 40) if random.random() < 0.25 else random.uniform(0, 10)
    lean = random.normal(4, 9)
    curl = (random.uniform(45, 88), random.uniform(88, 106), random.uniform(38, 65))
    flexions = []
    for i in range(4):
        if i < num_straight:
            knuckle = lean + random.normal(0, 6)
            own = slack + (random.uniform(10, 45) if random.random() < 0.05 else abs(random.normal(0, 4)))
            flexions.append((knuckle, own, 0.6 * own + abs(random.normal(0, 3))))
        else:
            knuckle, middle, last = (random.normal(degrees, 5) for degrees in curl)
            flexions.append((knuckle, middle, last))
    return flexions


def _sample_spreads(num_fingers: int, random: np.random.Generator) -> list[float]:
    """Sideways angles of the four fingers in degrees, positive towards the thumb."""
    openness = random.uniform(-0.1, 0.1) if random.random() < 0.2 else random.uniform(0.1, 1.2)
    if num_fingers in (0, 1):
        fan = [random.normal(1, 4), 0.0, -1.0, -2.0]
    elif num_fingers in (2, 3):
        fan = [2 + 15 * openness, 0.5 - 12 * openness, -5.0, -4.0]
    else:
        fan = [2 + 12 * openness, 0.5 + 3 * openness, -1.5 - 9 * openness, -2 - 30 * openness]
    lean = random.normal(0, 3)
    return [angle + lean + random.normal(0, 1.5) for angle in fan]


def _finger_joints(
    finger: Finger, spread: float, flexion: tuple[float, float, float], stature: _Stature
) -> tuple[list[Vector], list[Vector]]:
    """The four joints of a finger, and for each of its three bones the direction of its back."""
    sideways = math.radians(spread)
    along = np.array([math.sin(sideways), math.cos(sideways), 0.0])
    out = np.array([0.0, 0.0, 1.0])
    joints = [np.array(finger.base)]
    backs = []
    bend = 0.0
    for length, degrees in zip(finger.lengths, flexion, strict=True):
        bend += math.radians(degrees)
        joints.append(joints[-1] + length * stature.length * (math.cos(bend) * along + math.sin(bend) * out))
        backs.append(math.sin(bend) * along - math.cos(bend) * out)
    return joints, backs


def _thumb_joints(
    num_fingers: int, fingers: Sequence[Sequence[Vector]], stature: _Stature, random: np.random.Generator
) -> list[Vector]:
    base = np.array(THUMB.base)
    first, second, third = (length * stature.length for length in THUMB.lengths)
    if num_fingers in (3, 5):
        away = random.uniform(10, 82)
        lift = random.normal(0.3, 0.15) if random.random() < 0.8 else random.uniform(0.3, 0.9)
        angles = (28 + 0.35 * away, 8 + 0.85 * away, 2 + 0.85 * away + random.normal(0, 16))
        joints = [base]
        for length, angle, share in zip((first, second, third), angles, (1.0, 0.7, 0.6), strict=True):
            radians = math.radians(angle)
            joints.append(joints[-1] + length * _unit(math.sin(radians), math.cos(radians), lift * share))
        return joints
    if num_fingers == 0:
        knuckle = base + first * _unit(0.3 + random.normal(0, 0.1), 0.5, 0.8 + random.normal(0, 0.1))
        tips = 0.6 * fingers[0][-1] + 0.4 * fingers[1][-1]
        gap = max(0.0, random.normal(0.3, 0.8))
        return [base, *_reach(knuckle, tips - np.array([0.0, 0.9 + gap, 0.0]), second, third, _unit(0.3, -0.9, 0.5))]
    knuckle = base + first * _unit(0.38 + random.normal(0, 0.1), 0.75, 0.5 + random.normal(0, 0.08))
    if num_fingers == 4:
        knuckle = base + first * _unit(random.uniform(-0.1, 0.25), 0.8, random.uniform(0.3, 0.55))
        target = np.array([random.normal(-1.6, 0.9), random.normal(6.4, 0.9), random.normal(1.9, 0.35)])
    else:
        held = fingers[num_fingers]  # the thumb lies on the first curled finger, or on the next
        other = fingers[min(3, num_fingers + 1)]
        middle = 0.5 * (held[2] + held[3]) if random.random() < 0.6 else 0.5 * (other[2] + other[3])
        target = middle + np.array([random.normal(-0.3, 0.6), random.normal(0.2, 0.7), 1.5])
    return [base, *_reach(knuckle, target, second, third, _unit(0.8, 0.5, 0.6))]


def _reach(root: Vector, target: Vector, first: float, second: float, pole: Vector) -> list[Vector]:
    """Root, elbow and end of two bones that reach for `target`, the elbow bent towards `pole`."""
    way = target - root
    distance = float(np.clip(np.linalg.norm(way), 0.84 * (first + second), 0.995 * (first + second)))
    along = way / np.linalg.norm(way)
    side = pole - (pole @ along) * along
    side /= np.linalg.norm(side)
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    elbow = root + first * (cosine * along + math.sqrt(max(0.0, 1 - cosine**2)) * side)
    return [root, elbow, root + distance * along]


def _thumb_backs(joints: Sequence[Vector]) -> list[Vector]:
    """The thumb's nail faces away from the middle of the palm, at right angles to its bones."""
    backs = []
    for start, end in itertools.pairwise(joints):
        along = (end - start) / np.linalg.norm(end - start)
        away = 0.5 * (start + end) - np.array([0.0, 6.5, 0.0]) + np.array([0.5, 0.0, 0.5])
        away = away - (away @ along) * along
        backs.append(away / np.linalg.norm(away))
    return backs


def _chain(
    joints: Sequence[Vector], radii: Sequence[float], backs: Sequence[Vector], *, is_thumb: bool = False
) -> list[Part]:
    kinds = (PartKind.PALM if is_thumb else PartKind.FINGER, PartKind.FINGER, PartKind.TIP)
    blends = (0.9 if is_thumb else 0.5, 0.12, 0.12)
    return [
        Part(kinds[i], joints[i], joints[i + 1], radii[i], radii[i + 1], backs[i], blends[i]) for i in range(len(kinds))
    ]


def _palm(thumb: Sequence[Vector], stature: _Stature) -> list[Part]:
    """The bones of the palm, the balls of thumb and little finger, the web between thumb and index finger."""
    back = np.array([0.0, 0.0, -1.0])

    def bone(start: Sequence[float] | Vector, end: Sequence[float] | Vector, radii: tuple[float, float]) -> Part:
        first, last = (radius * stature.girth for radius in radii)
        return Part(PartKind.PALM, np.asarray(start, dtype=float), np.asarray(end, dtype=float), first, last, back, 1.2)

    wrist = ((1.3, 0.3, 0.0), (0.5, 0.3, 0.0), (-0.4, 0.3, 0.0), (-1.3, 0.3, 0.0))
    bones = [bone(start, finger.base, (1.45, 1.12)) for start, finger in zip(wrist, FINGERS, strict=True)]
    heel = bone((-1.5, 1.2, 0.4), (-2.6, 5.5, 0.3), (1.5, 1.15))
    web_end = np.array([2.5, 6.4, 0.1])
    webs = [bone(0.45 * thumb[0] + 0.55 * thumb[1], web_end, (1.0, 0.8)), bone(thumb[1], web_end, (0.75, 0.6))]
    return [*bones, heel, *webs]


def _sample_view(num_fingers: int, random: np.random.Generator) -> tuple[npt.NDArray[np.float64], Vector]:
    """The rotation of the hand into the picture, and the direction of the forearm from the wrist."""
    side = random.choice([-1.0, 1.0])
    lean = side * abs(random.normal(30, 24))  # of the forearm from the vertical, in degrees
    roll = 0.7 * lean + random.normal(0, 20)
    pitch = random.normal(0, 15)
    if num_fingers == 0:
        yaw = random.uniform(-105, 0)
    else:
        is_turned = random.random() < (0.35 if num_fingers == 3 else 0.15)
        yaw = random.uniform(-65, 65) if is_turned else random.normal(0, 22)
        yaw += 180 if random.random() < 0.1 else 0
    rotation = _about_z(-roll) @ _about_x(pitch) @ _about_y(yaw)
    slope = random.normal(-0.1, 0.25)
    radians = math.radians(lean)
    return rotation, _unit(-math.sin(radians), -math.cos(radians), slope)


def _forearm(rotation: npt.NDArray[np.float64], direction: Vector, stature: _Stature) -> list[Part]:
    """Two cones side by side, long enough to leave the picture."""
    across = rotation @ np.array([1.0, 0.0, 0.0])
    across = across - (across @ direction) * direction
    across /= max(1e-6, float(np.linalg.norm(across)))
    back = rotation @ np.array([0.0, 0.0, -1.0])
    parts = []
    for side in (-1.0, 1.0):
        wrist = side * 0.95 * across
        thick = 14 * direction + side * 1.2 * across
        parts.append(Part(PartKind.FOREARM, wrist, thick, 1.7 * stature.girth, 2.5 * stature.girth, back, 3.0))
        far = 60 * direction + side * 1.5 * across
        parts.append(Part(PartKind.FOREARM, thick, far, 2.5 * stature.girth, 3.2 * stature.girth, back, 3.0))
    return parts


def _turned(part: Part, rotation: npt.NDArray[np.float64]) -> Part:
    return dataclasses.replace(part, start=rotation @ part.start, end=rotation @ part.end, back=rotation @ part.back)


def _unit(x: float, y: float, z: float) -> Vector:
    return np.array([x, y, z]) / math.sqrt(x * x + y * y + z * z)


def _about_x(degrees: float) -> npt.NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _about_y(degrees: float) -> npt.NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])


def _about_z(degrees: float) -> npt.NDArray[np.float64]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
