"""Composes one procedural street scene: camera, light, sky, road, sides, actors and the car the camera rides in."""

from __future__ import annotations

import numpy as np

from segcore.data.minicity.blocks import lay_sides
from segcore.data.minicity.furniture import draw_bridge
from segcore.data.minicity.ground import frame, lay_land, lay_road, paint_sky
from segcore.data.minicity.paint import Camera, Light, Painter, board_size, finish
from segcore.data.minicity.palette import masonry
from segcore.data.minicity.plan import Scene
from segcore.data.minicity.traffic import fill_pavements, fill_traffic, place_hero

# The actors that scenes take turns to show for sure: label id and the least share of the picture it must cover.
HEROES = {
    "bus": (28, 0.010), "truck": (27, 0.010), "train": (31, 0.010), "motorcycle": (32, 0.0025), "rider": (25, 0.002),
    "bicycle": (33, 0.0018), "wall": (12, 0.006), "fence": (13, 0.006), "traffic light": (19, 0.0012),
    "traffic sign": (20, 0.0012), "terrain": (22, 0.012), "person": (24, 0.003),
}  # fmt: skip
_ATTEMPTS = 16


def compose(rng: np.random.Generator, height: int, width: int, hero: str) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H×W×3 uint8 RGB) and its label ids (H×W uint8); `hero` names the actor it shows for sure.

    A scene in which something hides the hero is thrown away and laid out anew.
    """
    label_id, share = HEROES[hero]
    for _ in range(_ATTEMPTS):
        scene = _lay_out(rng, height, width, hero)
        if (scene.painter.board[..., 3] == label_id).mean() >= share:
            break
    return finish(scene.painter, rng.choice([0.0, 0.5, 0.8, 1.1]), rng.uniform(1.5, 7.0))


def _lay_out(rng: np.random.Generator, height: int, width: int, hero: str) -> Scene:
    light = _light(rng)
    scene = Scene(rng, Painter(_camera(rng, height, width), light, rng), hero, hero_side=int(rng.choice([-1, 1])))
    _measure(scene)
    paint_sky(scene.painter)
    lay_land(scene)
    lay_sides(scene)
    lay_road(scene)
    place_hero(scene)
    fill_traffic(scene)
    fill_pavements(scene)
    if rng.random() < 0.06:
        distance, clear = rng.uniform(30, 80), rng.uniform(4.5, 6.5)
        scene.add(distance, 0.0, draw_bridge, distance, clear, masonry(rng)[0])
    scene.painter.darken(scene.shadows)
    scene.draw()
    frame(scene)
    return scene


def _camera(rng: np.random.Generator, height: int, width: int) -> Camera:
    rows, columns = board_size(height, width)
    return Camera(
        height=rows,
        width=columns,
        focal=columns * rng.uniform(0.7, 1.0),
        centre=columns * (0.5 + np.clip(rng.normal(0, 0.11), -0.24, 0.24)),
        horizon=rows * rng.uniform(0.34, 0.54),
        eye=rng.uniform(1.2, 1.75) if rng.random() < 0.85 else rng.uniform(1.9, 2.5),
        bend=float(np.clip(rng.normal(0, 0.0014), -0.004, 0.004)),
        hill=float(np.clip(rng.normal(0, 0.00018), -0.0003, 0.0005)),
        roll=float(rng.normal(0, 0.015)),
    )


def _light(rng: np.random.Generator) -> Light:
    """One of four weathers with its own sun, sky and haze."""
    weather = str(rng.choice(["sun", "overcast", "haze", "dusk"], p=[0.38, 0.34, 0.1, 0.18]))
    azimuth, rise = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.5) if weather == "dusk" else rng.uniform(0.45, 1.1)
    grey, ember, night = (
        rng.uniform(184, 204) + np.array([-4.0, 0, 4]),
        np.array([196.0, 150, 128]),
        np.array([84.0, 92, 122]),
    )
    direct, ambient, haze, density, top, clouds, shadow = {
        "sun": ([0.79, 0.75, 0.69], [0.52, 0.55, 0.6], [206, 216, 226], 0.004, [96, 146, 208], (0, 0.7), 0.5),
        "overcast": ([0.15] * 3, [0.85] * 3, grey, 0.006, grey * 0.92, (0.5, 1), 0.1),
        "haze": ([0.31, 0.3, 0.28], [0.75] * 3, grey * 1.08, 0.022, grey, (0.1, 0.3), 0.2),
        "dusk": ([0.36, 0.3, 0.23], [0.5, 0.5, 0.56], ember * rng.uniform(0.5, 1), 0.007, night, (0.2, 0.8), 0.3),
    }[weather]
    exposure = rng.uniform(0.8, 1.15)
    return Light(
        sun=np.array([np.cos(azimuth) * np.cos(rise), np.sin(rise), np.sin(azimuth) * np.cos(rise)]),
        direct=np.array(direct) * exposure,
        ambient=np.array(ambient) * exposure,
        haze=np.array(haze) * exposure,
        density=density * rng.uniform(0.6, 1.6),
        sky_top=np.array(top) * exposure * rng.uniform(0.85, 1.1),
        clouds=rng.uniform(*clouds),
        shadow=shadow,
        dusk=weather == "dusk",
    )


def _measure(scene: Scene) -> None:
    """Lanes, kerbs, tram track, parking, and whether a row of houses closes the street."""
    rng = scene.rng
    lane = rng.uniform(3.0, 3.7)
    own, oncoming = int(rng.integers(1, 3)), int(rng.choice([0, 1, 2], p=[0.15, 0.6, 0.25]))
    place = int(rng.integers(own))  # 0: the rightmost lane of ours
    shift = rng.normal(0, 0.35)
    scene.parking = {side: bool(rng.random() < 0.5) for side in (-1, 1)}
    middle = shift - (own - place - 0.5) * lane
    scene.lanes = [(middle + (i + 0.5) * lane, False) for i in range(own)]
    if scene.hero == "train" or rng.random() < 0.12:
        scene.rails, middle = middle - 1.9, middle - 3.8
    scene.lanes += [(middle - (i + 0.5) * lane, True) for i in range(oncoming)]
    scene.right = scene.lanes[own - 1][0] + lane / 2 + 2.2 * scene.parking[1]
    scene.left = middle - oncoming * lane - 2.2 * scene.parking[-1]
    if rng.random() < 0.2:
        scene.end = rng.uniform(28, 60)
    scene.asphalt = np.array([98.0, 98, 100]) * rng.uniform(0.6, 1.35) + rng.normal(0, 4, 3)
