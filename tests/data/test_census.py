"""Counts over label maps."""

from __future__ import annotations

import numpy as np

from segcore.data.census import Census, count_values
from segcore.data.labels import IGNORE


class TestCensus:
    def test_counts_beyond_what_float32_holds(self):
        assert count_values(np.full((5000, 4000), 3, np.uint8))[3] == 20_000_000

    def test_the_most_frequent_class_of_every_place_over_many_labels(self):
        labels = np.random.default_rng(0).integers(0, 4, (600, 5, 7)).astype(np.uint8)
        labels[labels == 3] = IGNORE
        census = Census(3, keep_map=True)
        for label in labels:
            census.add(label)
        counts = np.stack([(labels == k).sum(0) for k in range(3)])
        assert np.array_equal(census.majority(), counts.argmax(0))
        assert census.pixels.tolist() == counts.sum((1, 2)).tolist() and census.ignored == (labels == IGNORE).sum()

    def test_a_class_that_fills_the_small_counters_is_still_the_most_frequent(self):
        census = Census(3, keep_map=True)
        for k in [2] * 300 + [1] * 100:  # 300 is 44 in a byte
            census.add(np.full((2, 2), k, np.uint8))
        assert (census.majority() == 2).all()

    def test_large_maps_are_counted_at_a_reduced_size(self, monkeypatch):
        monkeypatch.setattr("segcore.data.census.MOST_COUNTERS", 3000)
        census = Census(3, keep_map=True)
        label = np.zeros((100, 200), np.uint8)
        label[:, 100:] = 2
        census.add(label)
        majority = census.majority()
        assert majority.size <= 1000 and set(majority[:, 0]) == {0} and set(majority[:, -1]) == {2}
        assert census.pixels.tolist() == [10_000, 0, 10_000], "the counts are of all pixels"
