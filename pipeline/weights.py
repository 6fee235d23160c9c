"""recipe.yaml's `weights` in; work/weights/ out: what the training starts from, and a receipt.

The pretrained backbone, or the network to fine-tune, or only the receipt that says there is neither.
"""

from __future__ import annotations

import shutil

from pipeline.finetune import WeightsSection, bring
from pipeline.settings import WEIGHTS, image_root, section, stage
from segcore.data.pretrained import fetch_weights
from segcore.files import write_json


@stage
def main() -> None:
    """Runs the stage."""
    recipe = section("weights", WeightsSection)
    shutil.rmtree(WEIGHTS, ignore_errors=True)  # as DVC does, so that no earlier run's file is taken for this one's
    if recipe.finetune:
        receipt = bring(recipe.finetune, WEIGHTS)
    else:
        receipt = fetch_weights(recipe, image_root("weights"), WEIGHTS)
    write_json(WEIGHTS / "receipt.json", receipt)
    none = " (the network starts from random weights)" if receipt["pretrained"] == "none" else ""
    print(f"pretrained: {receipt['pretrained']}{none}")


if __name__ == "__main__":
    main()
