"""A packed copy gives the same pixels, notices every change, and survives whatever happens to it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from segcore.data import packed as module
from segcore.data.datasets import Samples
from segcore.data.labels import LabelTable
from segcore.data.packed import PackedSamples, pack
from segcore.data.store import Checksums
from segcore.data.transforms import augment
from segcore.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "packed"


def packed_of(samples: Samples, folder: Path) -> PackedSamples:
    """As a later run finds it: the files' checksums taken anew."""
    checksums = Checksums(samples.root, folder.parent / "memory.csv")
    return PackedSamples(samples, [checksums.of(path) for pair in samples.pairs for path in pair], folder)


def equal(ours: Samples, theirs: Samples) -> bool:
    """Whether all pairs are."""
    pairs = ((ours.pair(index), theirs.pair(index)) for index in range(len(theirs)))
    return all(np.array_equal(a, b) for mine, other in pairs for a, b in zip(mine, other, strict=True))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


def test_pairs_and_samples_are_the_files(samples, folder):
    packed = packed_of(samples, folder)
    pack(packed)
    assert packed.size() == len(list(folder.glob("*.npy"))) * (4 * 48 * 64 + 128 + 4)
    assert equal(packed, samples) and packed.names == samples.names
    crops = [augment(*s.pair(1), (32, 32), (0.5, 2.0), 0.4, np.random.default_rng(0)) for s in (packed, samples)]
    assert all(np.array_equal(a, b) for a, b in zip(*crops, strict=True))


def test_changing_a_pair_in_memory_leaves_the_copy_alone(samples, folder):
    packed = packed_of(samples, folder)
    pack(packed)
    for array in packed.pair(0):
        array[:] = 7
    assert equal(packed, samples)


def test_a_second_call_and_another_list_pack_nothing(samples, folder):
    pack(packed_of(samples, folder))
    before = times(folder)
    pack(packed_of(samples, folder))
    pack(packed_of(Samples(samples.pairs[:2], samples.root, samples.labels), folder))
    assert times(folder) == before


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
def test_a_damaged_copy_is_packed_again(damage, samples, folder):
    packed = packed_of(samples, folder)
    pack(packed)
    before, victim = times(folder), packed.packed[2]
    content = victim.read_bytes()
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(content[:5000] + (b"x" + content[5001:] if damage == "changed" else b""))
    pack(packed)
    assert equal(packed, samples)
    assert {name for name, time in times(folder).items() if time != before[name]} == {victim.name}


def test_a_changed_picture_is_another_pair(samples, folder):
    pack(packed_of(samples, folder))
    cv2.imwrite(str(samples.image_path(0)), np.full((48, 64, 3), 9, np.uint8))
    later = packed_of(samples, folder)
    assert equal(later, samples), "not packed yet: read from the files"
    pack(later)
    assert equal(later, samples) and len(list(folder.glob("*.npy"))) == len(samples) + 1


def test_another_label_table_is_another_pair(samples, folder):
    pack(packed_of(samples, folder))
    swapped = {0: 3, 3: 0}
    entries = (replace(entry, train_id=swapped.get(entry.train_id, entry.train_id)) for entry in samples.labels.entries)
    other = Samples(samples.pairs, samples.root, LabelTable("swapped", tuple(entries)))
    pack(packed_of(other, folder))
    assert equal(packed_of(other, folder), other) and equal(packed_of(samples, folder), samples)


def test_an_interrupted_call_goes_on(samples, folder, monkeypatch):
    packed, whole = packed_of(samples, folder), module._pack_one

    def die(found, index):
        if index == 3:
            raise KeyboardInterrupt
        return whole(found, index)

    monkeypatch.setattr(module, "_pack_one", die)
    with pytest.raises(KeyboardInterrupt):
        pack(packed, workers=1)
    before = times(folder)
    assert before and len(before) < len(samples)
    monkeypatch.setattr(module, "_pack_one", whole)
    pack(packed)
    assert equal(packed, samples) and before.items() <= times(folder).items()


def test_a_disk_without_room_is_said_before_anything_is_written(samples, folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, module.SPARE))
    with pytest.raises(DataError, match=r"takes 0\.0 GB more and 1\.1 GB are free; make room, or set `runtime\.cache"):
        pack(packed_of(samples, folder))
    assert not list(folder.glob("*.npy"))


def test_a_picture_that_cannot_be_read_stays_for_training_to_judge(samples, folder):
    samples.image_path(1).write_bytes(b"<html>")
    packed = packed_of(samples, folder)
    pack(packed)
    assert len(times(folder)) == len(samples) - 1
    with pytest.raises(DataError, match="train_001.png: cannot be decoded"):
        packed.pair(1)
