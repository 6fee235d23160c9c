"""Pictures of a data set: samples with their labels laid over them, and what augmentation makes of them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np

from segcore.data.datasets import read_label_ids
from segcore.data.inspect.findings import Report
from segcore.data.inspect.survey import Pair, Survey
from segcore.data.labels import IGNORE, UNKNOWN, LabelTable
from segcore.data.transforms import Published, augment
from segcore.errors import DataError
from segcore.visualize import INK, colorize, contact_sheet, fit_width, legend, overlay

ROWS = 8
WIDTH = 480
SEEN = 1e-3  # share of an image's pixels from which on a class can be seen in its picture
CHECKS = 6  # pixels; side of the black and white fields on values that the table does not know
DRAWS, AUGMENTED = 4, 4  # columns and samples of the sheet of augmented samples

Place = tuple[str, int]


@dataclass(frozen=True)
class Augmentation:
    """See `segcore.data.transforms.augment`; crop is H, W."""

    crop: tuple[int, int]
    scales: tuple[float, float] = (0.5, 2.0)
    jitter: float = 0.4
    seed: int = 1
    transform: Published = "bisenet"
    scale_steps: int | None = None


def sample_sheet(report: Report) -> np.ndarray:
    """Photograph, overlay and label of pairs with findings, then of others from all parts of the lists: H×W×3."""
    survey = report.survey
    notes = _notes(report)
    places = [*notes, *_spread(survey, ROWS - len(notes), notes)]
    rows = [_row(survey, place) for place in places]
    captions = [_caption(survey, place, notes.get(place, "")) for place in places]
    sheet = contact_sheet(rows, ("photograph", "overlay", "label"), captions, WIDTH)
    return np.vstack([sheet, _legend(survey.labels, sheet.shape[1])])


def augmented_sheet(survey: Survey, settings: Augmentation) -> np.ndarray:
    """What the net gets of some samples of the first list, four draws each, also with the label laid over: H×W×3.

    Raises:
        DataError: no pair is without an error.
    """
    rows, captions = [], []
    first = next(iter(survey.splits))
    for number, (split, index) in enumerate(_spread(replace(survey, splits={first: survey.splits[first]}), AUGMENTED)):
        samples, palette = survey.splits[split].samples, survey.labels.palette
        try:
            pair = samples.pair(index)
        except DataError:  # not every photograph was decoded before
            continue
        draws = list(_draws(pair, settings, number))
        rows += [
            [pair[0], *(image for image, _ in draws)],
            [overlay(*pair, palette), *(overlay(image, label, palette) for image, label in draws)],
        ]
        captions += [f"{split}: {samples.pairs[index][0]}", _ignored(draws)]
    if not rows:
        raise DataError("no pair is without an error, so there is nothing to augment; mend the errors first")
    headings = ("photograph", *(f"draw {k + 1}" for k in range(DRAWS)))
    sheet = contact_sheet(rows, headings, captions, WIDTH * 3 // (DRAWS + 1))
    return np.vstack([sheet, _legend(survey.labels, sheet.shape[1])])


def _draws(
    pair: tuple[np.ndarray, np.ndarray], settings: Augmentation, number: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for k in range(DRAWS):
        rng = np.random.default_rng([settings.seed, number, k])
        how = (settings.transform, settings.scale_steps)
        yield augment(*pair, settings.crop, settings.scales, settings.jitter, rng, *how)


def _ignored(draws: list[tuple[np.ndarray, np.ndarray]]) -> str:
    shares = ", ".join(f"{np.mean(label == IGNORE):.0%}" for _, label in draws)
    return f"with labels; ignored or padding: {shares}"


def _notes(report: Report) -> dict[Place, str]:
    """What to say of a pair: the first, and so the gravest, of its findings."""
    notes: dict[Place, str] = {}
    for place, note in _places_of_findings(report):
        notes.setdefault(place, note)
    return dict(islice(notes.items(), ROWS // 2))


def _places_of_findings(report: Report) -> Iterator[tuple[Place, str]]:
    """A pair for each finding that can be seen in a picture, and what is to be said of it."""
    for finding in report.findings:
        text = finding.files[0]
        for split, index, pair in report.survey.pairs():
            if not pair.flaws and (pair.image in text or pair.label in text):
                yield (split, index), f"{finding.level}: {finding.what}"
                break


def _spread(survey: Survey, count: int, without: Container[Place] = ()) -> list[Place]:
    """Readable pairs from all lists and all parts of them; each shows the most classes that the others do not."""
    missing, places = set(range(survey.labels.num_classes)), []
    for name, wanted in _quotas(survey, count).items():
        pairs = survey.splits[name].pairs
        good = [i for i, pair in enumerate(pairs) if _is_usable(pair, survey.labels) and (name, i) not in without]
        for part in np.array_split(np.array(good, int), min(wanted, len(good)) or 1):
            if len(part):
                seen = [_visible_classes(pairs[i].values, survey.labels) for i in part]
                best = max(range(len(part)), key=lambda k, seen=seen: (len(seen[k] & missing), len(seen[k])))
                missing -= seen[best]
                places.append((name, int(part[best])))
    return places


def _quotas(survey: Survey, count: int) -> dict[str, int]:
    """How many pairs of each list: a quarter of every further one, the rest of the first."""
    first, *others = survey.splits
    return {first: max(1, count - len(others) * (count // 4)), **{name: count // 4 for name in others}}


def _is_usable(pair: Pair, labels: LabelTable) -> bool:
    whole = pair.values and not pair.flaws and pair.photograph.size == pair.map.size
    return bool(whole) and all(labels.lookup[value] != UNKNOWN for value in pair.values)


def _visible_classes(values: dict[int, int], labels: LabelTable) -> frozenset[int]:
    total = sum(values.values())
    return frozenset(int(labels.lookup[value]) for value, count in values.items() if count > SEEN * total) - {IGNORE}


def _row(survey: Survey, place: Place) -> list[np.ndarray | str]:
    samples = survey.splits[place[0]].samples
    try:
        photograph, ids = samples.image(place[1]), read_label_ids(samples.label_path(place[1]))
    except DataError as error:  # not every photograph was decoded before
        return [str(error), "", ""]
    lookup, palette = (
        survey.labels.lookup,
        np.vstack([survey.labels.palette, (0, 0, 0), (255, 255, 255)]).astype(np.uint8),
    )
    known = np.where(lookup == UNKNOWN, len(palette) - 2, lookup).astype(np.uint8)
    label, small = _checkered(fit_width(cv2.LUT(ids, known), WIDTH), len(palette) - 2), fit_width(photograph, WIDTH)
    if photograph.shape[:2] != ids.shape:
        return [small, "the label does not fit", colorize(label, palette)]
    return [small, overlay(small, label, palette), colorize(label, palette)]


def _checkered(label: np.ndarray, unknown: int) -> np.ndarray:
    """Class `unknown` becomes a pattern of `unknown` and `unknown` + 1, which no class can be mistaken for."""
    rows, columns = np.indices(label.shape, sparse=True)
    return np.where(label == unknown, unknown + (rows // CHECKS + columns // CHECKS) % 2, label).astype(np.uint8)


def _caption(survey: Survey, place: Place, note: str) -> str:
    pair = survey.splits[place[0]].pairs[place[1]]
    size = f"{pair.photograph.height}x{pair.photograph.width}"
    return f"{place[0]}: {pair.image}, {size}" + (f"  ({note})" if note else "")


def _legend(labels: LabelTable, width: int) -> np.ndarray:
    """Colour and name of every class, h×`width`×3."""
    entries = [(entry.name[:24], [entry.color]) for entry in labels.classes]
    return legend([*entries, ("not in the table", [INK, "white"])], width)
