"""What was measured here, held against what was published.

The mean over all seeds of the recipe is compared, never the best run. Runs with `as_published` stand for a claim where
there are any, for they are the training that the number comes from; else those of the recipe as it stands. Speed is
compared on the named hardware alone: what other machines gave is said beside it and is no verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.tables.published import ACCURACY, Claim

REPRODUCED, BELOW, ABOVE, NOT_MEASURED, NOT_HERE = "reproduced", "below", "above", "not measured", "not runnable here"
WORDS = (REPRODUCED, BELOW, ABOVE, NOT_MEASURED, NOT_HERE)
AS_PUBLISHED, AS_IT_STANDS = "as_published", ""


@dataclass(frozen=True)
class Verdict:
    """A claim and what came of it; `mean`, `std` and `seeds` are empty where nothing was measured."""

    claim: Claim
    word: str
    why: str
    mean: float | None = None
    std: float | None = None
    seeds: tuple[int, ...] = ()


def judge(claims: Sequence[Claim], means: pd.DataFrame) -> list[Verdict]:
    """The verdict on every claim, in their order, by the means over seeds."""
    return [_judge(claim, means) for claim in claims]


def count(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """How many claims of each source (rows) have which verdict (columns)."""
    counts = Counter((verdict.claim.source.title, verdict.word) for verdict in verdicts)
    sources = list(dict.fromkeys(verdict.claim.source.title for verdict in verdicts))
    return pd.DataFrame([[counts[source, word] for word in WORDS] for source in sources], sources, list(WORDS))


def _judge(claim: Claim, means: pd.DataFrame) -> Verdict:
    if claim.not_here:
        return Verdict(claim, NOT_HERE, claim.not_here)
    same = means[(means.dataset == claim.what.dataset) & (means.model == claim.model)]
    found = _scores(claim, same) if claim.what.metric in ACCURACY else _speeds(claim, same)
    if found.empty:
        return Verdict(claim, NOT_MEASURED, _elsewhere(claim, same))
    row = found.iloc[0]
    low, high = claim.accepted
    word = BELOW if row["mean"] < low else ABOVE if row["mean"] > high else REPRODUCED
    if row["busy"] and word == BELOW:
        return Verdict(claim, NOT_MEASURED, "other programs ran on the machine while speed was measured")
    std = None if pd.isna(row["std"]) else float(row["std"])
    return Verdict(claim, word, _conditions(claim, row), float(row["mean"]), std, tuple(row["seeds"]))


def _scores(claim: Claim, same: pd.DataFrame) -> pd.DataFrame:
    scores = same[(same.metric == claim.what.metric) & (same.key == claim.what.mode)]
    published = scores[scores.setting == AS_PUBLISHED]
    return published if len(published) else scores[scores.setting == AS_IT_STANDS]


def _speeds(claim: Claim, same: pd.DataFrame) -> pd.DataFrame:
    what = claim.what
    key = f"{what.runtime.split()[0].lower()}_{what.precision}_{what.size}_b1"
    speeds = same[(same.metric == "fps") & (same.device == what.device) & (same.key == key)]
    return speeds[speeds.setting == AS_IT_STANDS]


def _elsewhere(claim: Claim, same: pd.DataFrame) -> str:
    """What there is instead of the measurement, if anything."""
    if claim.what.metric == "fps":
        devices = sorted({*same[same.metric == "fps"].device} - {claim.what.device})
        return f"measured on {', '.join(devices)} only: no verdict across hardware" if devices else ""
    settings = sorted({*same[same.metric == claim.what.metric].setting} - {AS_IT_STANDS, AS_PUBLISHED})
    return f"only with another recipe ({'; '.join(settings)}): no verdict" if settings else ""


def _conditions(claim: Claim, row: pd.Series) -> str:
    parts = ["as_published"] if row["setting"] == AS_PUBLISHED else []
    parts += [f"from {claim.accepted[0]:g} to {claim.accepted[1]:g} by {claim.because}"]
    parts += ["the runs do not share code and data"] if row["mixed"] and claim.what.metric != "fps" else []
    return "; ".join(parts)
