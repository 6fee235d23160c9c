"""Street furniture of the procedural scenes: poles, signs, lights, bins, guard rails, carts, bridges."""

from __future__ import annotations

import numpy as np

from segcore.data.minicity.actors import Pose
from segcore.data.minicity.paint import CLOTH, METAL, PLASTER, SMOOTH, Colour, Painter, patch, upright
from segcore.data.minicity.palette import any_colour

STATIC, DYNAMIC, GUARD_RAIL, BRIDGE, POLE, POLEGROUP, TRAFFIC_LIGHT, TRAFFIC_SIGN = 4, 5, 14, 15, 17, 18, 19, 20
_STEEL, _DARK = np.array([135.0, 138, 140]), np.array([52.0, 55, 58])


def draw_pole(painter: Painter, pose: Pose, tall: float, radius: float, colour: Colour, arm: float = 0.0) -> None:
    """A mast; with an arm (metres, signed) it is a street lamp."""
    painter.limb(pose.at(0, 0, 0), pose.at(0, 0, tall), radius, colour, POLE, METAL)
    painter.limb(pose.at(0, 0, 0), pose.at(0, 0, min(0.12 * tall, 0.8)), 1.4 * radius, colour * 0.9, POLE, METAL)
    if arm:
        tip = pose.at(0, arm, tall + 0.3)
        painter.limb(pose.at(0, 0, tall), tip, 0.7 * radius, colour, POLE, METAL)
        lamp = np.array([255.0, 225, 150]) * 1.5 if painter.light.dusk else colour * 1.3
        painter.limb(tip, pose.at(0, arm * 1.25, tall + 0.3), 1.4 * radius, lamp, POLE)


def draw_pole_group(painter: Painter, pose: Pose, tall: float, colour: Colour) -> None:
    """Several thin masts side by side."""
    for across in (-0.3, 0.0, 0.3):
        painter.limb(pose.at(0, across, 0), pose.at(0, across, tall), 0.05, colour, POLEGROUP, METAL)
    painter.limb(pose.at(0, -0.4, 0.8 * tall), pose.at(0, 0.4, 0.8 * tall), 0.05, colour * 0.8, POLEGROUP, METAL)


def draw_guard_rail(painter: Painter, x: float, z0: float, z1: float, colour: Colour) -> None:
    """A crash barrier along the road: posts and a bright band."""
    quad = upright((x, z0), (x, z1), 0.0, 0.8)
    painter.patches(
        patch(quad, np.array([0.1, 0.6]), np.array([0.14, 0.64]), 0.0, 0.8), colour * 0.6, GUARD_RAIL, METAL
    )
    for low, high, tone in ((0.5, 1.0, 1.0), (0.68, 0.8, 0.7)):
        painter.patches(patch(quad, 0.0, 1.0, low, high), colour * tone, GUARD_RAIL, METAL)


def draw_cart(painter: Painter, pose: Pose, colour: Colour) -> None:
    """A pram or hand cart: moves, but belongs to no evaluated class (dynamic)."""
    tub = pose.place(np.array([-0.4, 0.4, 0.5, -0.5]), np.zeros(4), np.array([0.35, 0.35, 0.95, 0.75]))
    painter.face(tub, colour, DYNAMIC, CLOTH)
    painter.limb(pose.at(-0.5, 0, 0.75), pose.at(-0.75, 0, 1.05), 0.03, _DARK, DYNAMIC)
    for along in (-0.3, 0.3):
        painter.ball(pose.at(along, 0, 0.17), 0.16, _DARK * 0.6, DYNAMIC)


def draw_sign(painter: Painter, pose: Pose, kind: int, size: float, low: float) -> None:
    """A traffic sign: disc (0), triangle (1), rectangle (2), diamond (3), octagon (4) or wide board (5)."""
    rng = painter.rng
    rims = np.array([[190, 32, 36], [28, 70, 160], [228, 226, 220], [232, 190, 40], [26, 110, 66]], float)
    rim, inner, ink = rims[rng.integers(5)] * rng.uniform(0.75, 1.0), rims[rng.integers(5)], any_colour(rng, 0.3) * 0.4
    turns = {0: 16, 1: 3, 3: 4, 4: 8}
    middle, half = low + size / 2, size / 2
    draw_pole(painter, Pose(pose.x, pose.z + 0.05, 0.0), middle, 0.05, _STEEL * rng.uniform(0.6, 1.2))
    if kind in turns:
        start = np.pi / 8 if kind == 4 else np.pi / 2
        angle = start + np.linspace(0, 2 * np.pi, turns[kind] + 1)[:-1]
        outline = np.stack([half * np.cos(angle), half * np.sin(angle)], axis=-1)
    else:
        broad = 2.2 if kind == 5 else rng.uniform(0.7, 1.0)
        outline = np.array([[-half * broad, -half], [half * broad, -half], [half * broad, half], [-half * broad, half]])
    for scale, colour in ((1.0, rim), (0.76, inner)):
        plate = pose.place(np.zeros(len(outline)), scale * outline[:, 0], middle + scale * outline[:, 1])
        painter.face(plate, colour, TRAFFIC_SIGN)
    for bar in rng.uniform(-0.3, 0.3, (2, 2)):
        painter.limb(
            pose.at(0, -0.2 * size, middle + bar[0] * size),
            pose.at(0, 0.2 * size, middle + bar[1] * size),
            0.05 * size,
            ink,
            TRAFFIC_SIGN,
            SMOOTH,
        )


def draw_traffic_light(painter: Painter, pose: Pose, tall: float, arm: float) -> None:
    """Signal heads with three lamps, on the mast and, with an arm (metres, signed), over the lane."""
    rng = painter.rng
    lit, colour = rng.integers(3), _DARK * rng.uniform(0.5, 2.2)
    draw_pole(painter, pose, tall, 0.075, _STEEL * rng.uniform(0.5, 1.2))
    heads = [(0.0, tall - 0.4)]
    if arm:
        painter.limb(pose.at(0, 0, tall + 1.6), pose.at(0, arm, tall + 1.8), 0.06, _STEEL * 0.8, POLE, METAL)
        painter.limb(pose.at(0, 0, 0), pose.at(0, 0, tall + 1.6), 0.08, _STEEL * 0.8, POLE, METAL)
        heads.append((arm, tall + 1.5))
    lamps = np.array([[40, 225, 120], [250, 180, 40], [240, 45, 40]], float)
    for across, middle in heads:
        box = pose.place(
            np.zeros(4), across + np.array([-0.26, 0.26, 0.26, -0.26]), middle + np.array([-0.65, -0.65, 0.65, 0.65])
        )
        painter.face(box - np.array([0, 0, 0.1]), colour, TRAFFIC_LIGHT)
        for i in range(3):
            glow = lamps[i] * 1.4 if i == lit else np.array([45.0, 42, 42])
            painter.ball(pose.at(-0.12, across, middle - 0.42 + 0.42 * i), 0.17, glow, TRAFFIC_LIGHT)


def draw_bin(painter: Painter, pose: Pose, size: float, colour: Colour) -> None:
    """Street furniture that belongs to no evaluated class: bins, cabinets, planters (static)."""
    for across in (-0.5, 0.0):
        shape = pose.place(
            np.zeros(4),
            np.array([across, across + 0.5, across + 0.45, across]) * size,
            np.array([0, 0, 1.2, 1.2]) * size,
        )
        painter.face(shape, colour * (1.0 + 0.3 * across), STATIC, METAL)


def draw_bridge(painter: Painter, z: float, low: float, colour: Colour) -> None:
    """A bridge across the street; the piers belong to it."""
    painter.face(upright((-70.0, z), (70.0, z), low, low + 1.8), colour, BRIDGE, PLASTER)
    painter.face(upright((-70.0, z), (70.0, z), low + 1.8, low + 2.6), colour * 0.8, BRIDGE, PLASTER)
    for x in (-14.0, 14.0):
        painter.face(upright((x - 0.9, z), (x + 0.9, z), 0.0, low), colour * 0.9, BRIDGE, PLASTER)
