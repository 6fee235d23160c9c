"""Drawing board of the procedural street scenes: camera, light, painter and the photographic finish.

World coordinates are metres: x to the right, y up from the ground, z ahead, with the camera at x = z = 0.
Everything is drawn from back to front; colour, label and surface material are rasterised by the same calls, so that the
label of a pixel is by construction the label of what the pixel shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

Colour = np.ndarray  # float RGB in 0..255
NEAR = 1.0  # metres; geometry closer than this is cut off
_SHIFT = 3  # fractional bits of the coordinates handed to OpenCV
_SUPERSAMPLE = 2

# Surface materials. Each one's number is its row in _TEXTURE: amplitudes of coarse, medium, fine and ground noise.
SMOOTH, PLASTER, BRICK, LEAF, GRASS, ASPHALT, PAVING, METAL, CLOTH, CLOUD = range(10)
_TEXTURE = np.array(
    [
        [0.00, 0.00, 0.02, 0.00],
        [0.05, 0.03, 0.04, 0.00],
        [0.04, 0.04, 0.10, 0.00],
        [0.04, 0.12, 0.13, 0.00],
        [0.05, 0.04, 0.06, 0.16],
        [0.04, 0.00, 0.02, 0.07],
        [0.04, 0.00, 0.02, 0.08],
        [0.02, 0.03, 0.01, 0.00],
        [0.00, 0.05, 0.06, 0.00],
        [0.03, 0.00, 0.00, 0.00],
    ],
    dtype=np.float32,
)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera over a road that bends sideways and in height with the square of the distance."""

    height: int  # of the drawing board, pixels
    width: int
    focal: float  # pixels
    centre: float  # column of the vanishing point, pixels
    horizon: float  # row of the vanishing point, pixels
    eye: float  # metres above the road
    bend: float  # 1/metres
    hill: float  # 1/metres
    roll: float  # radians

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points (…×3) to pixel coordinates (…×2, column first as OpenCV wants them)."""
        z = np.maximum(points[..., 2], NEAR)
        u = self.focal * (points[..., 0] / z + self.bend * z)
        v = self.focal * ((self.eye - points[..., 1]) / z - self.hill * z)
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        pixels = np.empty((*z.shape, 2))
        pixels[..., 0] = self.centre + cos * u - sin * v
        pixels[..., 1] = self.horizon + sin * u + cos * v
        return pixels


@dataclass(frozen=True)
class Light:
    """What falls on the scene: a sun, an ambient sky light, haze, and the sky itself."""

    sun: np.ndarray  # unit vector towards the sun
    direct: Colour  # factors per channel
    ambient: Colour
    haze: Colour
    density: float  # of the haze, 1/metres
    sky_top: Colour
    clouds: float  # 0 (none) to 1
    shadow: float  # 0 (none) to 1
    dusk: bool

    def on(self, colour: Colour, normal: np.ndarray | None, z: float) -> Colour:
        """The colour seen of a surface with this normal (None: lit half) at distance z."""
        cosine = 0.5 if normal is None else max(0.0, float(normal @ self.sun))
        clear = math.exp(-self.density * max(z, 0.0))
        return colour * ((self.ambient + self.direct * cosine) * clear) + self.haze * (1 - clear)


@dataclass
class Painter:
    """Draws world geometry into colour, label and material at once, seen by `camera` under `light`."""

    camera: Camera
    light: Light
    rng: np.random.Generator
    board: np.ndarray = field(init=False)  # H×W×4 uint8: RGB and label
    material: np.ndarray = field(init=False)  # H×W uint8

    def __post_init__(self) -> None:
        shape = (self.camera.height, self.camera.width)
        self.board = np.zeros((*shape, 4), np.uint8)
        self.material = np.zeros(shape, np.uint8)

    def pixels(self, polygons: Sequence[np.ndarray], colour: Colour, label: int, material: int = SMOOTH) -> None:
        """Fills disjoint polygons given in pixels (n×2 each) with one final colour."""
        limit = 4 * self.camera.width
        fixed = [np.rint(p.clip(-limit, limit) * (1 << _SHIFT)).astype(np.int32) for p in polygons if self._seen(p)]
        if fixed:
            cv2.fillPoly(self.board, fixed, _ink(colour, label), cv2.LINE_8, _SHIFT)
            cv2.fillPoly(self.material, fixed, material, cv2.LINE_8, _SHIFT)

    def _seen(self, points: np.ndarray, margin: float = 0.0) -> bool:
        """Whether the box around points (n×2, pixels) meets the picture."""
        x, y = points.T.tolist()
        wide, tall = self.camera.width + margin, self.camera.height + margin
        return max(x) >= -margin and min(x) < wide and max(y) >= -margin and min(y) < tall

    def face(
        self, points: np.ndarray, colour: Colour, label: int, material: int = SMOOTH, *, cull: bool = False
    ) -> bool:
        """Fills one planar polygon (n×3), shaded by its normal; True if it faces the camera.

        With `cull` a face whose corners do not run counter-clockwise on screen shows its back and is left out.
        """
        corners, depths = self.camera.project(points), points[:, 2].tolist()
        if max(depths) <= NEAR or (cull and _area(corners) <= 0):
            return False
        if self._seen(corners):
            shade = self.light.on(colour, self._normal(points), sum(depths) / len(depths))
            self.pixels([corners], shade, label, material)
        return True

    def _normal(self, points: np.ndarray) -> np.ndarray:
        """Unit normal of a polygon, on the side of the camera."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[:3].tolist()
        px, py, pz, qx, qy, qz = bx - ax, by - ay, bz - az, cx - bx, cy - by, cz - bz
        x, y, z = py * qz - pz * qy, pz * qx - px * qz, px * qy - py * qx
        towards = -x * ax + y * (self.camera.eye - ay) - z * az
        length = math.copysign(math.sqrt(x * x + y * y + z * z) + 1e-9, towards)
        return np.array([x / length, y / length, z / length])

    def patches(self, quads: np.ndarray, colour: Colour, label: int, material: int = SMOOTH) -> None:
        """Fills many disjoint quads (m×4×3) of one colour."""
        quads = quads[quads[:, :, 2].min(axis=1) > NEAR]
        if len(quads):
            self.pixels(
                list(self.camera.project(quads)), self.light.on(colour, None, quads[..., 2].mean()), label, material
            )

    def sees(self, points: np.ndarray) -> bool:
        """Whether the picture meets the box around world points (n×3)."""
        return bool(points[:, 2].max() > NEAR) and self._seen(self.camera.project(points))

    def relabel(self, points: np.ndarray, label: int) -> None:
        """Gives what is seen through a polygon (n×3) another label without painting over it."""
        if not self.sees(points):
            return
        corners = self.camera.project(points)
        height, width = self.material.shape
        left, top = np.floor(corners.min(axis=0)).astype(int).clip(0)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int).clip(0, [width, height])
        mask = np.zeros((max(bottom - top, 1), max(right - left, 1)), np.uint8)
        cv2.fillPoly(mask, [np.rint(corners - [left, top]).astype(np.int32)], 1)
        self.board[top:bottom, left:right, 3][mask[: bottom - top, : right - left] > 0] = label

    def limb(
        self, a: np.ndarray, b: np.ndarray, radius: float, colour: Colour, label: int, material: int = CLOTH
    ) -> None:
        """A round bar of the given radius (metres) between two world points."""
        if max(a[2], b[2]) <= NEAR:
            return
        z = max(float(a[2] + b[2]) / 2, NEAR)
        ends = self.camera.project(np.array([a, b]))
        if self._seen(ends, margin=radius * self.camera.focal / z):
            start, end = np.rint(ends).astype(int).clip(-9999, 9999).tolist()
            thickness = min(max(round(2 * radius * self.camera.focal / z), 1), 250)
            cv2.line(self.board, start, end, _ink(self.light.on(colour, None, z), label), thickness)
            cv2.line(self.material, start, end, material, thickness)

    def balls(
        self, centres: np.ndarray, radii: np.ndarray, colours: np.ndarray, label: int, material: int = SMOOTH
    ) -> None:
        """Discs that face the camera, in the given order: heads, lamps, clumps of leaves (centres and colours n×3)."""
        z = float(centres[:, 2].mean())
        if z <= NEAR:
            return
        sizes = radii * self.camera.focal / z
        pixels = self.camera.project(centres)
        if not self._seen(pixels, margin=float(sizes.max())):
            return
        inks = self.light.on(colours, None, z).clip(0, 255)
        places = np.rint(pixels).astype(int).clip(-9999, 9999).tolist()
        for place, size, ink in zip(places, np.rint(sizes).astype(int).tolist(), inks.tolist(), strict=True):
            cv2.circle(self.board, place, max(size, 1), (*ink, label), cv2.FILLED)
            cv2.circle(self.material, place, max(size, 1), material, cv2.FILLED)

    def ball(self, centre: np.ndarray, radius: float, colour: Colour, label: int, material: int = SMOOTH) -> None:
        """One disc that faces the camera."""
        self.balls(centre[None], np.array([radius]), colour[None], label, material)

    def darken(self, shadows: Sequence[tuple[np.ndarray, float]]) -> None:
        """Darkens what is drawn so far below polygons on the ground (n×3, strength 0..1), with soft edges."""
        mask = np.zeros(self.material.shape, np.uint8)
        for points, strength in sorted(shadows, key=lambda shadow: shadow[1]):
            if points[:, 2].max() > NEAR:
                hull = cv2.convexHull(self.camera.project(points).clip(-9999, 9999).astype(np.float32))
                cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), round(255 * strength))
        mask[self.board[..., 3] == 23] = 0  # the sky takes no shadow
        mask = cv2.blur(mask, (5, 5))
        for channel in range(3):
            self.board[..., channel] = cv2.multiply(self.board[..., channel], 255 - mask, scale=1 / 255)


def _ink(colour: Colour, label: int) -> tuple[float, float, float, int]:
    red, green, blue = colour.tolist()
    return min(max(red, 0.0), 255.0), min(max(green, 0.0), 255.0), min(max(blue, 0.0), 255.0), label


def board_size(height: int, width: int) -> tuple[int, int]:
    """Size of the drawing board for a picture of this size."""
    return height * _SUPERSAMPLE, width * _SUPERSAMPLE


def _area(corners: np.ndarray) -> float:
    """Twice the signed area; positive for corners that run counter-clockwise on screen (rows grow downwards)."""
    x, y = corners.T.tolist()
    return sum(y[i - 1] * x[i] - x[i - 1] * y[i] for i in range(len(x)))


Fractions = np.ndarray | float


def patch(quad: np.ndarray, u0: Fractions, u1: Fractions, v0: Fractions, v1: Fractions) -> np.ndarray:
    """Sub-quads (m×4×3) of a quad (4×3: origin, u end, opposite, v end) between fractions u0..u1, v0..v1 (m or one)."""
    u = np.empty((max(np.size(u0), np.size(v0)), 4, 1))
    v = np.empty_like(u)
    u[:, 0, 0] = u[:, 3, 0] = u0
    u[:, 1, 0] = u[:, 2, 0] = u1
    v[:, 0, 0] = v[:, 1, 0] = v0
    v[:, 2, 0] = v[:, 3, 0] = v1
    low, high = quad[0] + u * (quad[1] - quad[0]), quad[3] + u * (quad[2] - quad[3])
    return low + v * (high - low)


def upright(a: tuple[float, float], b: tuple[float, float], low: float, high: float) -> np.ndarray:
    """A standing quad over the ground segment a → b (x, z each) between two heights."""
    return np.array([[a[0], low, a[1]], [b[0], low, b[1]], [b[0], high, b[1]], [a[0], high, a[1]]])


def finish(painter: Painter, blur: float, grain: float) -> tuple[np.ndarray, np.ndarray]:
    """Texture, lens and sensor: the finished photograph (H×W×3 uint8) and its labels (H×W uint8).

    `blur` is the lens's standard deviation in 512ths of the width, `grain` the sensor noise's in grey levels.
    """
    camera, rng = painter.camera, painter.rng
    height, width = camera.height // _SUPERSAMPLE, camera.width // _SUPERSAMPLE
    image = cv2.resize(painter.board[..., :3], (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    label = painter.board[::_SUPERSAMPLE, ::_SUPERSAMPLE, 3].copy()
    material = painter.material[::_SUPERSAMPLE, ::_SUPERSAMPLE]
    texture = np.ones((height, width), np.float32)
    bands = [_noise(rng, rows, height, width) for rows in (12, 64, 200)] + [_ground_noise(rng, camera, height, width)]
    for amplitude, band in zip(_TEXTURE.T, bands, strict=True):
        texture += amplitude[material] * band
    image *= (1 + (texture - 1) / (1 + 60 * painter.light.density))[..., None]  # haze lowers contrast
    sigma = blur * width / 512
    if sigma > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image += rng.standard_normal(image.shape, np.float32) * grain
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), label


def _noise(rng: np.random.Generator, rows: int, height: int, width: int) -> np.ndarray:
    """Smooth noise with `rows` cells over the height, independent of the picture's size."""
    return cv2.resize(rng.standard_normal((rows, 2 * rows), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _ground_noise(rng: np.random.Generator, camera: Camera, height: int, width: int) -> np.ndarray:
    """Noise that lies on the ground plane in perspective and fades where it gets finer than a pixel."""
    tile = rng.standard_normal((256, 256), np.float32)
    tile = 0.7 * tile + 1.5 * cv2.GaussianBlur(tile, (0, 0), 2.0)
    rows = np.arange(height, dtype=np.float32)[:, None] * _SUPERSAMPLE - camera.horizon
    columns = np.arange(width, dtype=np.float32)[None] * _SUPERSAMPLE - camera.centre
    z = np.minimum(camera.focal * camera.eye / np.maximum(rows, 1.0), 200.0)
    x = columns * z / camera.focal - camera.bend * z * z
    across, along = (9 * x).astype(np.float32), np.broadcast_to(6 * z, x.shape).astype(np.float32)
    noise = cv2.remap(tile, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return noise * (np.clip(9 / z, 0, 1) ** 0.7).astype(np.float32)
