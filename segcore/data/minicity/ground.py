"""The backdrop of a procedural street scene: sky, skyline, land, carriageway, and what frames the picture."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from segcore.data.minicity.paint import ASPHALT, CLOUD, GRASS, METAL, PAVING, PLASTER, SMOOTH, Colour, Painter, upright
from segcore.data.minicity.palette import any_colour, lawn, leaves, masonry, pavement
from segcore.data.minicity.plan import FAR, Scene
from segcore.data.minicity.street import BUILDING, draw_facade, draw_foliage

EGO_VEHICLE, RECTIFICATION_BORDER, OUT_OF_ROI = 1, 2, 3
GROUND, ROAD, SIDEWALK, PARKING, RAIL_TRACK, TERRAIN, SKY = 6, 7, 8, 9, 10, 22, 23


Span = tuple[float, float]


def strip(painter: Painter, across: Span, along: Span, colour: Colour, label: int, material: int) -> None:
    """A piece of ground between two lateral places and two distances; cut across so that haze and bend follow."""
    (x0, x1), z0, z1 = across, max(along[0], 1.0), min(along[1], FAR)
    if z1 <= z0:
        return
    count = max(int(np.ceil(4 * np.log(z1 / z0))), 1)
    edges = np.geomspace(z0, z1, count + 1)
    for near, far in reversed(list(pairwise(edges))):
        quad = np.array([[x0, 0, near], [x1, 0, near], [x1, 0, far], [x0, 0, far]], float)
        painter.face(quad, colour, label, material)


def paint_sky(painter: Painter) -> None:
    """A gradient from zenith to horizon with clouds."""
    light, rng, camera = painter.light, painter.rng, painter.camera
    rows = np.linspace(0, 1, 64)[:, None, None] * 64 / max(64 * camera.horizon / camera.height, 1)
    sky = light.sky_top + (light.haze - light.sky_top) * rows.clip(0, 1) ** 1.3
    field = cv2.resize(rng.standard_normal((7, 9), np.float32), (128, 64), interpolation=cv2.INTER_CUBIC)
    field += 0.5 * cv2.resize(rng.standard_normal((20, 26), np.float32), (128, 64), interpolation=cv2.INTER_CUBIC)
    cover = (np.clip(field + 2 * light.clouds - 1, 0, 1) * light.clouds)[..., None]
    tone = light.haze * (1.08 + 0.1 * field[..., None])
    sky = sky * (1 - cover) + tone * cover
    size = (camera.width, camera.height)
    painter.board[..., :3] = cv2.resize(sky.clip(0, 255).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    painter.board[..., 3] = SKY
    painter.material[:] = CLOUD


def lay_land(scene: Scene) -> None:
    """The land beyond the street and the skyline on it."""
    rng, painter = scene.rng, scene.painter
    built = rng.random() < 0.5
    colour, label, material = (pavement(rng), GROUND, PAVING) if built else (lawn(rng), TERRAIN, GRASS)
    x, green = -130.0, rng.random()
    while x < 130:
        broad = rng.uniform(6, 24)
        tall = rng.uniform(5, 22) * (0.6 + 0.4 * built)
        centre = np.array([x + broad / 2, tall / 3, FAR + 5])
        if rng.random() < green:
            draw_foliage(painter, centre, broad * 1.4, tall * 1.2, 14, leaves(rng))
        else:
            painter.face(upright((x, FAR), (x + broad, FAR), -3.0, tall), masonry(rng)[0], BUILDING, PLASTER)
        x += broad
    strip(painter, (-140, 140), (1, FAR), colour, label, material)


def lay_road(scene: Scene) -> None:
    """The carriageway with its wear and markings, the parking strips, the tram track, the crossing street."""
    rng, painter, whole = scene.rng, scene.painter, (1.0, scene.end)
    strip(painter, (scene.left, scene.right), whole, scene.asphalt, ROAD, ASPHALT)
    marking = np.array([215.0, 214, 208]) * rng.uniform(0.75, 1.1)
    for _ in range(rng.integers(0, 6)):  # repaired patches
        x, z = rng.uniform(scene.left, scene.right - 1), rng.uniform(3, 30)
        across = (x, min(x + rng.uniform(0.6, 2.5), scene.right))
        strip(painter, across, (z, z + rng.uniform(1, 8)), scene.asphalt * rng.uniform(0.75, 1.2), ROAD, ASPHALT)
    for side, kerb in ((-1, scene.left), (1, scene.right)):
        if scene.parking[side] and rng.random() < 0.4:
            colour = scene.asphalt * rng.uniform(0.85, 1.25)
            strip(painter, (kerb, kerb - side * 2.1), whole, colour, PARKING, ASPHALT)
    if scene.rails is not None:
        _lay_rails(scene, scene.rails)
    _mark_lanes(scene, marking)
    if rng.random() < 0.25:  # a zebra crossing
        z = rng.uniform(6, 24)
        for x in np.arange(scene.left + 0.4, scene.right - 0.5, 1.1):
            strip(painter, (x, x + 0.55), (z, z + 3), marking, ROAD, SMOOTH)
    if scene.end < FAR:
        _lay_closing_row(scene)


def _lay_rails(scene: Scene, centre: float) -> None:
    """A tram track on grass or paving."""
    rng, painter, whole = scene.rng, scene.painter, (1.0, scene.end)
    grassy = rng.random() < 0.3
    bed, material = (lawn(rng), GRASS) if grassy else (scene.asphalt * 1.15, PAVING)
    strip(painter, (centre - 1.7, centre + 1.7), whole, bed, RAIL_TRACK, material)
    for x in (centre - 0.75, centre + 0.75):
        strip(painter, (x - 0.07, x + 0.07), whole, scene.asphalt * 0.5, RAIL_TRACK, METAL)


def _mark_lanes(scene: Scene, marking: Colour) -> None:
    """Solid or dashed lines between neighbouring lanes; none across a tram track."""
    rng = scene.rng
    for a, b in pairwise(sorted(x for x, _ in scene.lanes)):
        if scene.rails is not None and a < scene.rails < b:
            continue
        solid, first = rng.random() < 0.3, rng.uniform(-3, 3)
        dashes = [(1.0, scene.end)] if solid else [(z, z + 3) for z in np.arange(first, scene.end - 3, 7.0)]
        for dash in dashes:
            strip(scene.painter, ((a + b) / 2 - 0.08, (a + b) / 2 + 0.08), dash, marking, ROAD, SMOOTH)


def _lay_closing_row(scene: Scene) -> None:
    """A crossing street and the houses behind it."""
    rng, end = scene.rng, scene.end
    strip(scene.painter, (-90, 90), (end - 2, end + 6), scene.asphalt, ROAD, ASPHALT)
    strip(scene.painter, (-90, 90), (end + 6, end + 9), pavement(rng), SIDEWALK, PAVING)
    x, z = -80.0, end + 9
    while x < 80:
        broad = rng.uniform(9, 22)
        scene.add(z, x, draw_facade, (x, z), (x + broad, z), rng.uniform(6, 20), int(rng.integers(1 << 30)))
        x += broad


def frame(scene: Scene) -> None:
    """The bonnet of the car with the camera, and the dark margin of a rectified picture."""
    rng, painter, camera = scene.rng, scene.painter, scene.painter.camera
    height, width = camera.height, camera.width
    if rng.random() < 0.4:
        middle, top = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.86, 0.96)
        angle, colour = np.linspace(0, np.pi, 24), any_colour(rng, 0.3) * 0.7
        for scale, tone in ((1.0, 1.0), (0.93, 1.25)):
            columns = middle + 0.62 * width * scale * np.cos(angle)
            rows = height - (height - top) * scale * np.sin(angle)
            painter.pixels([np.stack([columns, rows], axis=-1)], colour * tone, EGO_VEHICLE)
    if rng.random() < 0.3:
        label, rim = (
            int(rng.choice([RECTIFICATION_BORDER, OUT_OF_ROI])),
            max(round(width * rng.uniform(0.004, 0.012)), 2),
        )
        for box in (np.s_[:, :rim], np.s_[:, -rim:], np.s_[-rim:, :]):
            painter.board[box] = (0, 0, 0, label)
            painter.material[box] = SMOOTH
