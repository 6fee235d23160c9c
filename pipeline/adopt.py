"""A folder of photographs and a folder of label maps in; a data set that the chain knows by name out.

    python -m pipeline.adopt mine --images ~/photos --labels ~/masks

Writes pipeline/datasets/mine.yaml and mine.csv, the label table: edit both. Lists, and links to the two folders, go to
the data store; the pictures stay where they are.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

from PIL import Image

from pipeline.settings import image_root, stage
from segcore.data.adopt import draft_table, match_pairs, measure_statistics, split_pairs
from segcore.data.datasets import write_list
from segcore.errors import DataError
from segcore.files import atomic_write
from segcore.progress import track

DATASETS = Path("pipeline/datasets")
SAMPLE = 300
RECIPE = """\
# {name}: {train} training and {val} validation images. Written by `python -m pipeline.adopt`, yours to edit.
# Statistics: mean and standard deviation over the pixels of {sample} training images.
about:
  title: {name}
dataset:
  labels: {table}
  mean: {mean}
  std: {std}
data:
  layout: lists
  lists: {{train: train.csv, val: val.csv}}     # image,label a line; in the data set's folder in the data store
evaluate:
  crop: [{side}, {side}]
  batch: 4
benchmark:
  sizes: [[{height}, {width}]]
datasets:
  # These stand over the recipe's own values, which are a publication's and take days on GPUs; so it is about half an
  # hour on two cores. Take out a line to have the recipe's value.
  {name}:
    weights: {{name: none, url: ""}}    # from random weights; without this line from the recipe's pretrained backbone
    train:
      iterations: 1400
      batch_size: 4
      crop: [{crop[0]}, {crop[1]}]
      scales: [0.75, 1.5]
      jitter: 0.3
      optimizer: adamw
      lr: 1.0e-3
      weight_decay: 1.0e-2
      head_lr_factor: 1.0
      schedule: cosine
      warmup: 30
      loss: cross_entropy
      auxiliary_weight: 0.0
      classifier_std: 0.01              # some networks start with logits of ±10
      precision: float32
      checkpoint_every: 60
      log_every: 20
"""


@stage
def main() -> None:
    """Looks at everything before anything is written."""
    given = parse()
    folder, recipe, table = image_root(given.name), DATASETS / f"{given.name}.yaml", DATASETS / f"{given.name}.csv"
    for path in (folder, recipe, table):
        if path.exists():
            raise DataError(f"{path}: is there already; remove it, or choose another name")
    pairs, unlabelled, unseen = match_pairs(given.images, given.labels, given.ending)
    labels = draft_table(given.name, [given.labels / label for _, label in pairs])
    train, val = split_pairs(pairs, given.val)
    sample = [given.images / image for image, _ in train[:: -(-len(train) // SAMPLE)]]
    values = {"name": given.name, "table": table.as_posix(), "train": len(train), "val": len(val)}
    text = RECIPE.format(**values, **_measured(sample))
    folder.mkdir(parents=True)
    for link, target in (("images", given.images), ("labels", given.labels)):
        (folder / link).symlink_to(target.resolve())
    for split, found in (("train", train), ("val", val)):
        write_list(folder / f"{split}.csv", [(f"images/{image}", f"labels/{label}") for image, label in found])
    (folder / "root").write_text(f"{given.name}\n", encoding="utf-8")
    labels.write_csv(table)
    with atomic_write(recipe) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{len(train)} training and {len(val)} validation pairs, {labels.num_classes} classes; lists in {folder}")
    if unlabelled or unseen:
        print(f"left out: {unlabelled} photographs without a label, {unseen} labels without a photograph")
    print(f"next: name the classes in {table}, then `segcore inspect {given.name} --labels {table}`")


def _measured(sample: list[Path]) -> dict[str, object]:
    """Statistics of photographs, their most frequent size, and windows that fit into it."""
    mean, std = measure_statistics(track(sample, "measure colours"))
    height, width = Counter(Image.open(path).size[::-1] for path in sample).most_common(1)[0][0]
    crop = [max(min(most, side // 32 * 32), 32) for most, side in ((512, height), (1024, width))]
    found = {"mean": list(mean), "std": list(std), "height": height, "width": width}
    return {**found, "crop": crop, "side": min(crop), "sample": len(sample)}


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError("letters, digits, - and _ alone")
    return text


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.adopt", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("name", type=_name, help="what the data set shall be called")
    add("--images", type=Path, required=True, help="folder of photographs (.png, .jpg), searched to its depth")
    add("--labels", type=Path, required=True, help="folder of label maps: 8-bit PNG, one channel, pixel = class id")
    add("--ending", default="", help="what a label's name has after its image's, such as _mask")
    add("--val", type=float, default=0.2, help="share of the pairs to validate on (default: 0.2)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
