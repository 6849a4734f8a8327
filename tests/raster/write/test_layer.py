"""How a raster is stored: which values count as no data, and what a block must be like."""

from __future__ import annotations

import numpy as np
import pytest

from geohp.classes import LandCoverClass
from geohp.raster.write.layer import Layer, label_layer


def test_what_nobody_wrote_and_what_says_no_more_than_that() -> None:
    values = np.array([[255, 0, 3]], np.uint8)
    assert Layer().missing(values).tolist() == [[True, False, False]]
    assert Layer(nodata=None).missing(values).tolist() == [[False] * 3]
    assert (Layer().fill, Layer(nodata=None).fill) == (255, 0)
    assert Layer().is_blank(np.full((2, 2), 255, np.uint8))
    assert not Layer().is_blank(values)
    assert Layer(nodata=None).is_blank(np.zeros((2, 2), np.uint8))
    shares = Layer("float32", np.nan, overviews="average")
    assert shares.missing(np.array([np.nan, 1])).tolist() == [True, False]
    assert shares.is_blank(np.full((2, 2), np.nan))
    assert not shares.is_blank(np.array([np.nan, 0]))
    assert np.isnan(shares.fill)


def test_values_are_stored_as_bands_of_the_type() -> None:
    one, two = Layer(), Layer("int32", -1, bands=2)
    assert one.as_stored(np.zeros((3, 4), np.uint8)).shape == (1, 3, 4)
    stored = two.as_stored(np.ones((2, 3, 4), np.uint8))
    assert (stored.shape, stored.dtype) == ((2, 3, 4), np.int32)
    for wrong in (np.zeros((2, 3, 4)), np.zeros((0, 4)), np.zeros((4, 0)), np.zeros(4), np.zeros((1, 1, 3, 4))):
        with pytest.raises(ValueError, match="does not fit 1 band"):
            one.as_stored(wrong.astype(np.uint8))
    with pytest.raises(ValueError, match="int64 values cannot be stored as uint8"):
        one.as_stored(np.zeros((3, 4), np.int64))


@pytest.mark.parametrize("nodata", [0, 255, 7.0])
def test_nodata_that_the_type_holds(nodata: float) -> None:
    assert Layer(nodata=nodata).nodata == nodata


@pytest.mark.parametrize("nodata", [-1, 256, 0.5, np.nan, np.inf])
def test_nodata_that_it_does_not_hold(nodata: float) -> None:
    with pytest.raises(ValueError, match="cannot be stored as uint8"):
        Layer(nodata=nodata)


def test_all_types_with_their_range() -> None:
    for dtype, nodata in (("uint16", 65535), ("int16", -32768), ("uint32", 2**32 - 1), ("int32", -(2**31))):
        assert Layer(dtype, nodata).nodata == nodata
    for dtype in ("float32", "float64"):
        assert Layer(dtype, 0.5, overviews="average").nodata == 0.5
    assert Layer("uint16", colormap={300: (1, 2, 3)}).colormap
    with pytest.raises(ValueError, match="colour table"):
        Layer("int16", colormap={3: (1, 2, 3)})


def test_labels_carry_their_classes() -> None:
    classes = [LandCoverClass(3, "bog", "#0a141e"), LandCoverClass(0, "road", "#ffffff")]
    layer = label_layer(classes, {"GEOHP_VERSION": "1"})
    assert layer.colormap == {3: (10, 20, 30, 255), 0: (255, 255, 255, 255)}
    assert (layer.dtype, layer.nodata, layer.bands, layer.overviews) == ("uint8", 255, 1, "mode")
    assert layer.tags == {"GEOHP_VERSION": "1"}
    assert layer.band_descriptions == ("land cover",)
    assert '"bog"' in layer.band_tags["classes"]
