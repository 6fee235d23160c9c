"""Pedestrians, cycles and their riders in the procedural street scenes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from segcore.data.minicity.actors import BICYCLE, MOTORCYCLE, PERSON, RIDER, Pose
from segcore.data.minicity.paint import CLOTH, METAL, SMOOTH, Painter
from segcore.data.minicity.palette import any_colour

_BLACK, _STEEL = np.array([24.0, 24, 26]), np.array([140.0, 142, 146])


def draw_person(painter: Painter, pose: Pose, tall: float, label: int = PERSON) -> None:
    """A walking or standing figure `tall` metres high: legs, coat or shirt, arms, head, perhaps a bag or a skirt."""
    rng, s = painter.rng, tall / 1.75
    top, trousers = any_colour(rng, 0.5), any_colour(rng, 0.3) * 0.8
    skin = np.array([205.0, 160, 130]) * rng.uniform(0.4, 1.1)
    stride, broad = rng.uniform(0.02, 0.32) * s, rng.uniform(0.85, 1.2) * s
    hip, shoulder = 0.88 * s, 1.43 * s
    for side in (-1, 1):
        foot, joint = pose.at(side * stride, side * 0.1 * s, 0.05 * s), pose.at(0, side * 0.09 * s, hip)
        painter.limb(joint, foot, 0.085 * broad, trousers, label)
        painter.limb(foot, foot + (pose.at(0.12, 0, 0) - pose.at(0, 0, 0)) * s, 0.05 * s, _BLACK, label)
    _arm(painter, pose, -1, stride, broad, s, top * 0.85, skin, label)
    hem = 0.5 * s if rng.random() < 0.35 else 0.85 * s
    sides = np.array([-0.2, 0.2, 0.24, -0.24]) * broad
    ups = np.array([hem, hem, shoulder, shoulder])
    torso = (
        pose.place(np.zeros(4), sides, ups)
        if abs(np.sin(pose.yaw)) < 0.7
        else pose.place(sides * 0.75, np.zeros(4), ups)
    )
    painter.face(torso, top, label, CLOTH)
    painter.limb(pose.at(0, -0.16 * broad, shoulder), pose.at(0, 0.16 * broad, shoulder), 0.08 * s, top, label)
    _arm(painter, pose, 1, -stride, broad, s, top * 0.92, skin, label)
    if rng.random() < 0.3:
        bag = pose.at(-0.15 * s, rng.choice([-0.1, 0.25]) * s, rng.uniform(0.8, 1.25) * s)
        painter.ball(bag, 0.19 * s, any_colour(rng, 0.6), label, CLOTH)
    head = pose.at(0.02, 0, 1.63 * s)
    painter.limb(pose.at(0, 0, 1.45 * s), head, 0.055 * s, skin, label, SMOOTH)
    painter.ball(head, 0.125 * s, skin, label)
    hair = any_colour(rng, 0.4) * rng.uniform(0.2, 0.8)
    painter.ball(head + np.array([0, 0.04 * s, 0]), 0.115 * s, hair, label)
    if np.cos(pose.yaw) < 0.3:  # the face shows
        painter.ball(head - np.array([0, 0.04 * s, 0]), 0.09 * s, skin, label)


def _arm(
    painter: Painter,
    pose: Pose,
    side: int,
    swing: float,
    broad: float,
    s: float,
    sleeve: np.ndarray,
    skin: np.ndarray,
    label: int,
) -> None:
    elbow, hand = (
        pose.at(swing * 0.3, side * 0.29 * broad, 1.13 * s),
        pose.at(swing * 0.9, side * 0.29 * broad, 0.86 * s),
    )
    painter.limb(pose.at(0, side * 0.24 * broad, 1.41 * s), elbow, 0.06 * s, sleeve, label)
    painter.limb(elbow, hand, 0.05 * s, sleeve, label)
    painter.ball(hand, 0.05 * s, skin, label)


def _ring(painter: Painter, pose: Pose, along: float, radius: float, width: float, label: int, filled: bool) -> None:
    """A wheel: a tyre of short bars, and a disc within if `filled` (else the background shows through)."""
    angle = np.linspace(0, 2 * np.pi, 15)
    rim = pose.place(along + radius * np.cos(angle), np.zeros(15), radius + width + radius * np.sin(angle))
    if filled:
        painter.face(rim[:-1], np.array([95.0, 96, 98]), label)
    for a, b in pairwise(rim):
        painter.limb(a, b, width, _BLACK, label, SMOOTH)


def draw_bicycle(painter: Painter, pose: Pose, ridden: bool) -> None:
    """Two wheels, a diamond frame, saddle and handlebar, with a rider on top if `ridden`."""
    rng = painter.rng
    frame = any_colour(rng, 0.6)
    for along in (-0.52, 0.52):
        _ring(painter, pose, along, 0.33, 0.035, BICYCLE, filled=rng.random() < 0.5)
    crank, seat, head = pose.at(-0.08, 0, 0.3), pose.at(-0.25, 0, 0.85), pose.at(0.4, 0, 0.88)
    rear, front = pose.at(-0.52, 0, 0.36), pose.at(0.52, 0, 0.36)
    for a, b in ((rear, crank), (rear, seat), (seat, crank), (crank, head), (seat, head), (head, front)):
        painter.limb(a, b, 0.035, frame, BICYCLE, METAL)
    painter.limb(pose.at(-0.37, 0, 0.93), pose.at(-0.15, 0, 0.93), 0.05, _BLACK, BICYCLE)
    painter.limb(pose.at(0.38, -0.28, 1.0), pose.at(0.38, 0.28, 1.0), 0.03, _BLACK, BICYCLE)
    if rng.random() < 0.3:
        painter.limb(pose.at(0.55, -0.1, 0.88), pose.at(0.55, 0.1, 0.88), 0.14, any_colour(rng) * 0.7, BICYCLE)
    if ridden:
        _draw_rider(
            painter, pose, seat=(-0.22, 0.98), grip=(0.36, 0.25, 1.03), foot=(-0.02, 0.16), helmet=rng.random() < 0.5
        )


def draw_motorcycle(painter: Painter, pose: Pose, ridden: bool) -> None:
    """Thick wheels, engine block, tank and seat, fork with a lamp; `ridden` adds a rider with a helmet."""
    rng = painter.rng
    paint = any_colour(rng, 0.7)
    for along in (-0.68, 0.68):
        _ring(painter, pose, along, 0.25, 0.075, MOTORCYCLE, filled=True)
    painter.limb(pose.at(-0.15, 0, 0.42), pose.at(0.2, 0, 0.42), 0.2, _BLACK * 2.2, MOTORCYCLE, METAL)
    painter.limb(pose.at(-0.6, 0.16, 0.35), pose.at(0.1, 0.16, 0.3), 0.06, _STEEL, MOTORCYCLE, METAL)
    painter.limb(pose.at(-0.85, 0, 0.72), pose.at(-0.1, 0, 0.74), 0.12, _BLACK, MOTORCYCLE)
    painter.limb(pose.at(0.02, 0, 0.8), pose.at(0.3, 0, 0.85), 0.17, paint, MOTORCYCLE, METAL)
    painter.limb(pose.at(0.68, 0, 0.33), pose.at(0.42, 0, 0.98), 0.06, _STEEL, MOTORCYCLE, METAL)
    painter.limb(pose.at(0.5, 0, 0.72), pose.at(0.5, 0, 0.95), 0.15, paint * 0.8, MOTORCYCLE, METAL)
    painter.limb(pose.at(0.4, -0.36, 1.04), pose.at(0.4, 0.36, 1.04), 0.035, _BLACK, MOTORCYCLE)
    lamp = pose.at(0.62, 0, 0.88) if np.cos(pose.yaw) < 0 else pose.at(-0.92, 0, 0.7)
    painter.ball(
        lamp, 0.08, np.array([245.0, 240, 210]) if np.cos(pose.yaw) < 0 else np.array([200.0, 25, 25]), MOTORCYCLE
    )
    if ridden:
        _draw_rider(painter, pose, seat=(-0.3, 0.88), grip=(0.36, 0.34, 1.06), foot=(0.05, 0.24), helmet=True)


def _draw_rider(
    painter: Painter,
    pose: Pose,
    seat: tuple[float, float],
    grip: tuple[float, float, float],
    foot: tuple[float, float],
    helmet: bool,
) -> None:
    """A seated figure: thighs and shins, a leaning torso, arms to the handlebar, head or helmet."""
    rng = painter.rng
    jacket, trousers, skin = (
        any_colour(rng, 0.5),
        any_colour(rng, 0.3) * 0.8,
        np.array([205.0, 160, 130]) * rng.uniform(0.5, 1.1),
    )
    lean, up = rng.uniform(0.1, 0.3), seat[1] + 0.52
    for side, lift in ((-1, 0.25), (1, 0.0)):
        knee = pose.at(seat[0] + 0.42, side * 0.16, seat[1] - 0.3 + lift * 0.6)
        ankle = pose.at(foot[0], side * foot[1], 0.14 + lift)
        painter.limb(pose.at(seat[0], side * 0.1, seat[1]), knee, 0.095, trousers, RIDER)
        painter.limb(knee, ankle, 0.075, trousers * 0.95, RIDER)
        painter.limb(ankle, pose.at(foot[0] + 0.14, side * foot[1], 0.12 + lift), 0.05, _BLACK, RIDER)
    chest = seat[0] + lean
    for across in (-0.1, 0.0, 0.1):
        painter.limb(pose.at(seat[0], across, seat[1] + 0.05), pose.at(chest, across * 1.4, up), 0.15, jacket, RIDER)
    for side in (-1, 1):
        elbow = pose.at((chest + grip[0]) / 2, side * (grip[1] + 0.08), (up + grip[2]) / 2 - 0.08)
        painter.limb(pose.at(chest, side * 0.22, up - 0.02), elbow, 0.065, jacket * 0.88, RIDER)
        painter.limb(elbow, pose.at(grip[0], side * grip[1], grip[2]), 0.055, jacket * 0.88, RIDER)
    head = pose.at(chest + 0.08, 0, up + 0.27)
    painter.ball(head, 0.125, skin, RIDER)
    painter.ball(
        head + np.array([0, 0.05, 0]), 0.14 if helmet else 0.12, any_colour(rng, 0.6) * (1.0 if helmet else 0.4), RIDER
    )
