"""work/fetch/files.csv in; work/annotations/ out: the lists, the label table, and what an inspection of the data gave.

This is where a wrong label value, a size that does not fit, an empty split or an image in two lists stops the chain: in
minutes, not hours into training. What is only doubtful is printed, and kept in inspection.json.
"""

from __future__ import annotations

import sys

from pipeline.settings import FILES, LISTS, DatasetInfo, label_table, params, section, stage, verified_images
from segcore.data.layouts import find_pairs
from segcore.data.lists import write_lists
from segcore.data.sources import DataRecipe
from segcore.data.store import read_files
from segcore.errors import DataError


@stage
def main() -> None:
    """Runs the stage."""
    info = section("dataset", DatasetInfo)
    folder, table = verified_images(), label_table(info.name, info.labels)
    if table.digest != info.label_digest:
        raise DataError(f"{info.labels}: not the label table that the recipe was resolved with; `dvc repro -f resolve`")
    recipe, paths = section("data", DataRecipe), [file.path for file in read_files(FILES) if file.path != info.labels]
    pairs = find_pairs(recipe, paths, folder)
    report = write_lists(LISTS, pairs, table, folder, info.name, params().runtime.workers, recipe.statistics)
    for doubt in report.findings:  # an error would have ended the stage
        print(f"doubt: {doubt}", file=sys.stderr)
    print(", ".join(f"{split} {len(found)} images" for split, found in pairs.items()))


if __name__ == "__main__":
    main()
