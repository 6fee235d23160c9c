"""The two sides of a procedural street: houses, gardens, parks, walls, fences, side streets and street trees."""

from __future__ import annotations

import numpy as np

from segcore.data.minicity import street
from segcore.data.minicity.actors import Pose, draw_car
from segcore.data.minicity.furniture import draw_guard_rail
from segcore.data.minicity.ground import PARKING, ROAD, SIDEWALK, TERRAIN, strip
from segcore.data.minicity.paint import ASPHALT, GRASS, PAVING
from segcore.data.minicity.palette import any_colour, lawn, leaves, masonry, pavement
from segcore.data.minicity.plan import Scene

_DISTRICTS = {  # how often each kind of block comes, in the order of _BLOCKS
    "city": (0.8, 0.04, 0.06, 0.06, 0.04),
    "suburb": (0.12, 0.6, 0.14, 0.08, 0.06),
    "green": (0.08, 0.17, 0.6, 0.05, 0.1),
    "works": (0.3, 0.1, 0.2, 0.08, 0.32),
}


def lay_sides(scene: Scene) -> None:
    """Fills both sides of the street with blocks; ground is painted at once, what stands on it is added to the plan."""
    rng = scene.rng
    district = str(rng.choice(list(_DISTRICTS)))
    for side, kerb in ((-1, -scene.left), (1, scene.right)):
        own = district if rng.random() < 0.6 else str(rng.choice(list(_DISTRICTS)))
        verge = rng.uniform(0.8, 3.0) if rng.random() < 0.3 else 0.0
        walk = rng.uniform(1.6, 5.0) if rng.random() < 0.93 else 0.0
        scene.walks[side] = (kerb + verge, kerb + verge + walk)
        _pavement(scene, side, kerb, verge, walk)
        _row(scene, side, own)
        if rng.random() < (0.75 if verge else 0.3):
            _avenue(scene, side, kerb + (verge / 2 if verge else 0.8))


def _row(scene: Scene, side: int, district: str) -> None:
    """Block after block along one side; a hero that is a block comes first."""
    rng, z = scene.rng, scene.rng.uniform(-6, 2)
    if side == scene.hero_side and scene.hero in ("wall", "fence", "terrain"):
        z, end = 2.0, rng.uniform(18, 32)
        _park(scene, side, z, min(end, scene.end - 2), "none" if scene.hero == "terrain" else scene.hero)
        z = end
    while z < scene.end - 3:
        kind = str(rng.choice(list(_BLOCKS), p=_DISTRICTS[district]))
        lay, shortest, longest = _BLOCKS[kind]
        end = z + rng.uniform(shortest, longest)
        lay(scene, side, z, min(end, scene.end - 2))
        z = end


def _pavement(scene: Scene, side: int, kerb: float, verge: float, walk: float) -> None:
    rng = scene.rng
    grass, paving = lawn(rng), pavement(rng)
    outer = kerb + verge + walk
    if verge:
        strip(scene.painter, (side * kerb, side * (kerb + verge)), (1, scene.end), grass, TERRAIN, GRASS)
    if walk:
        strip(scene.painter, (side * (kerb + verge), side * outer), (1, scene.end), paving, SIDEWALK, PAVING)
        if rng.random() < 0.5:
            for z in np.arange(2.0, 30.0, rng.uniform(0.8, 2.0)):  # joints of the slabs
                strip(
                    scene.painter, (side * (kerb + verge), side * outer), (z, z + 0.05), paving * 0.8, SIDEWALK, PAVING
                )
        strip(scene.painter, (side * kerb, side * (kerb + 0.18)), (1, scene.end), paving * 1.2, SIDEWALK, PAVING)


def _building(scene: Scene, side: int, z0: float, z1: float) -> None:
    rng, outer = scene.rng, scene.walks[side][1]
    x, height = side * (outer + max(0.0, rng.normal(0, 0.8))), rng.uniform(5, 22)
    if z1 - z0 > 2:
        _house_at(scene, side, x, z0, z1, height, rng.random() < 0.35)


def _house_at(scene: Scene, side: int, x: float, z0: float, z1: float, height: float, gabled: bool) -> None:
    scene.add(z1, x, street.draw_building, side, x, z0, z1, height, int(scene.rng.integers(1 << 30)), gabled)
    ground = np.array([[x, 0, z0], [x + side * 10, 0, z0], [x + side * 10, 0, z1], [x, 0, z1]])
    scene.cast(ground, height)


def _house(scene: Scene, side: int, z0: float, z1: float) -> None:
    rng, outer = scene.rng, scene.walks[side][1]
    setback, drive = rng.uniform(2.5, 7), rng.uniform(1, 3)
    strip(scene.painter, (side * outer, side * (outer + 25)), (z0, z1), lawn(rng), TERRAIN, GRASS)
    _house_at(scene, side, side * (outer + setback), z0 + drive, z1 - drive, rng.uniform(4.5, 8.5), rng.random() < 0.8)
    boundary = str(rng.choice(["wall", "fence", "hedge", "none"], p=[0.12, 0.22, 0.3, 0.36]))
    _boundary(scene, side, outer + 0.2, z0, z1 - drive, boundary, rng.uniform(0.8, 1.5))
    for _ in range(rng.integers(0, 4)):
        pose = Pose(side * (outer + rng.uniform(0.8, setback)), rng.uniform(z0, z1), 0.0)
        _plant(scene, pose, rng.random() < 0.4)


def _plant(scene: Scene, pose: Pose, tree: bool) -> None:
    rng = scene.rng
    if pose.z < 8 and abs(pose.x) < 10:  # a crown this near would hide the street
        return
    if tree:
        tall = rng.uniform(5, 12)
        scene.stand(pose, (0.8, 0.8, 0.9 * tall), street.draw_tree, tall, leaves(rng))
    else:
        size = rng.uniform(0.8, 2.4)
        scene.stand(pose, (0.9, 0.9, size), street.draw_bush, size, leaves(rng))


def _park(scene: Scene, side: int, z0: float, z1: float, shown: str = "") -> None:
    """A green with trees and bushes; `shown` says what bounds it, otherwise chance does."""
    rng, outer = scene.rng, scene.walks[side][1]
    strip(scene.painter, (side * outer, side * (outer + 45)), (z0, z1), lawn(rng), TERRAIN, GRASS)
    boundary, height = (
        str(rng.choice(["wall", "fence", "hedge", "rail", "none"], p=[0.16, 0.2, 0.16, 0.05, 0.43])),
        rng.uniform(1.0, 2.6),
    )
    if shown:
        boundary, height = shown, rng.uniform(1.5, 2.8)
    _boundary(scene, side, outer + 0.3, z0, z1, boundary, height)
    if rng.random() < 0.5:
        _house_at(scene, side, side * (outer + rng.uniform(14, 30)), z0, z1, rng.uniform(5, 16), rng.random() < 0.5)
    for _ in range(rng.integers(2, 9)):
        _plant(scene, Pose(side * (outer + rng.uniform(2.5, 18)), rng.uniform(z0, z1), 0.0), rng.random() < 0.65)


def _gap(scene: Scene, side: int, z0: float, z1: float) -> None:
    edge = scene.walks[side][1]
    kerb = scene.right if side > 0 else -scene.left
    strip(scene.painter, (side * (kerb - 0.2), side * (edge + 60)), (z0, z1), scene.asphalt, ROAD, ASPHALT)


def _lot(scene: Scene, side: int, z0: float, z1: float) -> None:
    """A yard with parked cars in front of a hall, open or behind a wall or fence."""
    rng, outer = scene.rng, scene.walks[side][1]
    colour = scene.asphalt * rng.uniform(0.85, 1.3)
    strip(scene.painter, (side * outer, side * (outer + 40)), (z0, z1), colour, PARKING, ASPHALT)
    _house_at(scene, side, side * (outer + rng.uniform(9, 16)), z0, z1, rng.uniform(4, 12), False)
    closed = rng.random() < 0.55
    if closed:
        _boundary(scene, side, outer + 0.2, z0, z1, str(rng.choice(["wall", "fence"])), rng.uniform(1.2, 3.0))
    for z in np.arange(z0 + 1.5, z1 - 1.5, 2.7):
        if rng.random() < 0.55 and z > 4:
            pose = Pose(side * (outer + 3.2), float(z), np.pi / 2 * rng.choice([-1, 1]))
            scene.stand(pose, (4.5, 1.8, 1.5), draw_car, any_colour(rng, 0.4), int(rng.integers(5)))


def _boundary(scene: Scene, side: int, distance: float, z0: float, z1: float, kind: str, height: float) -> None:
    """What separates a plot from the pavement, in pieces short enough to be sorted by depth."""
    rng, x = scene.rng, side * distance
    colour, material = masonry(rng)
    paint, style, hedge = any_colour(rng, 0.5), int(rng.integers(3)), leaves(rng)
    z0, step = max(z0, 1.2), 3.0
    for z in np.arange(z0, max(z1 - 1.0, z0 + 0.1), step):
        end, middle = min(z + step, z1), float(z) + step / 2
        if kind == "wall":
            scene.add(middle, x, street.draw_wall, x, float(z), end, height, colour, material)
        elif kind == "fence":
            scene.add(middle, x, street.draw_fence, x, float(z), end, height, paint, style)
        elif kind == "rail":
            scene.add(middle, x, draw_guard_rail, x, float(z), end, paint)
        elif kind == "hedge":
            for shift in (0.5, 1.5, 2.5):
                scene.add(z + shift, x, street.draw_bush, Pose(x, float(z) + shift, 0.0), height * 0.9, hedge)


def _avenue(scene: Scene, side: int, distance: float) -> None:
    rng, colour = scene.rng, leaves(scene.rng)
    spacing, tall = rng.uniform(6, 14), rng.uniform(5, 11)
    for z in np.arange(rng.uniform(8, 16), scene.end - 4, spacing):
        if rng.random() < 0.85:
            pose = Pose(side * distance, float(z), 0.0)
            if scene.free(pose, 0.5, 0.5):
                scene.stand(pose, (0.5, 0.5, 0.7 * tall), street.draw_tree, tall * rng.uniform(0.85, 1.15), colour)


_BLOCKS = {  # how each kind is laid, and its least and greatest length in metres
    "building": (_building, 8, 22),
    "house": (_house, 10, 18),
    "park": (_park, 10, 30),
    "gap": (_gap, 6, 9),
    "lot": (_lot, 10, 30),
}
