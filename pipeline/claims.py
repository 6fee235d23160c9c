"""Every published number, and what came of it here: reproduced, below, above, not measured, not runnable here.

    python -m pipeline.claims               # how many of which, and what was judged
    python -m pipeline.claims bisenetv2 ss  # every claim whose line has all these words

Verdicts come from docs/results/, where the run of the workspace is kept first if none of its name is there. Exits with
1 if pipeline/claims.yaml is wrong: a number that has neither a recipe nor a reason why there is none, one that is there
twice, or one that a network's card denies.
"""

from __future__ import annotations

import sys

from rich.console import Console

from pipeline.settings import stage
from pipeline.table import keep
from pipeline.tables.published import CLAIMS, problems, read_claims
from pipeline.tables.runs import workspace
from pipeline.tables.texts import CLAIM_ALIGN, CLAIM_HEADER, claim_row, count_rows, terminal
from pipeline.tables.verdicts import NOT_HERE, NOT_MEASURED, Verdict
from pipeline.tables.written import Results, write_texts
from segcore.errors import RecipeError


@stage
def main() -> None:
    """Checks claims.yaml, prints verdicts and writes claims.md and claims.csv."""
    if wrong := problems(read_claims()):
        raise RecipeError("\n  ".join([f"{CLAIMS} has {len(wrong)} mistakes", *wrong]))
    for line in keep([here] if (here := workspace()) else []):
        print(line)
    results = Results.read()
    write_texts(results)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    if words := sys.argv[1:]:
        chosen = [verdict for verdict in results.verdicts if _has(verdict, words)]
        if not chosen:
            raise RecipeError(f"no claim has all of these words: {' '.join(words)}")
        console.print(terminal(f"Claims with {' '.join(words)}", CLAIM_HEADER, map(claim_row, chosen), CLAIM_ALIGN))
        return
    console.print(terminal(f"{len(results.verdicts)} published numbers", *count_rows(results.verdicts)))
    judged = [verdict for verdict in results.verdicts if verdict.word not in (NOT_MEASURED, NOT_HERE)]
    if judged:
        console.print(terminal("What was judged", CLAIM_HEADER, map(claim_row, judged), CLAIM_ALIGN))
    console.print("All of them: docs/results/claims.md, or `python -m pipeline.claims WORD…` for some")


def _has(verdict: Verdict, words: list[str]) -> bool:
    # Framed by spaces, so that bisenetv1 is not bisenetv1_2020.
    line = f" {' '.join([*claim_row(verdict), verdict.claim.name])} ".replace(",", " ").lower()
    return all(f" {word.lower()} " in line for word in words)


if __name__ == "__main__":
    main()
