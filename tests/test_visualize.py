"""Pictures are data too: every colour has a meaning, so the tests look at pixels."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore import visualize
from segcore.data.labels import TABLES
from segcore.errors import DataError

PALETTE = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)


@given(arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 255])))
def test_colours_can_be_read_back(labels: np.ndarray) -> None:
    picture = visualize.colorize(labels, PALETTE, ignored=(1, 2, 3))
    for label, color in [*enumerate(PALETTE.tolist()), (255, [1, 2, 3])]:
        assert (picture[labels == label] == color).all()


def test_a_label_without_colour_is_refused() -> None:
    with pytest.raises(DataError, match="label 3 has no colour: the palette has 3 classes"):
        visualize.colorize(np.array([[0, 3]], np.uint8), PALETTE)


def test_overlay_mixes_and_leaves_ignored_pixels_alone() -> None:
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = visualize.overlay(image, np.array([[1, 255]], np.uint8), PALETTE, opacity=0.25)
    assert mixed.tolist() == [[[125, 100, 75], [100, 100, 100]]]


def test_overlay_refuses_another_size() -> None:
    with pytest.raises(DataError, match="image of 2×2 and labels of 1×2"):
        visualize.overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2), np.uint8), PALETTE)


def test_difference_tells_right_wrong_and_ignored() -> None:
    truth, prediction = np.array([[0, 1, 255]], np.uint8), np.array([[0, 2, 1]], np.uint8)
    expected = [[visualize.RIGHT, visualize.WRONG, visualize.IGNORED]]
    assert visualize.difference(truth, prediction).tolist() == np.array(expected).tolist()
    with pytest.raises(DataError, match="cannot be compared"):
        visualize.difference(truth, prediction.T)


def test_shrunk_labels_stay_labels_and_nothing_grows() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 2], np.uint8), (40, 60))
    small = visualize.fit_width(labels, 21)
    assert small.shape == (14, 21) and set(np.unique(small)) <= {0, 2}
    assert visualize.fit_width(labels, 100) is labels
    photograph = np.dstack([np.tile(np.array([0, 200], np.uint8), (4, 4))] * 3)
    assert (visualize.fit_width(photograph, 4) == 100).all()


def test_encoded_maps_come_back_in_rgb() -> None:
    picture = visualize.colorize(np.array([[0, 1], [2, 255]], np.uint8), PALETTE)
    content = np.frombuffer(visualize.encode(picture), np.uint8)
    assert np.array_equal(cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1], picture)


def test_contact_sheet_places_pictures_in_rows_and_columns() -> None:
    red, blue = (np.full((10, 20, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))
    sheet = visualize.contact_sheet([[red, blue], [blue, "none"]], ["left", "right"], ["one", "two"], width=20)
    assert sheet.shape[1] == 8 + 2 * 28
    assert (sheet == (255, 0, 0)).all(-1).sum() == 200
    columns = np.flatnonzero((sheet == (0, 0, 255)).all(-1).any(0))
    assert columns.tolist() == [*range(8, 28), *range(36, 56)]


def test_contact_sheet_refuses_ragged_rows() -> None:
    with pytest.raises(DataError, match="needs 2 pictures a row"):
        visualize.contact_sheet([["one"]], ["a", "b"], ["caption"])


def test_row_shares_leave_empty_classes_out() -> None:
    shares = visualize.row_shares(np.array([[3, 1], [0, 0]]))
    assert shares[0].tolist() == [0.75, 0.25]
    assert np.isnan(shares[1]).all()


def test_confusion_figure_writes_percentages_of_the_row() -> None:
    figure = visualize.confusion_figure(np.array([[90, 10, 0], [0, 0, 0], [1, 0, 999]]), ["a", "b", "c"])
    axes = figure.axes[0]
    texts = {(text.get_position()[::-1]): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "90", (0, 1): "10", (2, 2): "100"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]


def test_a_large_confusion_matrix_drops_the_text() -> None:
    count = visualize.MOST_CLASSES_WITH_TEXT + 1
    figure = visualize.confusion_figure(np.eye(count, dtype=np.int64), [str(index) for index in range(count)])
    assert not figure.axes[0].texts


def test_curve_figure_plots_what_it_is_given() -> None:
    steps, loss, lr = np.arange(5), np.linspace(3, 1, 5), np.linspace(0.1, 0, 5)
    upper, lower = visualize.curve_figure(steps, {"loss": loss, "main": loss / 2}, lr).axes
    assert [line.get_label() for line in upper.lines] == ["loss", "main"]
    assert np.array_equal(upper.lines[1].get_ydata(), loss / 2)
    assert np.array_equal(lower.lines[0].get_ydata(), lr)


def test_bars_stand_in_the_order_given_and_carry_their_values() -> None:
    axes = visualize.bars_figure(["first", "second"], [12.5, 3], "points").axes[0]
    assert [bar.get_width() for bar in axes.patches] == [12.5, 3]
    assert [text.get_text() for text in axes.texts] == ["12.50", "3.00"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert axes.yaxis_inverted() and axes.get_xlabel() == "points"


def test_histogram_counts_every_image_once() -> None:
    axes = visualize.histogram_figure(np.array([0, 1, 50, 99, 100, np.nan]), "mIoU", bins=4).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [2, 0, 1, 2]


def test_side_by_side_shows_all_three_at_full_size() -> None:
    image, truth, guess = np.full((2, 3, 3), 9, np.uint8), np.full((2, 3), 255, np.uint8), np.ones((2, 3), np.uint8)
    picture = visualize.side_by_side(image, truth, guess, PALETTE)
    assert picture.shape == (2, 9 + 2 * 4, 3)
    white = [255, 255, 255]
    expected = [[9, 9, 9], white, [0, 0, 0], white, PALETTE[1].tolist()]
    assert [picture[0, x].tolist() for x in (2, 3, 7, 10, 14)] == expected


def test_figures_are_reproducible_and_free_of_links() -> None:
    def draw() -> tuple[str, bytes]:
        table = TABLES["camvid"]
        figure = visualize.confusion_figure(np.eye(table.num_classes, dtype=np.int64), table.names)
        return visualize.figure_svg(figure), visualize.figure_png(figure)

    (svg, png), again = draw(), draw()
    assert (svg, png) == again
    assert svg.startswith("<svg") and "http" not in svg and "currentColor" in svg and visualize.INK not in svg
    assert not re.search(r"<metadata|xmlns", svg)
    assert png.startswith(b"\x89PNG")


def test_a_legend_shows_each_colour_beside_its_name() -> None:
    entries = [("road", [(128, 64, 128)]), ("both", [(1, 2, 3), (200, 10, 20)])]
    strip = visualize.legend(entries, 200)
    assert strip.shape[1] == 200
    for color in [(128, 64, 128), (1, 2, 3), (200, 10, 20)]:
        assert (strip == color).all(-1).sum() > 30
    assert visualize.legend(entries, 40).shape[0] > strip.shape[0]  # one below the other


def test_pictures_with_legends_stay_of_one_size_for_a_video() -> None:
    table, image = TABLES["ade20k"], np.zeros((40, 300, 3), np.uint8)
    one, many = np.full((40, 300), 3, np.uint8), (np.indices((40, 300)).sum(0) % 150).astype(np.uint8)
    few, full = (visualize.with_legend(image, labels, table) for labels in (one, many))
    assert few.shape == full.shape and (few[:40] == 0).all()
    assert (few[40:] == table.palette[3]).all(-1).any() and not (few[40:] == table.palette[4]).all(-1).any()


def test_a_legend_of_few_classes_names_them_all() -> None:
    table = TABLES["cityscapes"]
    strip = visualize.with_legend(np.zeros((8, 400, 3), np.uint8), np.zeros((8, 400), np.uint8), table)[8:]
    assert all((strip == color).all(-1).any() for color in table.palette)
