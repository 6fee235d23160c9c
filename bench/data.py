"""How fast a training sample is read and transformed, against the same written out plainly (`bench.plain_data`).

    make bench-data
    python -m bench.data --images 8 --rounds 3 --folder /tmp/pairs

The pairs are PNGs of 1024×2048: CamVid's photographs enlarged, with a grey level of noise so that they compress as a
camera's do, or minicity's drawings where CamVid is not in $SEGCORE_DATA. Every sample is made by every contender in
turn, in this process and one thread; seconds are the processor's, so that other programs cost little. Written to
bench/data.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL
import torch
from PIL import Image

from bench import plain_data
from segcore.data.datasets import Samples, read_image, read_label_ids
from segcore.data.labels import TABLES
from segcore.data.minicity import MinicityRecipe, render
from segcore.data.packed import PackedSamples, pack
from segcore.data.store import Checksums
from segcore.data.transforms import augment
from segcore.deploy.timing import describe_device
from segcore.files import sha256, write_json
from segcore.progress import track

SIZE = (1024, 2048)
NOISE = 1.0


class Published(NamedTuple):
    """What a published training does to a sample."""

    transform: str
    crop: tuple[int, int]
    scales: tuple[float, float]
    jitter: float
    scale_steps: int | None


TRANSFORMS = {
    "bisenetv2": Published("bisenet", (512, 1024), (0.25, 2.0), 0.4, None),
    "bisenetv1": Published("bisenet", (1024, 1024), (0.75, 2.0), 0.4, None),
    "stdc": Published("stdc", (512, 1024), (0.125, 1.5), 0.5, 12),
}


def main() -> None:
    """Draws, measures, prints and writes."""
    arguments = parse()
    cv2.setNumThreads(0)  # as in a loader's process
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        samples, origin = make_pairs(Path(folder), arguments.images)
        names = [name for pair in samples.pairs for name in pair]
        checksums = Checksums(samples.root, samples.root / "memory.csv")
        packed = PackedSamples(samples, [checksums.of(name) for name in names], samples.root / "packed")
        pack(packed)
        disk = {
            "png": sum((samples.root / name).stat().st_size for name in names) // len(samples),
            "packed": packed.size() // len(samples),
        }
        results = {
            name: measure(published, samples, packed, arguments.rounds) for name, published in TRANSFORMS.items()
        }
    report = {
        "pairs": {"number": arguments.images, "size": SIZE, "origin": origin, "bytes_a_pair": disk},
        "protocol": {"rounds": arguments.rounds, "threads": 1, "seconds": "of the processor"},
        "transforms": {name: published._asdict() for name, published in TRANSFORMS.items()},
        "results": results,
        "device": describe_device(torch.device("cpu"), 1),
        "versions": {"opencv": cv2.__version__, "pillow": PIL.__version__, "numpy": np.__version__},
        "code": sha256(Path(__file__)),
        "revision": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    write_json(arguments.out, report)
    print(json.dumps(report, indent=2))


def make_pairs(folder: Path, number: int) -> tuple[Samples, str]:
    """Writes PNG pairs as most programs do: filters chosen by row, zlib's default level."""
    camvid = Path(os.environ.get("SEGCORE_DATA") or "data") / "camvid"
    photographs = sorted((camvid / "train").glob("*.*"))
    draw = (lambda index: _enlarged(photographs[index * len(photographs) // number])) if photographs else _drawn
    pairs = [(f"{index}.png", f"{index}_label.png") for index in range(number)]
    for index, names in enumerate(track(pairs, "draw pairs")):
        for name, pixels in zip(names, draw(index), strict=True):
            Image.fromarray(pixels).save(folder / name)
    table = TABLES["camvid" if photographs else "cityscapes"]
    origin = f"CamVid's photographs, enlarged, noise {NOISE}" if photographs else "minicity"
    return Samples(pairs, folder, table), origin


def _enlarged(photograph: Path) -> tuple[np.ndarray, np.ndarray]:
    image = read_image(photograph)
    label = read_label_ids(photograph.parents[1] / "trainannot" / f"{photograph.stem}.png")
    top = (label.shape[0] - label.shape[1] // 2) // 2
    part = slice(top, top + label.shape[1] // 2)  # twice as wide as high
    noise = np.random.default_rng(0).normal(0, NOISE, (*SIZE, 3))
    large = cv2.resize(image[part], SIZE[::-1], interpolation=cv2.INTER_CUBIC) + noise
    return np.clip(large, 0, 255).astype(np.uint8), cv2.resize(label[part], SIZE[::-1], interpolation=cv2.INTER_NEAREST)


def _drawn(index: int) -> tuple[np.ndarray, np.ndarray]:
    return render(MinicityRecipe(height=SIZE[0], width=SIZE[1]), "train", index)


def measure(published: Published, samples: Samples, packed: Samples, rounds: int) -> dict:
    """Every sample by every contender in turn; ratios and differences are against the plain one."""
    seconds, level, labels = defaultdict(float), defaultdict(int), defaultdict(int)
    contenders = {"plain": lambda *at: _plainly(published, samples, *at)}
    for name, source in (("files", samples), ("packed", packed)):
        contenders[name] = lambda *at, source=source: _ours(published, source, *at)
    contenders["files, reading alone"] = lambda index, _: samples.pair(index)
    for warm_up, position in [(True, 0), *((False, position) for position in range(rounds * len(samples)))]:
        found = {}
        for name, contender in contenders.items():
            found[name], spent = _timed(contender, position % len(samples), np.random.default_rng([0, 1, position]))
            seconds[name] += 0 if warm_up else spent
        for name in ("files", "packed"):
            ours, plain = found[name], found["plain"]
            level[name] = max(level[name], int(cv2.absdiff(ours[0], plain[0]).max()))
            labels[name] += int((ours[1] != plain[1]).sum())
    images = rounds * len(samples)
    results = {name: {"images_a_second": round(images / spent, 2)} for name, spent in seconds.items()}
    for name in ("files", "packed"):
        results[name]["times_as_fast"] = round(seconds["plain"] / seconds[name], 2)
        results[name]["grey_levels_off"], results[name]["labels_off"] = level[name], labels[name]
    return results


def _plainly(published: Published, samples: Samples, index: int, rng: np.random.Generator) -> plain_data.Pair:
    paths, (name, *settings) = (samples.image_path(index), samples.label_path(index)), published
    if name == "bisenet":
        return plain_data.bisenet(*plain_data.read(*paths, samples.labels), *settings[:3], rng)
    return plain_data.stdc(*plain_data.open_pair(*paths), samples.labels, *settings[:3], rng, settings[3])


def _ours(published: Published, samples: Samples, index: int, rng: np.random.Generator) -> plain_data.Pair:
    return augment(*samples.pair(index), *published[1:4], rng, published.transform, published.scale_steps)


def _timed(make: Callable, *arguments: object) -> tuple[plain_data.Pair, float]:
    start = time.process_time()
    result = make(*arguments)
    return result, time.process_time() - start


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--images", type=int, default=8)
    add("--rounds", type=int, default=4, help="how often each image is drawn from")
    add("--folder", type=Path, help="where the pairs lie while it runs (default: the system's for temporary files)")
    add("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
