"""work/fetch/files.csv in; work/annotations/ out: the lists, the label table, and what an inspection of the data gave.

This is where a wrong label value, a size that does not fit, an empty split or an image in two lists stops the chain: in
minutes, not hours into training. What is only doubtful is printed, and kept in inspection.json.
"""

from __future__ import annotations

import sys

from pipeline.settings import FILES, LISTS, DatasetInfo, params, section, stage, verified_images
from segcore.data.labels import TABLES
from segcore.data.lists import find_pairs, write_lists
from segcore.data.sources import DataRecipe
from segcore.data.statistics import Statistics
from segcore.data.store import read_files


@stage
def main() -> None:
    """Runs the stage."""
    info = section("dataset", DatasetInfo)
    folder = verified_images()
    pairs = find_pairs(section("data", DataRecipe), (file.path for file in read_files(FILES)))
    expected = Statistics(info.mean, info.std)
    report = write_lists(LISTS, pairs, TABLES[info.labels], folder, info.name, params().runtime.workers, expected)
    for doubt in report.findings:  # an error would have ended the stage
        print(f"doubt: {doubt}", file=sys.stderr)
    print(", ".join(f"{split} {len(found)} images" for split, found in pairs.items()))


if __name__ == "__main__":
    main()
