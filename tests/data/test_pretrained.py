"""Pretrained weights that have no address."""

import pytest

from segcore.data.pretrained import WeightsRecipe, fetch_weights
from segcore.errors import CheckpointError


def test_a_file_without_address_is_asked_for_with_its_place(tmp_path):
    store, out = tmp_path / "weights", tmp_path / "out"
    recipe = WeightsRecipe("backbone.tar")
    with pytest.raises(CheckpointError, match="no address to download it from") as caught:
        fetch_weights(recipe, store, out)
    assert str(store / "backbone.tar") in str(caught.value) and "()" not in str(caught.value)

    store.mkdir()
    out.mkdir()
    (store / "backbone.tar").write_bytes(b"weights")
    assert fetch_weights(recipe, store, out)["pretrained"] == "backbone.tar"
    assert (out / "backbone.pth").read_bytes() == b"weights"
