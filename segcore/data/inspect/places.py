"""From what a person names, a data set, a folder or lists, to the lists to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from segcore.data.datasets import Samples, root_beside
from segcore.data.labels import TABLES, LabelTable
from segcore.data.layouts import LAYOUTS, SPLITS, find_pairs, read_pairs, walk
from segcore.data.sources import DataRecipe
from segcore.data.store import find_dataset
from segcore.errors import DataError, did_you_mean

BROUGHT = "the stage `fetch` brings what is drawn or downloaded (`make repro`), anything else is put there by hand"
EXPECTED = "train.csv and val.csv, train/ trainannot/ val/ valannot/, or the folders of a known data set"


def find_lists(words: Sequence[str], table: LabelTable | None = None, root: Path | None = None) -> dict[str, Samples]:
    """The lists by split.

    Args:
        words: one name of a data set in the data store, one folder, or the paths of lists, whose stems name splits.
        table: replaces the label table that lies beside the lists or goes with the data set.
        root: replaces the place that the file `root` beside the lists names.

    Raises:
        DataError: nothing of that name, a list that cannot be read, no label table.
    """
    if len(words) == 1 and not Path(words[0]).is_file():
        return _in_folder(_folder(words[0]), table, root)
    return _read_lists([Path(word) for word in words], table, root)


def find_table(word: str) -> LabelTable:
    """The label table in file `word`, or the known one of that name.

    Raises:
        DataError: neither.
    """
    if word in TABLES and not Path(word).exists():
        return TABLES[word]
    if not Path(word).is_file():
        raise DataError(f"{word}: no such label table; {did_you_mean(word, TABLES)}")
    return LabelTable.read_csv(Path(word))


def _folder(word: str) -> Path:
    if Path(word).is_dir():
        return Path(word)
    if "/" in word or word.endswith((".csv", ".odgt")):
        raise DataError(f"{word}: no such list or folder; give one that is there, or a data set of the data store")
    folder = find_dataset(word, (), Path("data"))
    if not folder.is_dir():
        store = folder.parent
        here = sorted(path.name for path in store.iterdir() if path.is_dir()) if store.is_dir() else []
        known = did_you_mean(word, here) if here else BROUGHT
        raise DataError(f"{word}: no such list or folder, and no data set in {store}; {known}")
    return folder


def _in_folder(folder: Path, table: LabelTable | None, root: Path | None) -> dict[str, Samples]:
    lists = [folder / f"{split}.csv" for split in SPLITS if (folder / f"{split}.csv").is_file()]
    if lists:
        return _read_lists(lists, table, root)
    layout, pairs = _lay_out(folder)
    table = table or _table(folder, layout)
    return {split: Samples(found, folder, table) for split, found in pairs.items()}


def _lay_out(folder: Path) -> tuple[str, Mapping[str, list[tuple[str, str]]]]:
    """The first layout by which files are found, and the pairs."""
    for layout in LAYOUTS:
        recipe = DataRecipe(layout, get="the missing files")
        try:
            paths = walk(recipe, folder)
        except DataError:
            continue
        if paths:
            return layout, find_pairs(recipe, paths, folder)
    if archives := sorted(path.name for path in folder.glob("*.zip")):
        raise DataError(f"{folder}: not unpacked yet: {', '.join(archives)}; the stage `fetch` does that")
    raise DataError(f"{folder}: holds no data set; it should have {EXPECTED}")


def _table(folder: Path, layout: str) -> LabelTable:
    if (folder / "labels.csv").is_file():
        return LabelTable.read_csv(folder / "labels.csv")
    for name in (folder.resolve().name, layout):
        if name in TABLES:
            return TABLES[name]
    raise DataError(f"{folder}: which classes? Give --labels with a table or one of {', '.join(TABLES)}")


def _read_lists(paths: Sequence[Path], table: LabelTable | None, root: Path | None) -> dict[str, Samples]:
    found: dict[str, Samples] = {}
    for path in paths:
        if path.stem in found:
            raise DataError(f"{path}: a second list named {path.stem!r}; a list's name tells its split, so rename one")
        pairs = read_pairs(path)
        labels = table or LabelTable.read_csv(path.parent / "labels.csv")
        found[path.stem] = Samples(pairs, root or root_beside(path, pairs), labels)
    for path, samples in zip(paths, found.values(), strict=True):
        if samples.labels.digest != found[paths[0].stem].labels.digest:
            raise DataError(
                f"{path}: another label table lies beside it than beside {paths[0]}; give one with --labels"
            )
    return found
