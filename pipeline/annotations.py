"""work/fetch/files.csv in; work/annotations/ out: the lists, the label table, and what a look at every label showed.

This is where a wrong label value, a size that does not fit or an empty split stops the chain: in minutes, not hours
into training.
"""

from __future__ import annotations

from pipeline.settings import FILES, LISTS, DatasetInfo, params, section, stage, verified_images
from segcore.data.labels import TABLES
from segcore.data.lists import find_pairs, write_lists
from segcore.data.sources import DataRecipe
from segcore.data.store import read_files


@stage
def main() -> None:
    """Runs the stage."""
    info = section("dataset", DatasetInfo)
    folder = verified_images()
    pairs = find_pairs(section("data", DataRecipe), (file.path for file in read_files(FILES)))
    write_lists(LISTS, pairs, TABLES[info.labels], folder, info.name, params().runtime.workers)
    print(", ".join(f"{split} {len(found)} images" for split, found in pairs.items()))


if __name__ == "__main__":
    main()
