"""recipe.yaml's `data` in; the images in the data store, and work/fetch/files.csv out (path, size, crc32 of each).

Archives that lie there are unpacked, missing ones downloaded where that can be done (with an account for Cityscapes;
SEGCORE_OFFLINE=1 forbids it). After an interruption the same command goes on where it stopped.

The images themselves are no DVC out: they may not be published again, and a colleague without them still gets every
result that does not need them.
"""

from __future__ import annotations

from pipeline.settings import FILES, DatasetInfo, checksum_memory, image_root, section, stage
from segcore.data.sources import DataRecipe, fetch
from segcore.data.store import write_files


@stage
def main() -> None:
    """Runs the stage."""
    info = section("dataset", DatasetInfo)
    folder = image_root(info.name)
    table = [info.labels] if (folder / info.labels).is_file() else []
    files = fetch(section("data", DataRecipe), folder, checksum_memory(info.name), table)
    write_files(FILES, files)
    print(f"{len(files)} files, {sum(file.size for file in files) / 1e6:.0f} MB in {folder}")


if __name__ == "__main__":
    main()
