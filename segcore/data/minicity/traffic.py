"""Who and what is on a procedural street: traffic, parked cars, pedestrians, cycles, poles, signs and lights."""

from __future__ import annotations

import numpy as np

from segcore.data.minicity import furniture
from segcore.data.minicity.actors import Pose, draw_bus, draw_car, draw_train, draw_truck
from segcore.data.minicity.palette import any_colour
from segcore.data.minicity.people import draw_bicycle, draw_motorcycle, draw_person
from segcore.data.minicity.plan import Scene


def _vehicle(scene: Scene, kind: str, x: float, z: float, yaw: float) -> None:
    """Puts a vehicle there if there is room."""
    rng = scene.rng
    yaw += float(rng.normal(0, 0.03))
    long = {"bus": rng.uniform(9, 12.5), "truck": rng.uniform(6.5, 9.5), "train": 9.0 * rng.integers(2, 4)}.get(
        kind, 4.6
    )
    pose = Pose(x, max(z, 7 + abs(np.cos(yaw)) * long / 2) if long > 5 else z, yaw)
    size = {
        "bus": (long, 2.6, 3.1),
        "truck": (long, 2.5, 3.2),
        "train": (long, 2.6, 3.4),
        "motorcycle": (2.2, 0.8, 1.4),
        "rider": (1.8, 0.6, 1.6),
    }.get(kind, (long, 1.85, 1.5))
    if not scene.free(pose, size[0], size[1], margin=0.5):
        return
    paint = any_colour(rng, rng.choice([0.12, 0.5]))
    if kind == "bus":
        scene.stand(pose, size, draw_bus, paint, long)
    elif kind == "truck":
        scene.stand(pose, size, draw_truck, paint, long)
    elif kind == "train":
        scene.stand(pose, size, draw_train, paint, round(long / 9))
    elif kind == "motorcycle":
        scene.stand(pose, size, draw_motorcycle, bool(abs(np.cos(yaw)) > 0.5 or rng.random() < 0.5))
    elif kind == "rider":
        scene.stand(pose, size, draw_bicycle, True)
    else:
        scene.stand(pose, size, draw_car, paint, int(rng.choice(5, p=[0.3, 0.25, 0.2, 0.15, 0.1])))


def place_hero(scene: Scene) -> None:
    """Puts the actor that this scene must show where the camera sees it well. Walls, fences and terrain are blocks."""
    rng, kind, side = scene.rng, scene.hero, scene.hero_side
    inner = scene.walks[side][0]
    edge = side * (inner + rng.uniform(0.3, 0.7))
    if kind in ("bus", "truck", "train"):
        crossing = kind != "train" and rng.random() < 0.25
        x, oncoming = (
            (scene.rails, rng.random() < 0.5) if kind == "train" else scene.lanes[rng.integers(len(scene.lanes))]
        )
        z = rng.uniform(13, 24) if crossing else rng.uniform(13, 22) + (6 if kind == "train" else 0)
        _vehicle(
            scene,
            kind,
            float(x) + (rng.uniform(-3, 3) if crossing else 0),
            z,
            rng.choice([-1, 1]) * np.pi / 2 if crossing else np.pi * oncoming,
        )
    elif kind in ("motorcycle", "rider"):
        x, oncoming = scene.lanes[rng.integers(len(scene.lanes))]
        yaw = np.pi * oncoming + rng.choice([0.0, 0.5, -0.5, np.pi / 2])
        _vehicle(scene, kind, x + rng.uniform(-1, 1), rng.uniform(6.5, 10.5), yaw)
    elif kind == "bicycle":
        for i in range(rng.integers(1, 4)):
            x = edge + side * 0.5
            pose = Pose(x, _in_view(scene, x, 4.5) + rng.uniform(0, 1) + i, rng.choice([0.4, 0.9, np.pi / 2]))
            if scene.free(pose, 1.7, 0.5, 0.1):
                scene.stand(pose, (1.7, 0.5, 1.0), draw_bicycle, False)
    elif kind == "person":
        for _ in range(3):
            x = side * rng.uniform(inner + 0.3, inner + 2.5)
            _pedestrian(scene, x, _in_view(scene, x, 5.0) + rng.uniform(0, 4))
    elif kind == "traffic sign":
        _sign(scene, edge, _in_view(scene, edge, 6.0) + rng.uniform(0, 3))
    elif kind == "traffic light":
        _light(scene, side, edge, _in_view(scene, edge, 7.0) + rng.uniform(0, 4))


def _in_view(scene: Scene, x: float, nearest: float) -> float:
    """The distance, at least `nearest`, from which on a place at lateral x is well inside the picture."""
    camera = scene.painter.camera
    room = 0.92 * camera.width - camera.centre if x > 0 else camera.centre - 0.08 * camera.width
    return max(nearest, camera.focal * abs(x) / room)


def _pedestrian(scene: Scene, x: float, z: float) -> None:
    rng = scene.rng
    pose = Pose(x, z, rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2]) + rng.normal(0, 0.3))
    tall = rng.uniform(1.05, 1.4) if rng.random() < 0.1 else rng.uniform(1.55, 1.92)
    if scene.free(pose, 0.5, 0.5, 0.05):
        scene.stand(pose, (0.4, 0.5, tall), draw_person, tall)


def _sign(scene: Scene, x: float, z: float) -> None:
    rng = scene.rng
    pose, kind = Pose(x, z, rng.normal(0, 0.15)), int(rng.choice(6, p=[0.26, 0.2, 0.24, 0.1, 0.08, 0.12]))
    if scene.free(pose, 0.3, 0.3):
        low, size = rng.uniform(1.7, 2.6), rng.uniform(0.6, 1.0)
        scene.stand(pose, (0.2, 0.3, 2.6), furniture.draw_sign, kind, size, low)


def _light(scene: Scene, side: int, x: float, z: float) -> None:
    rng = scene.rng
    pose, arm = Pose(x, z, 0.0), -side * rng.uniform(2.5, 5.0) if rng.random() < 0.35 else 0.0
    if scene.free(pose, 0.3, 0.3):
        scene.stand(pose, (0.2, 0.2, 3.0), furniture.draw_traffic_light, rng.uniform(2.9, 3.6), arm)


def fill_traffic(scene: Scene) -> None:
    """Moving vehicles lane by lane, from empty roads to queues, and parked cars along the kerbs."""
    rng = scene.rng
    gap = rng.choice([9.0, 16.0, 30.0, 60.0])
    for x, oncoming in scene.lanes:
        z = rng.uniform(9, 15) + rng.exponential(gap / 3)
        while z < scene.end - 6:
            kind = str(rng.choice(["car", "bus", "truck", "motorcycle", "rider"], p=[0.83, 0.035, 0.045, 0.045, 0.045]))
            aside = rng.uniform(0.6, 1.2) if kind in ("rider", "motorcycle") else 0.0
            _vehicle(scene, kind, x + aside * (-1 if oncoming else 1), z, np.pi * oncoming)
            z += rng.uniform(6.5, 8) + rng.exponential(gap)
    if scene.rails is not None and rng.random() < 0.5:
        _vehicle(scene, "train", scene.rails, rng.uniform(22, 50), np.pi * rng.integers(2))
    for side, kerb in ((-1, scene.left), (1, scene.right)):
        if scene.parking[side]:
            for z in np.arange(rng.uniform(4, 9), min(scene.end, 70), 5.9):
                if rng.random() < 0.62:
                    _vehicle(
                        scene, "car", kerb - side * 1.05, float(z) + rng.uniform(-0.3, 0.3), np.pi * rng.integers(2)
                    )
    if rng.random() < 0.15:
        z = rng.uniform(10, 35)
        kind = str(rng.choice(["car", "bus", "truck", "rider", "motorcycle"], p=[0.6, 0.1, 0.1, 0.1, 0.1]))
        _vehicle(scene, kind, rng.uniform(-5, 6), z, rng.choice([-1, 1]) * np.pi / 2)


def fill_pavements(scene: Scene) -> None:
    """Lamps, posts, signs, lights, bins and parked cycles at the kerb; people on the pavement and on the road."""
    rng = scene.rng
    crowd = rng.choice([0.5, 3.0, 8.0])
    for side, (inner, outer) in scene.walks.items():
        post = inner + rng.uniform(0.3, 0.6)
        _poles(scene, side, post)
        for _ in range(rng.poisson(1.3)):
            _sign(scene, side * post, 6 + rng.exponential(14))
        for _ in range(rng.poisson(0.5)):
            pose = Pose(side * (post + 0.3), 6 + rng.exponential(14), 0.0)
            if scene.free(pose, 0.8, 0.8):
                scene.stand(pose, (0.6, 0.8, 1.0), furniture.draw_bin, rng.uniform(0.5, 1.2), any_colour(rng, 0.5))
        for _ in range(rng.poisson(0.6)):
            pose = Pose(side * (post + 0.5), 5 + rng.exponential(12), rng.choice([0.1, 0.9, np.pi / 2]))
            if scene.free(pose, 1.7, 0.5):
                scene.stand(pose, (1.7, 0.5, 1.0), draw_motorcycle if rng.random() < 0.25 else draw_bicycle, False)
        for _ in range(rng.poisson(0.12)):
            pose = Pose(side * (post + 0.1), 6 + rng.exponential(10), 0.0)
            if scene.free(pose, 0.4, 0.8):
                scene.stand(
                    pose, (0.3, 0.8, 3.0), furniture.draw_pole_group, rng.uniform(2.5, 6), any_colour(rng, 0.12)
                )
        for _ in range(rng.poisson(0.15)):
            pose = Pose(side * (inner + outer) / 2, 5 + rng.exponential(8), rng.uniform(0, np.pi))
            if scene.free(pose, 1.0, 0.6):
                scene.stand(pose, (1.0, 0.6, 0.9), furniture.draw_cart, any_colour(rng, 0.6))
        for _ in range(rng.poisson(crowd)):
            _pedestrian(
                scene, side * rng.uniform(inner + 0.2, max(outer - 0.3, inner + 0.6)), 4.5 + rng.exponential(13)
            )
    if rng.random() < 0.5:
        z = rng.uniform(9, 24)
        for side in (-1, 1):
            _light(scene, side, side * (scene.walks[side][0] + 0.4), z)
    for _ in range(rng.poisson(0.5)):
        _pedestrian(scene, rng.uniform(scene.left, scene.right), rng.uniform(7, 30))


def _poles(scene: Scene, side: int, post: float) -> None:
    """A row of lamps or plain masts with even spacing, and some short posts."""
    rng = scene.rng
    spacing, tall = rng.uniform(9, 22), rng.uniform(4.5, 9)
    radius, arm = rng.uniform(0.05, 0.09), -side * rng.uniform(0.8, 2.5) * (rng.random() < 0.7)
    colour = any_colour(rng, 0.12)
    if rng.random() < 0.85:
        for z in np.arange(rng.uniform(5, 14), min(scene.end, 80), spacing):
            pose = Pose(side * post, float(z), 0.0)
            if scene.free(pose, 0.3, 0.3, 0.1):
                scene.stand(pose, (0.2, 0.2, tall), furniture.draw_pole, tall, radius, colour, arm)
    if rng.random() < 0.2:
        for z in np.arange(4.0, 22.0, rng.uniform(1.5, 2.5)):  # bollards
            pose = Pose(side * (post - 0.1), float(z), 0.0)
            if scene.free(pose, 0.2, 0.2, 0.05):
                scene.stand(pose, (0.2, 0.2, 0.9), furniture.draw_pole, 0.9, 0.07, colour)
