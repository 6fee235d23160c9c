"""recipe.yaml's `weights` in; work/weights/ out: the pretrained backbone, or only a receipt that says there is none."""

from __future__ import annotations

from pipeline.settings import WEIGHTS, image_root, section, stage
from segcore.data.pretrained import WeightsRecipe, fetch_weights
from segcore.files import write_json


@stage
def main() -> None:
    """Runs the stage."""
    receipt = fetch_weights(section("weights", WeightsRecipe), image_root("weights"), WEIGHTS)
    write_json(WEIGHTS / "receipt.json", receipt)
    print(f"pretrained: {receipt['pretrained']}")


if __name__ == "__main__":
    main()
