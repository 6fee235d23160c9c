"""Protocols: sizes, windows, names."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.errors import RecipeError
from segcore.evaluate.modes import EvaluateRecipe, Mode, modes_for


def one(name: str, crop: tuple[int, int] = (1024, 1024)) -> Mode:
    return modes_for([name], crop=crop)[0]


def test_published_window_counts() -> None:
    """On 1024×2048 with crop 1024 the reference runs 1+2+3+8+8+15 windows, its old evaluator 28."""
    counts = {}
    for name in ("mscf", "mscf_old"):
        mode = one(name)
        sizes = [mode.scaled_size((1024, 2048), scale) for scale in mode.scales]
        counts[name] = [len(mode.windows(tuple(max(side, 1024) for side in size))) for size in sizes]
    assert counts["mscf"] == [1, 2, 3, 8, 8, 15]
    assert sum(counts["mscf_old"]) == 28
    assert one("ssc").stride == (683, 683) and one("mscf_old").stride == (854, 854)


def test_strides_are_exact_for_rectangular_crops() -> None:
    assert one("mscf", crop=(96, 128)).stride == (64, 86)
    assert one("mscf_old", crop=(96, 128)).stride == (80, 107)


def test_whole_image_sides_are_rounded_up_to_32() -> None:
    assert one("msf").scaled_size((97, 160), 0.75) == (96, 128)
    assert one("msf").scaled_size((96, 161), 1.0) == (96, 192)
    assert one("ssc").scaled_size((97, 161), 0.75) == (72, 120)
    assert one("seg50").scaled_size((70, 134), 0.5) == (35, 67)
    assert one("seg50").scaled_size((1, 1), 0.5) == (1, 1)


@pytest.mark.parametrize("size, expected", [((96, 160), (64, 106)), ((160, 96), (106, 64)), ((50, 50), (64, 64))])
def test_short_side_start(size: tuple[int, int], expected: tuple[int, int]) -> None:
    mode = modes_for(["ss"], crop=(64, 64), shortside=64)[0]
    assert mode.start_size(size) == expected


@pytest.mark.parametrize("size, expected", [((96, 160), (72, 120)), ((160, 96), (120, 72)), ((96, 100), (96, 100))])
def test_long_side_start_only_shrinks(size: tuple[int, int], expected: tuple[int, int]) -> None:
    mode = modes_for(["ss"], crop=(64, 64), longside=120)[0]
    assert mode.start_size(size) == expected


@given(st.tuples(*[st.integers(1, 40)] * 2), st.tuples(*[st.integers(0, 90)] * 2), st.sampled_from(["ssc", "mscf_old"]))
def test_windows_cover_every_pixel_and_stay_inside(crop: tuple[int, int], more: tuple[int, int], name: str) -> None:
    mode = one(name, crop)
    size = (crop[0] + more[0], crop[1] + more[1])
    windows = mode.windows(size)
    assert len(set(windows)) == len(windows)
    for axis in (0, 1):
        starts = sorted({window[axis] for window in windows})
        assert starts[0] == 0 and starts[-1] + crop[axis] == size[axis]
        assert all(b - a <= mode.stride[axis] <= crop[axis] for a, b in itertools.pairwise(starts))


def test_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="'mscff'.*'mscf'"):
        modes_for(["ss", "mscff"], crop=(64, 64))


@pytest.mark.parametrize("name, scale", [("seg50", 0.5), ("seg62.5", 0.625), ("seg100", 1.0), ("seg150", 1.5)])
def test_any_per_cent_is_a_mode(name: str, scale: float) -> None:
    assert modes_for([name]) == [Mode(name, scales=(scale,))]


@pytest.mark.parametrize("name", ["seg050", "seg50.0", "seg", "seg0", "seg50x", "seg1e2"])
def test_a_per_cent_is_written_in_one_way_only(name: str) -> None:
    with pytest.raises(RecipeError, match=f"unknown evaluation mode {name!r}"):
        modes_for([name])


def test_only_crop_modes_need_a_crop() -> None:
    assert [mode.name for mode in modes_for(["ss", "msf", "seg50", "ade_ms"])] == ["ss", "msf", "seg50", "ade_ms"]
    for name in ("ssc", "mscf", "mscf_old"):
        with pytest.raises(RecipeError, match=f"'{name}' scores windows; give their size"):
            EvaluateRecipe(modes=(name,))


def test_repeated_mode_and_two_start_sizes_are_refused() -> None:
    with pytest.raises(RecipeError, match="twice"):
        modes_for(["ss", "ss"], crop=(64, 64))
    with pytest.raises(RecipeError, match="exclude"):
        modes_for(["ss"], crop=(64, 64), shortside=64, longside=128)


def test_recipe_builds_its_modes_in_order() -> None:
    recipe = EvaluateRecipe(modes=("mscf", "ss"), scales=(0.5, 1.0), crop=(32, 64), start_longside=200)
    mscf, ss = recipe.build()
    assert (mscf.name, mscf.scales, mscf.crop, mscf.flip, mscf.longside) == ("mscf", (0.5, 1.0), (32, 64), True, 200)
    assert (ss.name, ss.scales, ss.crop, ss.flip, ss.round_to) == ("ss", (1.0,), None, False, 32)


def test_recipe_with_an_unknown_mode_is_refused_at_once() -> None:
    with pytest.raises(RecipeError, match="'sss'.*'ss'"):
        EvaluateRecipe(modes=("sss",), crop=(32, 64))
