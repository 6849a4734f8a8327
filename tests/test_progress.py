"""Bars in notebooks, and nobody who listens elsewhere."""

import pickle
import sys

from geohp.inference.map_options import MapOptions, SegmentOptions
from geohp.progress import NotebookBars, default_progress, no_progress
from geohp.vector.polygonize import PolygonizeOptions


def test_bars_are_for_notebooks(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert default_progress() is no_progress
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert isinstance(default_progress(), NotebookBars)
    for options in (MapOptions, SegmentOptions, PolygonizeOptions):
        assert isinstance(options().progress, NotebookBars)


def test_each_stage_has_a_bar_and_begins_anew_for_the_next_scene(capsys):
    progress = NotebookBars()
    for done in (1, 3):
        progress("segmenting", done, 3, "a.tif")
    progress("polygons", 5, 10)
    progress("segmenting", 1, 2, "b.tif")
    progress("segmenting", 2, 2, "b.tif")
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "polygons" in shown
    assert "2/2" in shown
    assert "a.tif" in shown
    assert isinstance(pickle.loads(pickle.dumps(progress)), NotebookBars)
