"""Finished blocks are counted and stored by a thread of their own, in their order."""

import threading
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geohp.inference import writing
from geohp.inference.areas import TALLY
from geohp.inference.engine.pipeline import FinishedBlock
from geohp.inference.extent import Extent
from geohp.raster.block import Block
from geohp.raster.grid import Grid

GRID = Grid(8, 8, from_origin(0, 8, 1, 1), CRS.from_epsg(25832))


class Store:
    def __init__(self):
        self.notes, self.stored = [], []

    def put(self, row, col, layers, note=None):
        self.stored.append((row, col, layers, note))


def blocks():
    for row in (0, 4):
        labels = np.full((4, 8), row, np.uint8)
        labels[0, 0] = 255
        yield FinishedBlock(Block(row, 0, 4, 8), {"labels": labels, "confidence": np.full((4, 8), 100, np.uint8)})


def test_blocks_are_stored_with_their_classes_counted(monkeypatch):
    threads, tally, store = set(), writing.tally, Store()
    monkeypatch.setattr(
        writing, "tally", lambda *arguments: threads.add(threading.current_thread().name) or tally(*arguments)
    )
    writing.write_behind(store, {"labels": Path("labels.tif")}, blocks(), None, GRID, Extent(GRID.block))
    assert [(row, col) for row, col, *_ in store.stored] == [(0, 0), (4, 0)]
    assert [note[TALLY] for *_, note in store.stored] == [{"0": [31, 31, 3100]}, {"4": [31, 31, 3100]}]
    assert all(list(layers) == [Path("labels.tif")] for _, _, layers, _ in store.stored)
    assert {name.split("_")[0] for name in threads} == {"writing"}


def test_what_fails_while_counting_is_raised(monkeypatch):
    monkeypatch.setattr(writing, "tally", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        writing.write_behind(Store(), {"labels": Path("labels.tif")}, blocks(), None, GRID, Extent(GRID.block))
