"""Labels as a legend names them, while they are read."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rioxarray  # noqa: F401 (the accessor)
import xarray as xr

from geohp.classes import LandCoverClass, default_classes
from geohp.errors import ConfigError, VectorError
from geohp.legend.file import Legend
from geohp.legend.recoded_labels import RecodedLabels, ranked
from geohp.raster.block import Block
from geohp.raster.read.label_array import open_label_array


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32"])
def test_ranks_of_the_ends_of_a_type(dtype):
    ends = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min, 0, np.iinfo(dtype).max], dtype)
    distinct, ranks = ranked(ends)
    assert distinct[ranks].tolist() == ends.tolist()


def recoded(values, legend, classes=None, model=None, block=None):
    """What is read, and the labels themselves."""
    attributes = {} if classes is None else {"classes": json.dumps([vars(entry) for entry in classes])}
    if model is not None:
        attributes["GEOHP_MODEL_SHA256"] = model
    array = xr.DataArray(values, dims=("y", "x"), attrs=attributes).rio.write_nodata(255)
    with open_label_array(array) as raster:
        labels = RecodedLabels(raster, legend)
        return labels.read(block or Block(0, 0, *values.shape)), labels


VALUES = np.array([[0, 3, 2], [1, 255, 5]], np.uint8)
LEGEND = Legend((LandCoverClass(0, "water", "#0000ff"), LandCoverClass(1, "wood", "")), {0: 0, 3: 0, 2: 1})


def test_labels_become_classes_and_others_keep_a_number_of_their_own():
    (found, valid), labels = recoded(VALUES, LEGEND)
    # 1 is a class of the legend, so label 1 gets the smallest number that is free: 2, which is nobody's label any more.
    assert found.tolist() == [[0, 0, 1], [2, 255, 5]]
    assert valid.tolist() == [[True] * 3, [True, False, True]]
    assert found.dtype == np.uint8
    assert [(entry.id, entry.name) for entry in labels.classes] == [
        (0, "water"),
        (1, "wood"),
        (2, "class 1"),
        (5, "class 5"),
    ]
    assert len({entry.colour for entry in labels.classes}) == 4
    assert labels.classes[3].colour == default_classes(6)[5].colour  # as maps show that label
    assert labels.labels is None
    (part, _), _ = recoded(VALUES, LEGEND, block=Block(0, 1, 1, 2))
    assert part.tolist() == [[0, 1]]


def test_of_a_map_that_declares_its_classes_all_are_known():
    (found, _), labels = recoded(VALUES, LEGEND, default_classes(6))
    assert found.tolist() == [[0, 0, 1], [2, 255, 5]]
    assert labels.labels == (0, 1, 2, 4, 5)
    with pytest.raises(ConfigError, match=r"names label 3, but .* has labels 0 to 2"):
        recoded(VALUES, LEGEND, default_classes(3))


def test_a_label_for_which_no_number_is_left():
    full = Legend(default_classes(255), {number: number for number in range(255)})
    (found, _), _ = recoded(np.array([[254, 7]], np.uint16), full)
    assert found.tolist() == [[254, 7]]
    with pytest.raises(
        VectorError, match="label 300, which the legend does not name, and none of the numbers 0 to 254"
    ):
        recoded(np.array([[0, 300]], np.uint16), full)


def test_a_label_beyond_bytes_gets_a_number_within():
    (found, _), labels = recoded(np.array([[300, 1]], np.int32), Legend.named({300: "rock", 1: "sand"}))
    assert found.tolist() == [[0, 1]]
    assert [entry.name for entry in labels.classes] == ["rock", "sand"]


def test_recoded_labels_are_those_of_another_model():
    model = "ab" * 32
    _, labels = recoded(VALUES, LEGEND, model=model)
    _, other = recoded(VALUES, Legend.named({0: "water", 3: "water"}), model=model)
    assert labels.model_sha256 not in (None, model, other.model_sha256)
    assert recoded(VALUES, LEGEND, model=model)[1].model_sha256 == labels.model_sha256
    assert recoded(VALUES, LEGEND)[1].model_sha256 is None
    bound = Legend(LEGEND.classes, LEGEND.labels, model_sha256="cd" * 32)
    with pytest.raises(ConfigError, match="labels of another model"):
        recoded(VALUES, bound, model=model)
