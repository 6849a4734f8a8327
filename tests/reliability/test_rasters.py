"""Hostile rasters: a case of every command and kind as the long run has them, and what is drawn held against truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reliability import rasters
from benchmarks.reliability.__main__ import attempt_named
from benchmarks.reliability.raster_generated import Subject, draw
from geohp.classes import NODATA_LABEL
from geohp.errors import GeohpError
from geohp.raster.read.labels import open_labels
from geohp.raster.read.scene import open_scene
from geohp.vector.polygonize import polygonize

FIRST = {rasters.case(number).name: number for number in reversed(range(400))}
"""Of every command and kind the first case."""
seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("number", sorted(FIRST.values()), ids=lambda number: f"{number}-{rasters.case(number).name}")
def test_the_right_result_or_a_sentence(apart: Callable[..., Any], number: int) -> None:
    outcome = apart(attempt_named, "rasters", number).outcome
    assert outcome.verdict in ("right", "refused"), outcome.detail


def drawn(seed: int, folder: str, *, labels: bool) -> tuple[Subject, str]:
    subject = draw(Path(folder), np.random.default_rng(seed), labels=labels)
    return subject, subject.source if subject.source.startswith("/vsi") else f"{folder}/{subject.source}"


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_a_scene_is_valid_where_it_was_drawn_so(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subject, path = drawn(seed, folder, labels=False)
        try:
            with open_scene(path) as scene:
                data, valid = scene.read(0, 0, scene.height, scene.width)
        except GeohpError:
            return
    assert np.isfinite(data).all()
    assert data.min() >= 0
    assert data.max() <= 1
    if subject.valid is not None:
        np.testing.assert_array_equal(valid, subject.valid)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_polygons_have_all_pixels_of_every_label(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subject, path = drawn(seed, folder, labels=True)
        try:
            polygons = polygonize(path, any_values=True)
        except GeohpError:
            return
        with open_labels(path, any_values=True) as raster:
            declared = raster._dataset.nodata is not None
    if subject.values is None or subject.valid is None:
        return
    values = subject.values[0][subject.valid]
    labels, counts = np.unique(values if declared else values[values != NODATA_LABEL], return_counts=True)
    pixels = polygons.groupby("class_id")["n_pixels"].sum()
    assert pixels.to_dict() == dict(zip(labels.tolist(), counts.tolist(), strict=True))
