"""Peak memory of scoring one image of 1024×2048 in the four modes, with a net that itself needs next to nothing.

    python -m bench.memory             all four figures, some minutes; bench/memory.json
    python -m bench.memory ours 19     one of them, in this process

A figure is that of a process of its own. Where a limit is set (ulimit -v), a process that reaches it counts as "not
enough memory".
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench import plain
from segcore.deploy.timing import describe_device
from segcore.evaluate.engine import predict_together
from segcore.evaluate.modes import modes_for
from segcore.files import write_json

SIZE, CROP, CLASSES, BATCH = (1024, 2048), (1024, 1024), (19, 150), 4
CONTENDERS = ("plain", "ours")
MODES = ("ss", "ssc", "msf", "mscf")
SCALES = (1.0, 1.75)  # the smaller ones cost time and no memory


class CheapNet(nn.Module):
    """One convolution of stride 8, enlarged to the image as the real networks do."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        """N×3×H×W -> N×C×H×W."""
        return F.interpolate(self.conv(images), images.shape[-2:], mode="bilinear")


class OneImage:
    """A list of one grey image, as far as the baseline looks at it."""

    def __init__(self, num_classes: int) -> None:
        self.labels = self
        self.num_classes = num_classes

    def image(self, index: int) -> np.ndarray:
        """uint8 H×W×3."""
        return np.full((*SIZE, 3), 128, np.uint8)

    def label(self, index: int) -> np.ndarray:
        """uint8 H×W."""
        return np.zeros(SIZE, np.uint8)


def peak_mib() -> int:
    """What this process has held at most, in MiB (Linux)."""
    # Not getrusage's: that starts from what the parent held.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) // 1024


def measure() -> dict[str, dict[str, int | str]]:
    """MiB by contender and number of classes; "not enough memory" where the process was ended for it."""
    return {contender: {str(number): _child(contender, number) for number in CLASSES} for contender in CONTENDERS}


def _child(contender: str, num_classes: int) -> int | str:
    words = [sys.executable, "-m", "bench.memory", contender, str(num_classes)]
    ended = subprocess.run(words, capture_output=True, text=True)
    return int(ended.stdout) if ended.returncode == 0 else "not enough memory"


def score(contender: str, num_classes: int) -> None:
    """Scores the image in all modes."""
    net = CheapNet(num_classes).eval()
    modes, statistics = modes_for(MODES, crop=CROP, scales=SCALES), {"mean": [0.5], "std": [0.2]}
    if contender == "ours":
        list(predict_together(net, torch.zeros(3, *SIZE), SIZE, modes, num_classes, BATCH))
        return
    for mode in modes:
        plain.predict(net, OneImage(num_classes), 0, mode, statistics, BATCH, nullcontext)


def main() -> None:
    """Measures what the command line says; prints it, and writes it where it is all."""
    if sys.argv[1:]:
        score(sys.argv[1], int(sys.argv[2]))
        print(peak_mib())
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    report = {
        "protocol": {"size": SIZE, "modes": MODES, "scales": SCALES, "crop": CROP, "batch": BATCH},
        "limit_mib": None if limit == resource.RLIM_INFINITY else limit // 2**20,
        "peak_mib": measure(),
        "device": describe_device(torch.device("cpu"), torch.get_num_threads()),
        "revision": subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip(),
    }
    write_json(Path(__file__).with_suffix(".json"), report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
