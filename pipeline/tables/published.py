"""Published numbers: pipeline/claims.yaml as single claims, and what is wrong with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt

from pipeline.settings import read_yaml, validate
from segcore.errors import RecipeError
from segcore.models.catalogue import CARDS

FOLDER = Path(__file__).parents[1]
CLAIMS = FOLDER / "claims.yaml"
ACCURACY = ("miou", "pixel_accuracy", "overall")
UNITS = {"fps": "fps", "engine_mb": "MB", "hours": "h", "top1": "%", "mflop": "MFLOP", **dict.fromkeys(ACCURACY, "%")}
# The order in which networks' cards list the modes.
MODES = ("ss", "ssc", "msf", "mscf", "mscf_old", "seg50", "seg75", "ade_ss", "ade_ms")
Range = tuple[float, float]


@dataclass(frozen=True)
class Source:
    """Who says it: `authors` of the reference, a `paper`, or `users` of the reference."""

    title: str
    by: Literal["authors", "paper", "users"]


@dataclass(frozen=True)
class Tolerance:
    """How far the mean of our seeds may lie from a number without a range: points, for fps per cent; and why so far."""

    within: Annotated[float, Gt(0)]
    because: str


@dataclass(frozen=True)
class What:
    """What a number is of; empty where it does not apply or was not said.

    Attributes:
        run: which of several such numbers.
        size: H×W written HxW.
        device: slug that `metrics/benchmark.json` has for `hardware`.
    """

    dataset: str = ""
    split: str = ""
    trained_on: str = ""
    metric: str = ""
    mode: str = ""
    hardware: str = ""
    device: str = ""
    runtime: str = ""
    size: str = ""
    precision: str = ""
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Printed(What):
    """One table of claims.yaml, see its head."""

    source: str
    vary: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | Range | None, ...]]
    date: str = ""
    ranges: dict[str, dict[str, Range]] = field(default_factory=dict)
    ranges_from: str = ""
    not_here: str | dict[str, str] = ""
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """One published number.

    Attributes:
        value: the number, in per cent for accuracies; `upto` is the upper end where a range was printed.
        accepted: where the mean of our seeds may lie for `reproduced`; `because` says where that is from.
        not_here: why nothing here can come out against it; empty where it can.
    """

    model: str
    what: What
    value: float
    upto: float | None
    source: Source
    date: str
    accepted: Range | None
    because: str
    not_here: str
    note: str

    @property
    def name(self) -> str:
        """The claim in one line, another one for each."""
        parts = [value for key, value in asdict(self.what).items() if key != "device" and value]
        return " ".join([self.model, *parts, f"({', '.join(filter(None, (self.source.title, self.date)))})"])


def read_claims(path: Path = CLAIMS) -> list[Claim]:
    """All claims in the file's order.

    Raises:
        RecipeError: the file is damaged, or has an unknown key, source, column or row.
    """
    content = {"sources": {}, "tolerances": {}, "tables": [], **read_yaml(path)}
    sources = {name: validate(Source, value, f"{path}: sources.{name}") for name, value in content["sources"].items()}
    tolerances = {
        name: validate(Tolerance, value, f"{path}: tolerances.{name}") for name, value in content["tolerances"].items()
    }
    claims = []
    for index, value in enumerate(content["tables"]):
        where = f"{path}: tables[{index}]"
        table = validate(Printed, value, where)
        if table.source not in sources:
            raise RecipeError(f"{where}: unknown source {table.source!r}; there are {', '.join(sources)}")
        _refuse_unknown_names(table, where)
        claims += _cells(table, sources[table.source], tolerances, where)
    return claims


def _refuse_unknown_names(table: Printed, where: str) -> None:
    """Notes, reasons and ranges must be of rows and columns that are there."""
    reasons = table.not_here if isinstance(table.not_here, dict) else {}
    for name in [*table.notes, *reasons, *table.ranges]:
        if name not in table.rows:
            raise RecipeError(f"{where}: {name!r} is no row of it; its rows are {', '.join(table.rows)}")
    for column in [column for ranges in table.ranges.values() for column in ranges]:
        if column not in table.columns:
            raise RecipeError(f"{where}: ranges: {column!r} is no column of it; they are {', '.join(table.columns)}")


def _cells(table: Printed, source: Source, tolerances: dict[str, Tolerance], where: str) -> Iterator[Claim]:
    base = What(**{name: getattr(table, name) for name in What.__dataclass_fields__})
    for model, values in table.rows.items():
        if len(values) != len(table.columns):
            raise RecipeError(f"{where}: row {model!r} has {len(values)} cells for {len(table.columns)} columns")
        reason = table.not_here if isinstance(table.not_here, str) else table.not_here.get(model, "")
        for column, value in zip(table.columns, values, strict=True):
            if value is None:
                continue
            what = _column(base, table.vary, column, where)
            low, high = value if isinstance(value, tuple) else (value, None)
            stated = table.ranges.get(model, {}).get(column)
            accepted, because = (stated, table.ranges_from) if stated else _around(low, what.metric, tolerances)
            if reason:
                accepted, because = None, ""
            yield Claim(
                model, what, low, high, source, table.date, accepted, because, reason, table.notes.get(model, "")
            )


def _column(base: What, vary: str, column: str, where: str) -> What:
    names, words = vary.split(), column.split()
    if len(names) != len(words) or not set(names) <= set(What.__dataclass_fields__):
        raise RecipeError(f"{where}: column {column!r} does not say {vary!r}, word by word")
    return replace(base, **dict(zip(names, words, strict=True)))


def _around(value: float, metric: str, tolerances: dict[str, Tolerance]) -> tuple[Range | None, str]:
    if metric not in tolerances:
        return None, ""
    within = tolerances[metric].within * (value / 100 if metric == "fps" else 1)
    return (round(value - within, 4), round(value + within, 4)), tolerances[metric].because


def problems(claims: Sequence[Claim], folder: Path = FOLDER) -> list[str]:
    """What is wrong with the claims, one line each; nothing when all is well."""
    counts = Counter(claim.name for claim in claims)
    twice = [
        f"{name}: {count} times there; say with `run` what tells them apart"
        for name, count in counts.items()
        if count > 1
    ]
    return [*twice, *(line for claim in claims for line in _problems_of(claim, folder)), *_differing_cards(claims)]


def _problems_of(claim: Claim, folder: Path) -> Iterator[str]:
    if claim.what.metric not in UNITS:
        yield f"{claim.name}: unknown metric {claim.what.metric!r}; there are {', '.join(UNITS)}"
    if claim.accepted and not claim.accepted[0] <= claim.value <= claim.accepted[1]:
        yield f"{claim.name}: {claim.value:g} does not lie in its own range {claim.accepted}"
    missing = missing_for(claim, folder)
    if missing and not claim.not_here:
        yield f"{claim.name}: cannot be had here, for {' and '.join(missing)}; add it or say why in `not_here`"


def missing_for(claim: Claim, folder: Path = FOLDER) -> list[str]:
    """What is missing to have the number here, as words."""
    what, missing = claim.what, []
    for kind, name in (("recipes", claim.model), ("datasets", what.dataset)):
        if not (folder / kind / f"{name}.yaml").is_file():
            missing.append(f"there is no pipeline/{kind}/{name}.yaml")
    if what.metric in ACCURACY:
        if what.split != "val" or what.trained_on != "train":
            missing.append("only what is trained on `train` is scored, on `val`")
        if what.mode not in MODES:
            missing.append(f"mode {what.mode!r} is not one that published numbers have")
    elif what.metric == "fps":
        if not (what.device and what.size and what.precision and what.runtime):
            missing.append("a speed needs device, runtime, size and precision to be compared")
    else:
        missing.append(f"nothing here measures {what.metric}")
    return missing


def _differing_cards(claims: Sequence[Claim]) -> Iterator[str]:
    """Networks' cards in segcore/models/catalogue.py that say other numbers than the newest claims of the authors."""
    for model, card in CARDS.items():
        said = [float(number) for number in re.findall(r"\d+\.\d+", card.published)]
        claimed = newest(claims, model, "cityscapes" if card.num_classes == 19 else "ade20k")
        if said != list(claimed.values()):
            yield (
                f"{model}: its card in segcore/models/catalogue.py says {said}, claims.yaml {list(claimed.values())}; "
                "correct the one that differs from the source"
            )


def newest(claims: Sequence[Claim], model: str, dataset: str) -> dict[str, float]:
    """mIoU % by mode that the authors printed last for a network on a validation split, misprints and runs left out."""
    found = {}
    for claim in sorted(claims, key=lambda claim: claim.date):
        what = claim.what
        same = (claim.model, what.dataset, what.split, what.metric) == (model, dataset, "val", "miou")
        if same and claim.source.by == "authors" and not what.run:
            found[what.mode] = claim.value
    return {mode: found[mode] for mode in MODES if mode in found}
