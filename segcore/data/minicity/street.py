"""What lines the procedural streets: buildings, trees and bushes, walls and fences."""

from __future__ import annotations

import numpy as np

from segcore.data.minicity.actors import Pose
from segcore.data.minicity.paint import BRICK, LEAF, METAL, PLASTER, Colour, Painter, patch, upright
from segcore.data.minicity.palette import any_colour, masonry

BUILDING, WALL, FENCE, VEGETATION = 11, 12, 13, 21


def _panels(painter: Painter, quad: np.ndarray, colour: Colour, label: int, material: int, step: float = 5.0) -> None:
    """A standing quad in pieces of about `step` metres, so that it follows the bend of the road."""
    length = np.linalg.norm(quad[1] - quad[0])
    edges = np.linspace(0, 1, max(int(length / step), 1) + 1)
    for piece in patch(quad, edges[:-1], edges[1:], 0.0, 1.0)[::-1]:
        painter.face(piece, colour, label, material)


def draw_facade(painter: Painter, a: tuple[float, float], b: tuple[float, float], height: float, seed: int) -> None:
    """One wall of a building from a to b (x, z; metres) with floors of windows; equal seeds give equal styles."""
    rng, quad = np.random.default_rng(seed), upright(a, b, 0.0, height)
    if not painter.sees(quad):
        return
    colour, material = masonry(rng)
    storey, bay = rng.uniform(2.8, 3.6), rng.uniform(1.6, 4.0)
    _panels(painter, quad, colour, BUILDING, material)
    length = float(np.hypot(b[0] - a[0], b[1] - a[1]))
    floors, bays = max(int(height / storey), 1), max(int(length / bay), 1)
    if length < 1.5:
        return
    lighter = colour * rng.uniform(0.6, 1.35)
    if rng.random() < 0.5:  # ledges between the floors
        lines = np.arange(1, floors + 1) * storey / height
        painter.patches(
            patch(quad, np.full(floors, 0.0), np.full(floors, 1.0), lines - 0.25 / height, np.minimum(lines, 1.0)),
            lighter,
            BUILDING,
            material,
        )
    _windows(painter, rng, quad, floors, bays, storey / height, lighter)
    _ground_floor(painter, rng, quad, bays, storey / height)


def _windows(
    painter: Painter, rng: np.random.Generator, quad: np.ndarray, floors: int, bays: int, rise: float, frame: Colour
) -> None:
    """The grid of windows above the ground floor, some bright, some dark, some with curtains."""
    wide, tall, sill = rng.uniform(0.35, 0.85), rng.uniform(0.4, 0.7), rng.uniform(0.15, 0.28)
    column, row = (grid.ravel() for grid in np.meshgrid(np.arange(bays), np.arange(1, floors)))
    if len(column) == 0:
        return
    u0, v0 = (column + 0.5 - wide / 2) / bays, (row + sill) * rise
    u1, v1 = u0 + wide / bays, np.minimum(v0 + tall * rise, 0.985)
    margin = 0.08 * wide / bays
    if rng.random() < 0.7:
        painter.patches(patch(quad, u0 - margin, u1 + margin, v0 - 0.04 * rise, v1 + 0.04 * rise), frame, BUILDING)
    glass = np.array([40.0, 46, 54]) + painter.light.haze * rng.uniform(0, 0.5)
    shades = [
        glass,
        glass * 0.6 + 10,
        np.array([150.0, 146, 138]),
        np.array([255.0, 214, 130]) * (1.6 if painter.light.dusk else 0.7),
    ]
    kind = rng.choice(4, len(column), p=[0.5, 0.3, 0.15, 0.05] if not painter.light.dusk else [0.4, 0.25, 0.1, 0.25])
    for i, shade in enumerate(shades):
        painter.patches(patch(quad, u0, u1, v0, v1)[kind == i], shade, BUILDING)
    middle = (u0 + u1) / 2
    painter.patches(patch(quad, middle - margin / 2, middle + margin / 2, v0, v1), frame, BUILDING)


def _ground_floor(painter: Painter, rng: np.random.Generator, quad: np.ndarray, bays: int, rise: float) -> None:
    """Shops with awnings and name boards, or doors and plain windows."""
    shops = rng.random() < 0.5
    for i in range(bays):
        u0, u1 = (i + 0.12) / bays, (i + 0.88) / bays
        if shops:
            painter.patches(
                patch(quad, u0, u1, 0.04 * rise, 0.68 * rise),
                np.array([60.0, 62, 66]) * rng.uniform(0.5, 2.2),
                BUILDING,
            )
            if rng.random() < 0.7:
                painter.patches(patch(quad, u0, u1, 0.72 * rise, 0.92 * rise), any_colour(rng, 0.9), BUILDING)
        elif rng.random() < 0.3:
            painter.patches(
                patch(quad, (i + 0.3) / bays, (i + 0.65) / bays, 0.0, 0.75 * rise), any_colour(rng, 0.5) * 0.6, BUILDING
            )
        else:
            painter.patches(
                patch(quad, (i + 0.25) / bays, (i + 0.75) / bays, 0.3 * rise, 0.75 * rise),
                np.array([52.0, 58, 66]),
                BUILDING,
            )


def draw_building(
    painter: Painter, side: int, x: float, z0: float, z1: float, height: float, seed: int, gabled: bool
) -> None:
    """A house on one side (−1 left, 1 right) with its front at lateral distance x from the camera, from z0 to z1."""
    back = x + side * 11.0
    draw_facade(painter, (x, z0), (back, z0), height, seed)
    draw_facade(painter, (x, z0), (x, z1), height, seed)
    if not gabled:
        return
    colour, ridge = (
        np.random.default_rng(seed + 1).choice([[125, 66, 52], [84, 80, 80], [108, 92, 80]]).astype(float),
        height + 3.0,
    )
    middle = (x + back) / 2
    slope = np.array(
        [[x - side * 0.4, height, z0], [x - side * 0.4, height, z1], [middle, ridge, z1], [middle, ridge, z0]]
    )
    painter.face(slope, colour, BUILDING, BRICK)
    painter.face(
        np.array([[x, height, z0], [back, height, z0], [middle, ridge, z0]]),
        masonry(np.random.default_rng(seed))[0],
        BUILDING,
        PLASTER,
    )


def draw_foliage(
    painter: Painter, centre: np.ndarray, width: float, height: float, clumps: int, colour: Colour
) -> None:
    """An irregular mass of leaves: clumps lit from the sun's side, dark ones below and behind."""
    rng, sun = painter.rng, painter.light.sun
    offsets = rng.normal(0, 0.45, (clumps, 3))
    offsets /= np.maximum(1, np.linalg.norm(offsets, axis=1, keepdims=True) / 0.85)
    offsets = offsets[np.argsort(offsets @ np.array([0.5 * sun[0], 0.8, -0.4]))]
    tones = (0.85 + 0.45 * offsets[:, 1] + 0.25 * offsets[:, 0] * sun[0]) * rng.uniform(0.8, 1.2, clumps)
    places = centre + offsets * np.array([width / 2, height / 2, 0.3])
    radii = width * rng.uniform(0.6, 1.3, clumps) / np.sqrt(clumps)
    painter.balls(places, radii, colour * tones[:, None], VEGETATION, LEAF)


def draw_tree(painter: Painter, pose: Pose, tall: float, colour: Colour) -> None:
    """A trunk with a few boughs and a crown; conifers are narrow and reach the ground."""
    rng = painter.rng
    bark = np.array([92.0, 80, 68]) * rng.uniform(0.5, 1.2)
    if rng.random() < 0.15:
        for share in np.linspace(0.15, 0.95, 9):
            layer = pose.at(0, 0, share * tall)
            draw_foliage(painter, layer, 0.42 * tall * (1.08 - share), 0.22 * tall, 9, colour * (0.7 + 0.3 * share))
        return
    fork = pose.at(0, 0, rng.uniform(0.28, 0.42) * tall)
    painter.limb(pose.at(0, 0, 0), fork, rng.uniform(0.018, 0.032) * tall, bark, VEGETATION, PLASTER)
    for _ in range(5):
        tip = pose.at(0, rng.uniform(-0.3, 0.3) * tall, rng.uniform(0.6, 0.95) * tall)
        painter.limb(fork, tip, 0.01 * tall, bark, VEGETATION, PLASTER)
    broad = rng.uniform(0.55, 0.85) * tall
    draw_foliage(painter, pose.at(0, 0, 0.68 * tall), broad, 0.68 * tall, 90 if pose.z < 30 else 25, colour)


def draw_bush(painter: Painter, pose: Pose, size: float, colour: Colour) -> None:
    """A bush that stands on the ground."""
    draw_foliage(painter, pose.at(0, 0, 0.42 * size), 1.3 * size, 0.95 * size, 22, colour)


def draw_wall(painter: Painter, x: float, z0: float, z1: float, height: float, colour: Colour, material: int) -> None:
    """A free-standing wall along the road, with a coping."""
    quad = upright((x, z0), (x, z1), 0.0, height)
    _panels(painter, quad, colour, WALL, material, 3.0)
    painter.patches(patch(quad, 0.0, 1.0, 1 - 0.16 / height, 1.0), colour * 1.2, WALL, material)
    painter.patches(patch(quad, np.array([0.0, 0.5]), np.array([0.03, 0.53]), 0.0, 1.0), colour * 0.82, WALL, material)


def draw_fence(painter: Painter, x: float, z0: float, z1: float, height: float, colour: Colour, kind: int) -> None:
    """A fence along the road: pickets (0), wire mesh (1), or boards (2); what shows through is labelled fence."""
    quad = upright((x, z0), (x, z1), 0.0, height)
    posts = np.linspace(0, 1, 7)[:-1]
    if kind == 2:
        _panels(painter, quad, colour, FENCE, PLASTER, 3.0)
        painter.patches(patch(quad, posts, posts + 0.02, 0.0, 1.0), colour * 0.6, FENCE)
        return
    painter.relabel(quad, FENCE)
    gap = 14 if kind == 0 else 9
    stakes = np.linspace(0, 1, gap + 1)[:-1]
    painter.patches(patch(quad, stakes, stakes + (0.034 if kind == 0 else 0.02), 0.0, 0.97), colour, FENCE, METAL)
    rails = np.array([0.12, 0.82]) if kind == 0 else np.linspace(0.05, 0.93, 5)
    painter.patches(
        patch(quad, np.zeros(len(rails)), np.ones(len(rails)), rails, rails + 0.055), colour * 0.85, FENCE, METAL
    )
