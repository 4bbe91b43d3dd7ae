"""Draw a photo-like picture of a hand that shows a number: skin, light, shadow, wall and camera."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageOps

from signs_dist.data.hands.anatomy import Hand, PartKind
from signs_dist.data.hands.pose import pose_hand
from signs_dist.data.hands.surface import FAR_AWAY, Framing, Grid, Surface, project, render_surface

Colour = npt.NDArray[np.float32]
"""Red, green and blue, from 0 to 1; shape (3,)."""
Picture = npt.NDArray[np.float32]
"""Shape (3, height, width), from 0 to 1."""

PALM_CENTIMETRES = 5.5
"""From the wrist to the middle of the palm."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """All random choices of a picture, except the hand's pose and the camera's noise.

    Attributes:
        centimetres: width of the picture at the wrist's distance.
        place: position of the middle of the palm, as shares of the width and height from the left and the top.
        margin: distance of the hand from the picture's edges, as a share of the side; negative if it may be cut off.
        skin: the colour of fully lit skin; palm_skin of the palm's side.
        light: direction towards the lamp.
        ambience: share of light that comes from all sides.
        wall: its colour; wall_slope: how it changes over the picture's width and height.
        shadow_offset: from the hand to its shadow on the wall, in centimetres.
        shadow_strength, shadow_softness: share of light that it removes; its blur in centimetres.
        sleeve, sleeve_start: its colour, or None for a bare arm; its distance from the wrist in centimetres.
    """

    centimetres: float
    place: tuple[float, float]
    margin: float
    skin: Colour
    palm_skin: Colour
    light: Colour
    ambience: float
    wall: Colour
    wall_slope: tuple[float, float]
    shadow_offset: tuple[float, float]
    shadow_strength: float
    shadow_softness: float
    sleeve: Colour | None
    sleeve_start: float


def draw_hand(num_fingers: int, size: int, random: np.random.Generator) -> Image.Image:
    """An RGB picture of `size` x `size` pixels of a hand that shows `num_fingers` (0 to 5).

    The same state of `random` gives the same picture at every `size`, except for the pixels' noise.
    """
    hand = pose_hand(num_fingers, random)
    scene = sample_scene(random)
    is_mirrored = random.random() < 0.5
    softness = random.uniform(0.25, 0.75)  # of the lens, in pixels of a picture of 64
    exposure = random.uniform(0.93, 1.05)
    noise = random.uniform(0.001, 0.008)
    fine = size * _supersampling(size)
    framing = _frame(hand, scene, fine)
    surface = render_surface(hand, framing, fine)
    picture = _paint(hand, surface, scene, framing, random) * np.float32(exposure)
    image = _to_image(picture).filter(ImageFilter.GaussianBlur(max(0.6, softness * fine / 128)))
    image = image.resize((size, size), Image.Resampling.BOX)
    if is_mirrored:
        image = ImageOps.mirror(image)
    return _with_noise(image, noise, random)


def _frame(hand: Hand, scene: Scene, fine: int) -> Framing:
    """The scene's place and size, moved and shrunk so that most of the hand is in the picture."""
    middle = hand.rotation @ np.array([0.0, PALM_CENTIMETRES, 0.0])
    framing = Framing(fine / scene.centimetres, (scene.place[0] * fine, scene.place[1] * fine), middle)
    ends = np.stack([part.end for part in hand.parts if part.kind is not PartKind.FOREARM])
    pixels, _ = project(ends, framing)
    radius = 0.7 * framing.scale
    low, high = pixels.min(axis=0) - radius, pixels.max(axis=0) + radius
    edge = scene.margin * fine
    shrinking = min(1.0, float((fine - 2 * edge) / (high - low).max()))
    centre = np.array(framing.centre)
    low, high = centre + shrinking * (low - centre), centre + shrinking * (high - centre)
    centre += np.maximum(edge - low, 0) - np.maximum(high - (fine - edge), 0)
    return Framing(framing.scale * shrinking, (float(centre[0]), float(centre[1])), middle)


def _supersampling(size: int) -> int:
    """Fine pixels per pixel, along each side."""
    return 3 if size < 48 else 2


def sample_scene(random: np.random.Generator) -> Scene:
    """A wall in daylight or lamplight, and a skin tone."""
    brightness = random.normal(0.885, 0.02)
    warmth = random.normal(0.0, 0.012)
    wall = np.array([brightness + 0.005 + warmth, brightness - 0.012, brightness - 0.055 - warmth])
    darkness = random.uniform(0, 1)
    light_skin, dark_skin = np.array([0.87, 0.68, 0.56]), np.array([0.69, 0.48, 0.33])
    skin = light_skin + darkness * (dark_skin - light_skin) + random.normal(0, 0.02, 3) * np.array([1, 0.6, 0.8])
    pink = np.array([1.04 + 0.03 * darkness, 1.02 + 0.05 * darkness, 1.06 + 0.10 * darkness])
    light = np.array([random.normal(-0.1, 0.45), random.uniform(0.35, 1.1), random.uniform(0.35, 0.9)])
    light /= np.linalg.norm(light)
    far = random.uniform(1.5, 9.0)
    has_sleeve = random.random() < 0.06
    return Scene(
        centimetres=26.5 * float(np.exp(random.normal(0, 0.15))),
        place=(0.5 + random.normal(0, 0.095), 0.60 + random.normal(0, 0.08)),
        margin=random.uniform(-0.10, 0.06),
        skin=skin.astype(np.float32),
        palm_skin=(skin * pink).astype(np.float32),
        light=light.astype(np.float32),
        ambience=random.uniform(0.38, 0.60),
        wall=wall.astype(np.float32),
        wall_slope=(random.normal(0, 0.025), random.normal(-0.012, 0.02)),
        shadow_offset=(float(-light[0] * far + random.normal(0, 0.5)), float(-light[1] * far)),
        shadow_strength=random.uniform(0.06, 0.34),
        shadow_softness=random.uniform(0.4, 1.8),
        sleeve=random.uniform(0.05, 0.35, 3).astype(np.float32) if has_sleeve else None,
        sleeve_start=random.uniform(6, 14),
    )


def _paint(hand: Hand, surface: Surface, scene: Scene, framing: Framing, random: np.random.Generator) -> Picture:
    size = surface.depth.shape[0]
    is_hand = (surface.depth > FAR_AWAY / 2).astype(np.float32)
    skin = _skin_colours(hand, surface, scene, framing, random)
    light = _light_on_hand(surface, scene, framing, is_hand)
    # Light from under the skin is red: in the dark, green and blue fade most.
    reddening = np.array([0.88, 1.04, 1.10], dtype=np.float32)[:, None, None]
    lit = skin * np.exp(np.log(np.maximum(light, 0.2))[None] * reddening)
    halfway = scene.light + np.array([0, 0, 1], dtype=np.float32)
    halfway /= np.linalg.norm(halfway)
    gloss = np.maximum(_along(halfway, surface.normal), 0) ** 18
    lit += (gloss * (0.05 + 0.12 * surface.nail))[None]
    wall = _wall(scene, framing, is_hand, size, random)
    return wall + is_hand[None] * (lit - wall)


def _skin_colours(hand: Hand, surface: Surface, scene: Scene, framing: Framing, random: np.random.Generator) -> Picture:
    palm_share = np.clip(0.5 + surface.palmness, 0, 1)[None]
    skin: Picture = scene.skin[:, None, None] + palm_share * (scene.palm_skin - scene.skin)[:, None, None]
    red = np.array([1.03, 0.88, 0.86], dtype=np.float32)[:, None, None]
    skin *= 1 + surface.redness[None] * (red - 1)
    mottle = _smooth_noise(surface.depth.shape[0], 14, random)
    skin = skin * (1 + mottle[None] * np.array([0.03, 0.05, 0.05], dtype=np.float32)[:, None, None])
    nail = np.array([0.86, 0.66, 0.60], dtype=np.float32)[:, None, None]
    skin = skin + np.float32(0.55) * surface.nail[None] * (nail - skin)
    places = _in_hand_frame(hand, surface, framing)
    skin = skin * (surface.tone * _palm_lines(surface, places))[None]
    if scene.sleeve is not None:
        forearm = next(part for part in hand.parts if part.kind is PartKind.FOREARM)
        way = hand.rotation.T @ (forearm.end - forearm.start)
        way /= np.linalg.norm(way)
        is_sleeve = np.clip((_along(way, places) - scene.sleeve_start) * 4, 0, 1)
        skin = skin + is_sleeve[None] * (scene.sleeve[:, None, None] - skin)
    return skin


def _in_hand_frame(hand: Hand, surface: Surface, framing: Framing) -> Picture:
    """Where each pixel's point lies in the hand's own frame, in centimetres."""
    size = surface.depth.shape[0]
    pixels = np.arange(size, dtype=np.float32) + np.float32(0.5)
    x = np.broadcast_to((pixels - framing.centre[0]) / framing.scale + framing.middle[0], (size, size))
    y = np.broadcast_to(-((pixels - framing.centre[1]) / framing.scale)[:, None] + framing.middle[1], (size, size))
    points = np.stack([x, y, surface.depth]).astype(np.float32)
    return np.stack([_along(axis, points) for axis in hand.rotation.T])


def _along(direction: npt.NDArray[Any], vectors: npt.NDArray[np.float32]) -> Grid:
    """The scalar product at each pixel. A matrix product would start threads, which slow down other workers."""
    x, y, z = direction.astype(np.float32)
    product: Grid = x * vectors[0] + y * vectors[1] + z * vectors[2]
    return product


def _palm_lines(surface: Surface, places: Picture) -> Grid:
    """Factor on the brightness from the lines of the palm (heart, head, life) and of the wrist."""
    x, y, _ = places
    shown = surface.is_palm * np.clip(surface.palmness * 3, 0, 1)
    width = np.float32(0.17)
    heart = np.exp(-(((y - 6.7 - 0.05 * (x + 3) ** 2) / width) ** 2)) * ((x > -3.4) & (x < 1.8))
    head = np.exp(-(((y - 6.3 + 0.05 * (3 - x) ** 2) / width) ** 2)) * ((x > -2.4) & (x < 3.0))
    life = np.exp(-(((x - 0.2 - 2.8 * ((y - 0.8) / 5.5) ** 2) / width) ** 2)) * ((y > 0.8) & (y < 6.2))
    wrist = np.exp(-(((y + 0.3) / width) ** 2)) * np.clip(surface.palmness * 3, 0, 1)
    darkness: Grid = shown * (0.22 * heart + 0.18 * head + 0.26 * life) + np.float32(0.1) * wrist * (np.abs(x) < 3)
    return 1 - darkness


def _light_on_hand(surface: Surface, scene: Scene, framing: Framing, is_hand: Grid) -> Grid:
    """Light from the lamp and from all sides, less what other parts of the hand block."""
    facing = np.maximum(_along(scene.light, surface.normal), 0)
    # More light comes from above, and from the bright wall onto surfaces that face sideways.
    upward = 0.82 + 0.17 * surface.normal[1] + 0.10 * (0.5 - surface.normal[2])
    depth: Grid = np.where(is_hand > 0, surface.depth, np.float32(-6))
    shaded = _cast_shadow(depth, scene.light, framing.scale)
    near = _blurred((depth + 10) / 30, 0.45 * framing.scale) * 30 - 10
    wide = _blurred((depth + 10) / 30, 1.6 * framing.scale) * 30 - 10
    hollow = 1 - np.clip(0.20 * (near - depth), 0, 0.35) - np.clip(0.085 * (wide - depth), 0, 0.4)
    light: Grid = (scene.ambience * upward + (1.14 - scene.ambience) * facing * (1 - 0.75 * shaded)) * hollow
    return light


def _cast_shadow(depth: Grid, light: Colour, scale: float) -> Grid:
    """1 where a nearer part of the hand is between a pixel and the lamp, with soft edges."""
    shaded = np.zeros_like(depth)
    for distance in (0.8, 1.6, 2.6, 4.0):
        right, down = round(float(light[0]) * distance * scale), round(float(-light[1]) * distance * scale)
        over = _shifted(depth, -right, -down, -6.0) - depth - np.float32(light[2] * distance)
        shaded = np.maximum(shaded, np.clip(over * 1.5, 0, 1))
    return _blurred(shaded, 0.3 * scale)


def _wall(scene: Scene, framing: Framing, is_hand: Grid, size: int, random: np.random.Generator) -> Picture:
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    slope = scene.wall_slope[0] * ramp[None, :] + scene.wall_slope[1] * 2 * ramp[:, None]
    corner = 0.05 * (ramp[None, :] ** 2 + ramp[:, None] ** 2)
    uneven = 0.012 * _smooth_noise(size, 4, random)
    right, up = scene.shadow_offset
    moved = _shifted(is_hand, round(right * framing.scale), round(-up * framing.scale), 0.0)
    soft = _blurred(moved, scene.shadow_softness * framing.scale)
    contact = _blurred(is_hand, 1.3 * scene.shadow_softness * framing.scale)
    shadow = scene.shadow_strength * (0.8 * soft + 0.25 * contact)
    tint = np.array([1.06, 1.0, 0.93], dtype=np.float32)[:, None, None]  # the light in the shadow comes from a blue sky
    brightness = (1 + slope - corner + uneven)[None] * (1 - shadow[None] * tint)
    wall: Picture = scene.wall[:, None, None] * brightness
    return wall


def _shifted(grid: Grid, right: int, down: int, filling: float) -> Grid:
    height, width = grid.shape
    result = np.full_like(grid, filling)
    right, down = int(np.clip(right, -width, width)), int(np.clip(down, -height, height))
    result[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = grid[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return result


def _blurred(grid: npt.NDArray[Any], pixels: float) -> Grid:
    """Gaussian blur of values from 0 to 1."""
    image = Image.fromarray((np.clip(grid, 0, 1) * 255 + 0.5).astype(np.uint8))
    blurred: Grid = np.asarray(image.filter(ImageFilter.GaussianBlur(pixels)), dtype=np.float32) / np.float32(255)
    return blurred


def _smooth_noise(size: int, cells: int, random: np.random.Generator) -> Grid:
    """Soft spots, about -1 to 1; the same spots at any size."""
    coarse = Image.fromarray(random.normal(0, 0.6, (cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


def _to_image(picture: Picture) -> Image.Image:
    return Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _with_noise(image: Image.Image, strength: float, random: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    grain = random.standard_normal((*pixels.shape[:2], 1), dtype=np.float32) * np.float32(0.7)
    grain = grain + random.standard_normal(pixels.shape, dtype=np.float32) * np.float32(0.5)
    return Image.fromarray(np.clip(pixels + grain * np.float32(255 * strength) + 0.5, 0, 255).astype(np.uint8))
