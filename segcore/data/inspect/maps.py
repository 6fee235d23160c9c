"""What is wrong with label maps: values, classes, sizes, and the ways in which ids get confused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from segcore.data.inspect.findings import Finding, doubt, error
from segcore.data.inspect.survey import Split, Survey
from segcore.data.labels import IGNORE, TABLES, UNKNOWN, LabelTable

MOSTLY_IGNORED = 0.5  # share of a list's pixels
TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width
SHOWN = 8  # values in a message


def check_maps(survey: Survey) -> Iterator[Finding]:
    """All findings about labels."""
    yield from _sizes(survey)
    unknown = list(_unknown_values(survey))
    yield from unknown or _confused_ids(survey)
    yield from _missing_classes(survey)
    yield from _ignored(survey)
    yield from _equal_maps(survey)


def _sizes(survey: Survey) -> Iterator[Finding]:
    found: dict[str, list[str]] = defaultdict(list)
    for _, _, pair in survey.pairs():
        if not (pair.photograph and pair.map) or pair.photograph.size == pair.map.size:
            continue
        (height, width), (rows, columns) = pair.photograph.size, pair.map.size
        text = f"{pair.image} (the image is {height}×{width} but its label {pair.label} is {rows}×{columns})"
        turned = (height, width) == (columns, rows)
        kind = "exif" if turned and pair.photograph.orientation in TURNED else "swapped" if turned else "other"
        found[kind].append(text)
    remedies = {
        "exif": "EXIF turns the photograph and not its label: turn the photograph's own pixels (`exiftran -ai`)",
        "swapped": "height and width are swapped: turn one of the two",
        "other": "they must have the same size: enlarge or reduce labels with nearest neighbour only",
    }
    for kind, files in found.items():
        yield error("photograph and label differ in size", remedies[kind], files)


def _unknown_values(survey: Survey) -> Iterator[Finding]:
    known = survey.labels.lookup != UNKNOWN
    odd = {
        pair.label: values
        for _, _, pair in survey.pairs()
        if (values := sorted(value for value in pair.values or () if not known[value]))
    }
    if not odd:
        return
    unknown, ids = sorted(set().union(*odd.values())), np.flatnonzero(known)
    several = len(unknown) > 1
    what = (
        f"label value{'s' * several} {_numbers(unknown)} {'are' if several else 'is'} not in the table "
        f"{survey.labels.name!r} (ids {ids[0]} … {ids[-1]})"
    )
    files = [f"{name} ({_numbers(values)})" if several else name for name, values in odd.items()]
    yield error(what, _remedy(survey, set(unknown)), files)


def _numbers(values: list[int]) -> str:
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(map(str, values[:SHOWN])) + more


def _remedy(survey: Survey, unknown: set[int]) -> str:
    """What most likely happened, from which values occur and which are known."""
    labels, values = survey.labels, _values(survey)
    known = {entry.id for entry in labels.entries}
    if not _is_identity(labels) and values - {IGNORE} <= set(range(labels.num_classes)):
        return f"these look like train ids, which the table would map a second time: {_original(labels)}"
    others = [t for t in TABLES.values() if not _is_identity(t) and values <= {entry.id for entry in t.entries}]
    same = [table.name for table in others if table.num_classes == labels.num_classes]
    if _is_identity(labels) and same:
        return f"these look like the ids of {same[0]}, not mapped to train ids: use the label table {same[0]!r}"
    if unknown == {max(known - {IGNORE}) + 1}:
        return "ids seem to count from 1 where the table counts from 0: subtract 1, or mend the table's ids"
    if len(values) <= labels.num_classes + 1 and min(unknown) >= 64:
        return "these look like the grey levels of a painted mask: number the classes 0, 1, 2, … instead"
    if len(values) > 2 * len(known):
        return "so many values come from interpolating or compressing labels: make them anew, with nearest neighbour"
    return "mend the files or the table"


def _original(labels: LabelTable) -> str:
    files = "*_gtFine_labelIds.png" if labels.name == "cityscapes" else "the original labels"
    return f"take {files}, or a table in which every id is its own train id"


def _values(survey: Survey) -> set[int]:
    return {value for _, _, pair in survey.pairs() for value in pair.values or ()}


def _is_identity(labels: LabelTable) -> bool:
    return all(entry.id == entry.train_id for entry in labels.classes)


def _confused_ids(survey: Survey) -> Iterator[Finding]:
    """Ids that the table knows, and that are nevertheless not the ones it means."""
    labels, values = survey.labels, _values(survey)
    if _is_identity(labels) or not values:
        return
    total = sum(split.census.pixels for split in survey.splits.values())
    names = [", ".join(survey.splits)]
    low = values - {IGNORE} <= set(range(labels.num_classes))
    if low and 2 * np.count_nonzero(total) <= labels.num_classes:
        what = f"no label value is above {max(values)}, and most classes are missing"
        yield error(what, f"these look like train ids, mapped a second time: {_original(labels)}", names)
    elif low and _seems_shifted(survey, total):
        what = f"0 is ignored, yet the most frequent value, and {labels.num_classes} never occurs"
        remedy = f"if the labels were shifted by one already, {_original(labels)}"
        yield doubt(what, remedy, names)


def _seems_shifted(survey: Survey, total: np.ndarray) -> bool:
    """Of ids 0 … n with 0 ignored (ADE20K) labels that had 1 subtracted already: class 0 has become the ignored one."""
    n = survey.labels.num_classes
    counted_from_one = all(entry.id == entry.train_id + 1 for entry in survey.labels.classes)
    zeros = sum((pair.values or {}).get(0, 0) for _, _, pair in survey.pairs())
    return counted_from_one and n not in _values(survey) and zeros > total.max()


def _missing_classes(survey: Survey) -> Iterator[Finding]:
    names = survey.labels.names
    present = {name: split.census.present > 0 for name, split in survey.splits.items()}
    for name, split in survey.splits.items():
        if split.census.present.any() and np.count_nonzero(split.census.present) == 1:
            only = names[int(split.census.present.argmax())]
            yield error(f"its labels hold one class only, {only!r}", _why_one_class(split), [name])
    for name, here in present.items():
        lacking = [names[k] for k in np.flatnonzero(~here)]
        if not lacking or np.count_nonzero(here) < 2:
            continue
        use = "they cannot be learnt from it" if name.startswith("train") else "they are not scored"
        remedy = f"{use}; add images that show them, or take them out of the table if they are not wanted"
        yield doubt(f"no pixel of {_words(lacking)}", remedy, [name])


def _why_one_class(split: Split) -> str:
    if split.census.ignored:
        return "is 255 a class here and no ignored value? Then give it another id"
    return "there is nothing to tell apart: look at how the labels were made"


def _words(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more classes" if len(names) > SHOWN else "")


def _ignored(survey: Survey) -> Iterator[Finding]:
    ignored = survey.labels.lookup == IGNORE
    empty: list[str] = []
    for name, split in survey.splits.items():
        blank = [p for p in split.pairs if p.values and all(ignored[value] for value in p.values)]
        if split.census.images and len(blank) == split.census.images:
            remedy = "there is nothing to learn or to score: is this the right table, are these the right files?"
            level = doubt if name == "test" else error  # of test images the labels are often kept back
            yield level("its labels hold ignored pixels only", remedy, [name])
            continue
        empty += [pair.label for pair in blank]
        share = split.census.ignored / max(split.census.ignored + int(split.census.pixels.sum()), 1)
        if share > MOSTLY_IGNORED:
            remedy = "fine if so few pixels were annotated; else look at which ids the table ignores"
            yield doubt(f"{share:.0%} of its pixels are ignored", remedy, [name])
    if empty:
        yield doubt("all of the label is ignored", "the pair teaches nothing; leave it out of the list", empty)


def _equal_maps(survey: Survey) -> Iterator[Finding]:
    """Different photographs with one label: a copy that went wrong. Labels of one value are equal by nature."""
    twins = {place: number for number, group in enumerate(survey.twins) for place in group}
    owners: dict[str, dict[object, str]] = defaultdict(dict)
    for split, index, pair in survey.pairs():
        if pair.values and len(pair.values) > 1:
            owners[pair.content].setdefault(twins.get((split, index), (split, index)), pair.label)
    same = [list(group.values()) for group in owners.values() if len(group) > 1]
    files = [f"{group[0]} = {name}" for group in same for name in group[1:]]
    if files:
        yield doubt("different photographs have the same label", "look whether one was copied by mistake", files)
