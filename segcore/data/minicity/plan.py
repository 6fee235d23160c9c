"""The plan of one procedural street scene: its measures, what stands where, and the order of drawing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from segcore.data.minicity.actors import Pose
from segcore.data.minicity.paint import Painter

FAR = 110.0  # metres; where the street ends in haze


@dataclass
class Item:
    """Something to draw: its distance and lateral place, half its extent in depth (0: thin), and how to draw it."""

    z: float
    x: float
    half: float
    draw: Callable[[], None]


@dataclass
class Scene:
    """The plan of a street. Lateral distances in metres from the camera, left negative."""

    rng: np.random.Generator
    painter: Painter
    hero: str  # the actor this scene surely shows
    hero_side: int  # -1 left, 1 right
    left: float = 0.0  # kerbs
    right: float = 0.0
    lanes: list[tuple[float, bool]] = field(default_factory=list)  # centre, oncoming
    rails: float | None = None  # centre of the tram track
    parking: dict[int, bool] = field(default_factory=dict)  # side → cars park along its kerb
    asphalt: np.ndarray = field(default_factory=lambda: np.full(3, 100.0))
    end: float = FAR  # where a crossing row of houses closes the street
    walks: dict[int, tuple[float, float]] = field(default_factory=dict)  # side → |x| of the pavement's two edges
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)  # x, z and half sizes of what stands
    items: list[Item] = field(default_factory=list)
    shadows: list[tuple[np.ndarray, float]] = field(default_factory=list)

    def add(self, z: float, x: float, draw: Callable[..., None], *arguments: object, half: float = 0.0) -> None:
        """Puts something on the street at distance z and lateral place x, reaching z ± half."""
        self.items.append(Item(z, x, half, partial(draw, self.painter, *arguments)))

    def stand(
        self, pose: Pose, size: tuple[float, float, float], draw: Callable[..., None], *arguments: object
    ) -> None:
        """Adds an actor of a size (length, width, height) with its shadow."""
        length, width, height = size
        across, along = self._extent(pose, length, width)
        self.taken.append((pose.x, pose.z, across, along))
        corners = pose.place(np.array([-1, 1, 1, -1]) * length / 2, np.array([-1, -1, 1, 1]) * width / 2, np.zeros(4))
        self.shadows.append((corners, 0.55))
        self.cast(corners, height)
        reach = max(height, 2.0)  # arms and crowns stand out
        if self.painter.sees(np.concatenate([corners - reach, corners + reach])):
            self.add(pose.z, pose.x, draw, pose, *arguments, half=along if along > 0.8 else 0.0)

    def cast(self, corners: np.ndarray, height: float) -> None:
        """The shadow that a body over these ground points throws."""
        sun = self.painter.light.sun
        offset = -sun * height / max(sun[1], 0.25)
        self.shadows.append((np.concatenate([corners, corners + offset * [1, 0, 1]]), self.painter.light.shadow))

    def free(self, pose: Pose, length: float, width: float, margin: float = 0.4) -> bool:
        """Whether an actor of this size fits here without touching another."""
        across, along = self._extent(pose, length, width)
        return all(
            abs(pose.x - x) > across + half_x + margin or abs(pose.z - z) > along + half_z + margin
            for x, z, half_x, half_z in self.taken
        )

    @staticmethod
    def _extent(pose: Pose, length: float, width: float) -> tuple[float, float]:
        sin, cos = abs(np.sin(pose.yaw)), abs(np.cos(pose.yaw))
        return (length * sin + width * cos) / 2, (length * cos + width * sin) / 2

    def draw(self) -> None:
        """Draws everything that stands, from back to front.

        A long body is drawn before all that stands beside it on the camera's side, and after what it may hide there
        on the far side: those are moved behind its rear end, from the inner bodies to the outer ones.
        """
        z, x = np.array([item.z for item in self.items]), np.array([item.x for item in self.items])
        depth = z + [item.half for item in self.items]
        for i in np.argsort(abs(x), kind="stable"):
            half = self.items[i].half
            if half:
                outside = (abs(z - z[i]) < half) & (abs(x) > abs(x[i])) & ((x * x[i] > 0) | (abs(x[i]) < 1.5))
                depth[outside] = np.maximum(depth[outside], depth[i] + 1e-3 * (z[outside] - z[i] + half + 1))
        for i in np.argsort(-depth, kind="stable"):
            self.items[i].draw()
