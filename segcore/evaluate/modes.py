"""Evaluation protocols as data: which scales, whole image or crops, mirrored or not, and how scores are summed.

`ss ssc msf mscf` are the four modes of CoinCheung/BiSeNet (section "Evaluation" of its description), `mscf_old` the
protocol behind its first release's 78.45, `seg50 seg75` those of STDC-Seg (any other per cent works too), `ade_ss
ade_ms` those of CSAILVision/semantic-segmentation-pytorch. One engine runs them all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

from annotated_types import Gt, Len

from segcore.errors import RecipeError, did_you_mean
from segcore.models.pairs import PAIRS

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
ADE_SHORT_SIDES = (300, 375, 450, 525, 600)
ADE_SINGLE = 450
ADE_LONGEST = 1000
# Written in one way only, so that no mode has two names.
PER_CENT = re.compile(r"seg[1-9]\d*(\.\d*[1-9])?")
Size = tuple[int, int]
Positive = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class Mode:
    """One protocol. Sizes are (H, W) in pixels; the prediction always has the label's size.

    Attributes:
        scales: the image is scored at each and the scores are added.
        flip: the mirrored image is scored too.
        crop: window size; None scores the scaled image as a whole.
        stride: step between windows; given exactly when `crop` is.
        round_to: scaled sides are rounded up to a multiple of it.
        exponential: a window contributes exp(sum of its softmax scores) in place of the sum.
        shortside: the image is first resized so that its shorter side has this length.
        longside: the image is first shrunk so that its longer side has at most this length.
        short_sides: takes the place of scales: the uint8 image is resized by Pillow so that its shorter side has each
            of these lengths, the net gives its logits at the label's size at once, and their softmax is added.
        longest: with `short_sides`, the longer side's limit before rounding.
    """

    name: str
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    crop: Size | None = None
    stride: Size | None = None
    round_to: int = 1
    exponential: bool = False
    shortside: int | None = None
    longside: int | None = None
    short_sides: tuple[int, ...] = ()
    longest: int | None = None

    @property
    def cut(self) -> tuple:
        """What decides which views of the image the net sees at a scale; modes of one cut share them."""
        return self.shortside, self.longside, self.round_to, self.crop, self.stride

    def start_size(self, size: Size) -> Size:
        """The size an image of `size` gets before everything else."""
        target, side = (self.shortside, min(size)) if self.shortside else (self.longside, max(size))
        if target is None or (self.shortside is None and side <= target):
            return size
        height, width = (target if n == side else int(target / side * n) for n in size)
        return height, width

    def scaled_size(self, size: Size, scale: float) -> Size:
        """`size` times `scale`, truncated, then rounded up to a multiple of `round_to`."""
        height, width = (math.ceil(max(int(scale * side), 1) / self.round_to) * self.round_to for side in size)
        return height, width

    def short_side_size(self, size: Size, short_side: int) -> Size:
        """`size` scaled to a short side, at most to `longest`; then truncated and rounded up as in `scaled_size`."""
        return self.scaled_size(size, min(short_side / min(size), self.longest / max(size)))

    def inputs(self, size: Size) -> set[Size]:
        """Sizes of what the net sees of an image of `size`."""
        if self.short_sides:
            return {self.short_side_size(size, side) for side in self.short_sides}
        start = self.start_size(size)
        return {self.crop or self.scaled_size(start, scale) for scale in self.scales}

    def windows(self, size: Size) -> list[Size]:
        """Top left corners of the windows that cover an image of `size`, which is at least `crop`."""
        rows, columns = (
            [min(k * step, side - crop) for k in range(math.ceil((side - crop) / step) + 1)]
            for side, crop, step in zip(size, self.crop, self.stride, strict=True)
        )
        return [(top, left) for top in rows for left in columns]


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """The recipe's section `evaluate`.

    Attributes:
        modes: names for `modes_for`.
        scales: of the multi-scale modes.
        crop: window (H, W) of the crop modes, which cannot do without.
        batch: images in one forward pass; changes speed and memory, and the scores by rounding only.
        start_shortside: see `Mode.shortside`.
        start_longside: see `Mode.longside`.
        code: digest of the code that evaluates.

    Raises:
        RecipeError: as `modes_for`.
    """

    modes: Annotated[tuple[str, ...], Len(1)]
    scales: Annotated[tuple[Annotated[float, Gt(0)], ...], Len(1)] = SCALES
    crop: tuple[Positive, Positive] | None = None
    batch: Positive = 4
    start_shortside: Positive | None = None
    start_longside: Positive | None = None
    code: str = ""

    def __post_init__(self) -> None:
        self.build()  # so that a wrong name is found before anything is downloaded

    def build(self, model: str = "") -> list[Mode]:
        """The modes themselves, for the network of that name."""
        return modes_for(
            self.modes,
            scales=self.scales,
            crop=self.crop,
            shortside=self.start_shortside,
            longside=self.start_longside,
            padding_constant=PAIRS[model].multiple if model in PAIRS else 32,
        )


def modes_for(
    names: Iterable[str],
    *,
    crop: Size | None = None,
    scales: tuple[float, ...] = SCALES,
    shortside: int | None = None,
    longside: int | None = None,
    padding_constant: int = 32,
) -> list[Mode]:
    """The named modes, in the order given.

    Args:
        names: any of ss, ssc, msf, mscf, mscf_old, ade_ss, ade_ms, and seg50, seg75, seg62.5, … (per cent of the size).
        crop: window (H, W) of the crop modes; they step by two thirds of it (mscf_old by five sixths), rounded up.
        scales: of the multi-scale modes.
        shortside: start size of the first five, see `Mode`.
        longside: start size, see `Mode`.
        padding_constant: what the ade modes round sides up to: the greatest stride within the network.

    Raises:
        RecipeError: an unknown or repeated name, a crop mode without a crop, a repeated scale, or two start
            sizes at once.
    """
    names = list(names)
    if len(set(scales)) < len(scales):
        raise RecipeError(f"evaluate: scales {', '.join(map(str, scales))}: one stands there twice; name each once")
    if shortside and longside:
        raise RecipeError("evaluate: start_shortside and start_longside exclude each other; keep one")
    start = {"shortside": shortside, "longside": longside}
    known = _whole_image_modes(scales, start) | _ade_modes(padding_constant) | _crop_modes(crop, scales, start)
    known |= {name: Mode(name, scales=(float(name[3:]) / 100,)) for name in names if PER_CENT.fullmatch(name)}
    for name in names:
        if name not in known:
            raise RecipeError(f"unknown evaluation mode {name!r}; {did_you_mean(name, known)}")
        if known[name] is None:
            raise RecipeError(f"evaluation mode {name!r} scores windows; give their size: --crop HxW, or crop: [H, W]")
        if names.count(name) > 1:
            raise RecipeError(f"evaluation mode {name!r} is asked for twice; name each mode once")
    return [known[name] for name in names]


def _whole_image_modes(scales: tuple[float, ...], start: dict[str, int | None]) -> dict[str, Mode | None]:
    return {
        "ss": Mode("ss", round_to=32, **start),
        "msf": Mode("msf", scales=tuple(scales), flip=True, round_to=32, **start),
        "seg50": Mode("seg50", scales=(0.5,)),
        "seg75": Mode("seg75", scales=(0.75,)),
    }


def _ade_modes(padding_constant: int) -> dict[str, Mode | None]:
    common = {"scales": (), "longest": ADE_LONGEST, "round_to": padding_constant}
    return {
        "ade_ss": Mode("ade_ss", short_sides=(ADE_SINGLE,), **common),
        "ade_ms": Mode("ade_ms", short_sides=ADE_SHORT_SIDES, **common),
    }


def _crop_modes(crop: Size | None, scales: tuple[float, ...], start: dict[str, int | None]) -> dict[str, Mode | None]:
    """By name; None in place of each mode while there is no crop."""
    if crop is None:
        return dict.fromkeys(("ssc", "mscf", "mscf_old"))
    windows = {"crop": tuple(crop), "stride": _stride(crop, Fraction(2, 3)), **start}
    multi = {"scales": tuple(scales), "flip": True, "exponential": True}
    return {
        # The reference takes the exponential only where it also mirrors, so ssc goes without.
        "ssc": Mode("ssc", **windows),
        "mscf": Mode("mscf", **multi, **windows),
        "mscf_old": Mode("mscf_old", **multi, **{**windows, "stride": _stride(crop, Fraction(5, 6))}),
    }


def _stride(crop: Size, share: Fraction) -> Size:
    height, width = (math.ceil(side * share) for side in crop)
    return height, width
