"""Everything that moves in the procedural street scenes: cars, trucks, buses, trams, cycles, riders and pedestrians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from segcore.data.minicity.paint import METAL, SMOOTH, Colour, Painter, patch
from segcore.data.minicity.palette import any_colour

PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE = 24, 25, 26, 27, 28, 31, 32, 33
_BLACK, _GLASS = np.array([22.0, 22, 24]), np.array([45.0, 52, 60])


@dataclass(frozen=True)
class Pose:
    """Where an actor stands: its centre on the ground and its heading (0: away from the camera, radians)."""

    x: float
    z: float
    yaw: float
    y: float = 0.0

    def place(self, along: np.ndarray, across: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Actor coordinates (metres, n each) to world points n×3."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        points = np.empty((np.size(along), 3))
        points[:, 0] = self.x + along * sin + across * cos
        points[:, 1] = self.y + up
        points[:, 2] = self.z + along * cos - across * sin
        return points

    def at(self, along: float, across: float, up: float) -> np.ndarray:
        """One point of the actor in the world."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([self.x + along * sin + across * cos, self.y + up, self.z + along * cos - across * sin])


def _prism(
    painter: Painter, pose: Pose, profile: np.ndarray, half: np.ndarray, colour: Colour, label: int
) -> list[np.ndarray | None]:
    """A side view (n×2: along, up; counter-clockwise seen from its right) extruded over half widths (n).

    Returns the faces that were seen, None for the others: one per profile edge, then the right and the left side.
    """
    along, up = profile[:, 0], profile[:, 1]
    right, left = pose.place(along, half, up), pose.place(along, -half, up)
    n = len(profile)
    faces = [np.stack([right[i], left[i], left[(i + 1) % n], right[(i + 1) % n]]) for i in range(n)]
    faces += [right, left[::-1]]
    return [face if painter.face(face, colour, label, METAL, cull=True) else None for face in faces]


def _box(
    painter: Painter, pose: Pose, a0: float, a1: float, y0: float, y1: float, half: float, colour: Colour, label: int
) -> dict[str, np.ndarray]:
    """A block of an actor; its visible faces, each as lower start, lower end, upper end, upper start."""
    profile = np.array([[a0, y0], [a1, y0], [a1, y1], [a0, y1]])
    _, front, _, back, right, left = _prism(painter, pose, profile, np.full(4, half), colour, label)
    sides = {"front": front, "back": back, "right": right, "left": left}
    order = {"front": [0, 1, 2, 3], "back": [3, 2, 1, 0], "right": [0, 1, 2, 3], "left": [3, 2, 1, 0]}
    return {name: face[order[name]] for name, face in sides.items() if face is not None}


def _treads(painter: Painter, pose: Pose, axles: list[float], half: float, label: int) -> None:
    """What shows of the tyres below the body; drawn before it."""
    for along in axles:
        for side in (-half, half):
            width = side - np.sign(side) * np.array([0, 0.22, 0.22, 0])
            painter.face(pose.place(np.full(4, along), width, np.array([0, 0, 0.3, 0.3])), _BLACK, label)


def _wheels(painter: Painter, pose: Pose, axles: list[float], half: float, radius: float, label: int) -> None:
    """The wheels on the side that faces the camera; drawn after the body."""
    angle = np.linspace(0, 2 * np.pi, 13)[:-1]
    for along in axles:
        for side in (-half, half):
            rim = pose.place(along + radius * np.cos(angle), np.full(12, side), radius + radius * np.sin(angle))
            outward = pose.at(0, np.sign(side), 0) - pose.at(0, 0, 0)
            if outward @ (np.array([-painter.camera.bend * pose.z**2, 0, 0]) - rim[0]) > 0:
                painter.face(rim, _BLACK * 1.3, label)
                hub = rim.mean(axis=0)
                painter.face(hub + (rim - hub) * 0.55, np.array([130.0, 132, 135]), label)


def _lamps(painter: Painter, faces: dict[str, np.ndarray], label: int, v: float) -> None:
    """Head lamps in front, tail lamps and a number plate behind."""
    lit = 2.2 if painter.light.dusk else 1.2
    for name, colour in (("front", np.array([235.0, 235, 215])), ("back", np.array([190.0, 25, 25]))):
        if name in faces:
            pair = patch(faces[name], np.array([0.05, 0.77]), np.array([0.23, 0.95]), v, v + 0.2)
            painter.patches(pair, colour * lit, label)
            painter.patches(patch(faces[name], 0.37, 0.63, 0.12, 0.26), np.array([225.0, 225, 215]), label)


def draw_car(painter: Painter, pose: Pose, colour: Colour, kind: int) -> None:
    """Hatchback, saloon, estate, off-roader or van (0..4): body, narrower cabin with windows, wheels, lamps."""
    length, belt, roof, rear, front = [
        (4.0, 0.92, 1.48, (-1.95, -1.6), (1.0, 0.3)),
        (4.6, 0.92, 1.44, (-1.7, -0.9), (1.0, 0.3)),
        (4.6, 0.92, 1.5, (-2.2, -1.9), (1.1, 0.4)),
        (4.5, 1.05, 1.78, (-2.1, -1.95), (1.1, 0.6)),
        (5.2, 1.15, 2.1, (-2.55, -2.5), (2.2, 1.5)),
    ][kind]
    half, end = 0.9, length / 2
    axles = [-0.31 * length, 0.31 * length]
    _treads(painter, pose, axles, half, CAR)
    faces = _box(painter, pose, -end, end, 0.25, belt, half, colour, CAR)
    _wheels(painter, pose, axles, half, 0.33, CAR)
    _lamps(painter, faces, CAR, 0.5)
    for name in ("front", "back"):
        if name in faces:
            painter.patches(patch(faces[name], 0.0, 1.0, 0.0, 0.22), colour * 0.45, CAR)
    for name in ("left", "right"):
        if name in faces:
            painter.patches(patch(faces[name], np.array([0.45]), np.array([0.46]), 0.1, 0.95), colour * 0.6, CAR)
    profile = np.array([[rear[0], belt], [front[0], belt], [front[1], roof], [rear[1], roof]])
    widths = np.array([half, half, half * 0.78, half * 0.78])
    _, windscreen, _, back, right, left = _prism(painter, pose, profile, widths, colour, CAR)
    glass = _GLASS + painter.light.haze * painter.rng.uniform(0.05, 0.35)
    for screen, order in ((windscreen, [0, 1, 2, 3]), (back, [3, 2, 1, 0])):
        if screen is not None:
            painter.patches(patch(screen[order], 0.08, 0.92, 0.12, 0.88), glass, CAR)
    for side, order in ((right, [0, 1, 2, 3]), (left, [3, 2, 1, 0])):
        if side is not None:
            stops = np.array([0.08, 0.92]) if kind == 4 and pose.x % 1 < 0.5 else np.array([0.08, 0.5, 0.54, 0.92])
            painter.patches(patch(side[order], stops[::2], stops[1::2], 0.14, 0.88), glass, CAR)


def draw_bus(painter: Painter, pose: Pose, colour: Colour, length: float) -> None:
    """A city bus: one tall block with a band of windows, doors, a destination board and a large windscreen."""
    rng, end = painter.rng, length / 2
    axles = [-0.28 * length, 0.32 * length]
    _treads(painter, pose, axles, 1.27, BUS)
    faces = _box(painter, pose, -end, end, 0.3, 3.1, 1.27, colour, BUS)
    glass, skirt = _GLASS + painter.light.haze * rng.uniform(0.05, 0.25), any_colour(rng, 0.5)
    if painter.light.dusk:
        glass = np.array([225.0, 205, 140])
    count = int(length // 1.5)
    starts = np.linspace(0.03, 0.97, count + 1)
    for name in ("left", "right"):
        if name in faces:
            painter.patches(patch(faces[name], 0.0, 1.0, 0.0, rng.uniform(0.1, 0.3)), skirt, BUS)
            painter.patches(patch(faces[name], starts[:-1] + 0.006, starts[1:] - 0.006, 0.45, 0.84), glass, BUS)
            painter.patches(
                patch(faces[name], np.array([0.1, 0.55]), np.array([0.18, 0.63]), 0.02, 0.84), glass * 0.7, BUS
            )
    for name, low in (("front", 0.3), ("back", 0.5)):
        if name in faces:
            painter.patches(patch(faces[name], 0.06, 0.94, low, 0.82), glass, BUS)
            painter.patches(patch(faces[name], 0.2, 0.8, 0.86, 0.96), np.array([30.0, 28, 20]), BUS)
            painter.patches(patch(faces[name], 0.3, 0.7, 0.88, 0.94), np.array([250.0, 190, 40]), BUS)
    _lamps(painter, faces, BUS, 0.1)
    _wheels(painter, pose, axles, 1.27, 0.5, BUS)


def draw_truck(painter: Painter, pose: Pose, colour: Colour, length: float) -> None:
    """A lorry: a cab in front of a box, tank-flat or tarpaulin load on a dark chassis."""
    rng, end = painter.rng, length / 2
    cab, load = (end - 2.0, end), (-end, end - 2.3)
    tall, flat = rng.uniform(2.9, 3.6), rng.random() < 0.25
    chassis = np.array([48.0, 46, 44])

    def bed() -> None:
        _box(painter, pose, load[0], load[1] + 0.3, 0.55, 0.95, 1.0, chassis, TRUCK)
        faces = _box(painter, pose, *load, 0.95, 1.7 if flat else tall, 1.25, any_colour(rng, 0.4), TRUCK)
        for name in ("left", "right"):
            if name in faces:
                ribs = np.linspace(0.08, 0.92, 8)
                painter.patches(patch(faces[name], ribs, ribs + 0.012, 0.05, 0.95), chassis * 2, TRUCK)
        if "back" in faces:
            painter.patches(patch(faces["back"], 0.49, 0.51, 0.03, 0.97), chassis, TRUCK)
            painter.patches(
                patch(faces["back"], np.array([0.04, 0.84]), np.array([0.16, 0.96]), 0.0, 0.06),
                np.array([200.0, 30, 30]),
                TRUCK,
            )

    def cabin() -> None:
        faces = _box(painter, pose, *cab, 0.4, 2.7, 1.2, colour, TRUCK)
        glass = _GLASS + painter.light.haze * 0.15
        if "front" in faces:
            painter.patches(patch(faces["front"], 0.07, 0.93, 0.5, 0.88), glass, TRUCK)
            painter.patches(patch(faces["front"], 0.25, 0.75, 0.1, 0.36), chassis, TRUCK)
        for name in ("left", "right"):
            if name in faces:
                painter.patches(patch(faces[name], 0.35, 0.9, 0.5, 0.86), glass, TRUCK)
        _lamps(painter, faces, TRUCK, 0.05)

    axles = [-0.36 * length, -0.24 * length, 0.36 * length]
    _treads(painter, pose, axles, 1.2, TRUCK)
    nose, tail = pose.at(end, 0, 0)[2], pose.at(-end, 0, 0)[2]
    for part in (cabin, bed) if nose > tail else (bed, cabin):
        part()
    _wheels(painter, pose, axles, 1.2, 0.5, TRUCK)


def draw_train(painter: Painter, pose: Pose, colour: Colour, cars: int) -> None:
    """A tram of several joined cars with a long band of windows, dark skirts over the bogies and a pantograph."""
    rng, length = painter.rng, 9.0
    second, glass = any_colour(rng, 0.6), _GLASS + painter.light.haze * rng.uniform(0, 0.2)
    order = sorted(range(cars), key=lambda i: -pose.at(((cars - 1) / 2 - i) * length, 0, 0)[2])
    for i in order:
        centre = ((cars - 1) / 2 - i) * length
        a0, a1 = centre - length / 2 + 0.2, centre + length / 2 - 0.2
        faces = _box(painter, pose, a0, a1, 0.2, 3.4, 1.25, colour, TRAIN)
        for name in ("left", "right"):
            if name in faces:
                painter.patches(patch(faces[name], 0.0, 1.0, 0.0, 0.1), _BLACK * 1.5, TRAIN)
                painter.patches(patch(faces[name], 0.0, 1.0, 0.1, 0.3), second, TRAIN)
                starts = np.array([0.03, 0.24, 0.45, 0.66, 0.87])
                painter.patches(
                    patch(faces[name], starts, starts + np.array([0.2, 0.2, 0.2, 0.2, 0.11]), 0.45, 0.82), glass, TRAIN
                )
                painter.patches(
                    patch(faces[name], np.array([0.245, 0.665]), np.array([0.445, 0.865]), 0.06, 0.42),
                    second * 0.7,
                    TRAIN,
                )
        for name in ("front", "back"):
            if name in faces:
                painter.patches(patch(faces[name], 0.1, 0.9, 0.38, 0.83), glass * 0.8, TRAIN)
                painter.patches(patch(faces[name], 0.0, 1.0, 0.0, 0.28), second, TRAIN)
                painter.patches(
                    patch(faces[name], np.array([0.1, 0.78]), np.array([0.22, 0.9]), 0.16, 0.24),
                    np.array([240.0, 235, 200]),
                    TRAIN,
                )
                painter.patches(patch(faces[name], 0.3, 0.7, 0.86, 0.94), np.array([250.0, 180, 30]), TRAIN)
    for foot, tip in (((-0.8, 3.4), (0.4, 4.2)), ((0.8, 3.4), (-0.4, 4.2))):
        painter.limb(pose.at(foot[0], 0, foot[1]), pose.at(tip[0], 0, tip[1]), 0.04, _BLACK * 2, TRAIN, SMOOTH)
