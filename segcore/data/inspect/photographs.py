"""What is wrong with photographs: kind, rotation, names, colours, and the same one in two lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import PurePath

import numpy as np

from segcore.data.inspect.findings import Finding, doubt, error
from segcore.data.inspect.survey import Survey
from segcore.data.pictures import SUFFIXES, Header
from segcore.data.statistics import Statistics

# What a normalisation forgives: batch norm follows shifts and scales, but not those of a wrong unit.
LARGEST_SHIFT, LARGEST_RATIO = 0.5, 1.5  # of the mean, in deviations; of the deviations
# Published data sets have a few pairs of equal pictures, and their scores are compared as they are.
LEAK = 0.01
SAVED_ANEW = 1.0  # mean difference of two 16×16 thumbnails in grey levels, below which it is the same picture

Kind = tuple[Callable[[Header], bool], str, str]
KINDS: tuple[Kind, ...] = (
    (
        lambda h: h.kind == "palette",
        "is a photograph with a palette, of at most 256 colours",
        "take the original; is it a label, and the list's columns are swapped?",
    ),
    (
        lambda h: "alpha" in h.kind,
        "has an alpha channel, which is not looked at",
        "see that nothing hides under it; saved without, it also loads faster",
    ),
    (
        lambda h: h.kind == "CMYK",
        "is CMYK, so its colours depend on the decoder",
        "convert it to sRGB",
    ),
    (
        lambda h: h.bits > 8,
        "has more than 8 bits a channel, of which the upper 8 are read",
        "if it does not fill its range, convert it to 8 bits yourself",
    ),
    (
        lambda h: h.orientation != 1,
        "carries an EXIF rotation, which is not followed, for labels know nothing of it",
        "look at the overlay; if it does not fit, turn the photograph's own pixels (`exiftran -ai`)",
    ),
)


def check_photographs(survey: Survey, expected: Statistics | None) -> Iterator[Finding]:
    """All findings about photographs, and about the names of both."""
    yield from _flaws(survey)
    yield from _lists(survey)
    yield from _kinds(survey)
    yield from _suffixes(survey)
    yield from _pixels(survey)
    yield from _twins(survey)
    yield from _saved_anew(survey)
    if expected:
        yield from _statistics(survey, expected)


def _flaws(survey: Survey) -> Iterator[Finding]:
    """Files, labels too, that cannot be used at all."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for _, _, pair in survey.pairs():
        for name, flaw in pair.flaws:
            found[flaw.what, flaw.remedy].append(name)
    for (what, remedy), names in found.items():
        yield error(what, remedy, names)


def _lists(survey: Survey) -> Iterator[Finding]:
    for (a, first), (b, second) in combinations(survey.splits.items(), 2):
        there = {first.samples.image_path(i) for i in range(len(first.pairs))}
        shared = [p.image for i, p in enumerate(second.pairs) if second.samples.image_path(i) in there]
        if shared:
            yield error(f"stands in both {a} and {b}", "a score on it would mean nothing; take it out of one", shared)
    same = [pair.image for _, _, pair in survey.pairs() if pair.image == pair.label]
    if same:
        yield error("is its own label", "the second column of the list must name the label", same)


def _kinds(survey: Survey) -> Iterator[Finding]:
    heads = [(pair.image, pair.photograph) for _, _, pair in survey.pairs() if pair.photograph]
    for matches, what, remedy in KINDS:
        if names := [name for name, head in heads if matches(head)]:
            yield doubt(what, remedy, names)
    grey = {name for name, head in heads if head.kind.startswith("grey")} | {
        split.pairs[i].image for split in survey.splits.values() for i, look in split.looks.items() if look.grey
    }
    names = [name for name, _ in heads if name in grey]
    if names and len(names) == len(heads):
        what, remedy = "all photographs are grey", "fine if meant so; pretrained weights expect colours"
        yield doubt(what, remedy, names)
    elif names:
        yield doubt("is grey, among photographs in colour", "take the original, or leave it out", names)


def _suffixes(survey: Survey) -> Iterator[Finding]:
    found: dict[str, list[str]] = defaultdict(list)
    for _, _, pair in survey.pairs():
        for name, head in ((pair.image, pair.photograph), (pair.label, pair.map)):
            if head and PurePath(name).suffix.lower() not in SUFFIXES[head.format]:
                found[head.format].append(name)
    for form, names in found.items():
        what = f"is a {form} by its content, whatever its name says"
        yield doubt(what, "read correctly here; rename it, for other programs go by the name", names)


def _pixels(survey: Survey) -> Iterator[Finding]:
    plain = [split.pairs[i].image for split in survey.splits.values() for i, look in split.looks.items() if look.plain]
    if plain:
        yield doubt("is of one single colour", "look at it; a broken export leaves such pictures", plain)


def _twins(survey: Survey) -> Iterator[Finding]:
    """Equal files, in one list or in two."""
    within: list[str] = []
    across: dict[tuple[str, str], list[str]] = defaultdict(list)
    for group in survey.twins:
        first: dict[str, str] = {}
        for split, index in group:
            name = survey.splits[split].pairs[index].image
            if split in first:
                within.append(f"{name} = {first[split]}")
            else:
                for other, earlier in first.items():
                    if earlier != name:
                        across[other, split].append(f"{name} = {earlier}")
                first[split] = name
    for (a, b), names in across.items():
        smaller = min(len(survey.splits[split].pairs) for split in (a, b))
        level = error if len(names) > max(1, LEAK * smaller) else doubt
        yield level(f"the same picture is in {a} and in {b}", f"take it out of {a}, or the score is too good", names)
    if within:
        yield doubt("the same picture stands in one list twice", "it counts double; leave one out", within)


def _saved_anew(survey: Survey) -> Iterator[Finding]:
    """Pictures that look equal without being equal files, among those that were decoded."""
    equal = {frozenset(pair) for group in survey.twins for pair in combinations(group, 2)}
    for a, b in combinations(survey.splits, 2):
        names = [
            f"{survey.splits[b].pairs[j].image} ≈ {survey.splits[a].pairs[i].image}"
            for i, j in _alike(survey, a, b)
            if frozenset(((a, i), (b, j))) not in equal
        ]
        if names:
            remedy = f"if it is the same picture saved anew, take it out of {a}, or the score is too good"
            yield doubt(f"a picture of {b} looks like one of {a}", remedy, names)


def _alike(survey: Survey, a: str, b: str) -> Iterator[tuple[int, int]]:
    first, second = survey.splits[a].looks, survey.splits[b].looks
    if not first or not second:
        return
    places, pictures = list(first), np.stack([look.thumbnail for look in first.values()])
    for j, look in second.items():
        if look.plain:
            continue
        apart = np.abs(pictures - look.thumbnail).mean((1, 2))
        for k in np.flatnonzero(apart < SAVED_ANEW):
            yield places[k], j


def _statistics(survey: Survey, expected: Statistics) -> Iterator[Finding]:
    name = "train" if "train" in survey.splits else next(iter(survey.splits))
    measured = survey.splits[name].statistics
    if measured is None:
        return
    shift = max(abs(m - e) / s for m, e, s in zip(measured.mean, expected.mean, expected.std, strict=True))
    ratio = max(max(m / e, e / max(m, 1e-6)) for m, e in zip(measured.std, expected.std, strict=True))
    said = f"mean {_numbers(expected.mean)}, deviation {_numbers(expected.std)}"
    found = f"photographs have mean {_numbers(measured.mean)}, deviation {_numbers(measured.std)}"
    if _reversed_fits(measured.mean, expected.mean):
        remedy = "that seems to be in the order B, G, R: turn it round"
    elif shift > LARGEST_SHIFT or ratio > LARGEST_RATIO:
        remedy = "right if weights are used that were trained with it; else take the measured numbers"
    else:
        return
    yield doubt(f"{found}, but are to be normalised with {said}", remedy, [name])


def _reversed_fits(measured: Sequence[float], expected: Sequence[float]) -> bool:
    """Whether the mean backwards is within a hundredth and the mean itself is not within three."""
    ahead, back = (
        max(abs(m - e) for m, e in zip(measured, order, strict=True)) for order in (expected, expected[::-1])
    )
    return ahead > 0.03 and back < 0.01


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
