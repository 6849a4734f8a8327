"""One range a scene: parsing, settling and applying it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from geohp.errors import ConfigError, SceneError
from geohp.raster.read.scaling import Scaling, StoredType, parse_rule, resolve_scaling


def settled(
    rule: Any, dtype: str, values: NDArray[Any] | None = None, bands: int = 3, bits: int | None = None
) -> Scaling:
    def sample() -> NDArray[Any]:
        assert values is not None, "measured although nothing asked for it"
        return values

    return resolve_scaling(parse_rule(rule), [StoredType(np.dtype(dtype), bits)] * bands, sample, "scene.tif")


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("uint16", 0, 65535), ("int16", -32768, 32767), ("uint32", 0, 2**32 - 1)],
)
def test_type_range_maps_ends_to_0_and_1(dtype: str, low: int, high: int) -> None:
    scaling = settled("type", dtype)
    assert (scaling.low, scaling.high) == ((low,) * 3, (high,) * 3)
    ends = scaling.apply(np.array([[low, high]] * 3, dtype=dtype))
    assert ends.dtype == np.float32
    np.testing.assert_array_equal(ends, [[0, 1]] * 3)


def test_declared_bits_narrow_the_type() -> None:
    assert settled("type", "uint16", bits=12).high == (4095,) * 3


def test_type_of_floats_is_refused_with_a_remedy() -> None:
    with pytest.raises(SceneError, match=r"scene.tif holds float32.*percentiles"):
        settled("type", "float32")


def test_auto_is_type_for_bytes_and_measures_everything_else() -> None:
    assert settled("auto", "uint8").rule == "type"
    values = np.tile(np.arange(101, dtype=np.uint16), (3, 1))
    assert settled("auto", "uint16", values) == Scaling("percentiles:2,98", (2.0,) * 3, (98.0,) * 3)


def test_percentiles_are_joint_so_that_hue_stays_and_per_band_on_request() -> None:
    values = np.stack([np.arange(101.0), np.arange(101.0) + 100, np.arange(101.0) + 50])
    joint = settled("percentiles:0,100", "float32", values)
    assert (joint.low, joint.high) == ((0.0,) * 3, (200.0,) * 3)
    each = settled("percentiles-per-band:10,90", "float32", values)
    assert (each.low, each.high) == ((10.0, 110.0, 60.0), (90.0, 190.0, 140.0))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=50, max_size=200))
@settings(deadline=None, max_examples=50)
def test_joint_percentiles_clip_no_band_more_than_asked(numbers: list[float]) -> None:
    first = np.array(numbers, dtype=np.float32)
    values = np.stack([first, first[::-1] * 2, first - 7])
    scaling = settled("percentiles:5,95", "float32", values)
    for band, low, high in zip(values.astype(np.float64), scaling.low, scaling.high, strict=True):
        assert (band < low).sum() <= 0.05 * band.size + 1
        assert (band > high).sum() <= 0.05 * band.size + 1


def test_nothing_valid_still_settles() -> None:
    nothing: NDArray[Any] = np.empty((3, 0))
    assert settled("percentiles", "uint16", nothing).high == (65535.0,) * 3
    assert settled("percentiles", "float32", nothing).high == (1.0,) * 3


@pytest.mark.parametrize("rule", ["0,10000", (0, 10000), [(0, 10000)], " 0 , 1e4 "])
def test_fixed_range_for_all_bands(rule: Any) -> None:
    scaling = settled(rule, "uint16")
    assert (scaling.low, scaling.high) == ((0.0,) * 3, (10000.0,) * 3)
    np.testing.assert_allclose(scaling.apply(np.full((3, 1), 2500, np.uint16)), 0.25)


@pytest.mark.parametrize("rule", ["0,1;-1,2;5,6", [(0, 1), (-1, 2), (5, 6)]])
def test_fixed_range_per_band(rule: Any) -> None:
    scaling = settled(rule, "float32")
    assert (scaling.low, scaling.high) == ((0.0, -1.0, 5.0), (1.0, 2.0, 6.0))


def test_canonical_text_reads_back() -> None:
    for rule in ("auto", "type", "percentiles", "percentiles:1,99.5", "percentiles-per-band:2,98", "0,3;1,2.5"):
        parsed = parse_rule(rule)
        assert parse_rule(parsed.text) == parsed


@pytest.mark.parametrize(
    "rule",
    [
        *("", "minmax", "percentile:2,98", "percentiles:98,2", "percentiles:-1,50", "percentiles:2", "percentiles:a,b"),
        *("10,0", "5,5", "1,2,3", "nan,1", "0,inf", "type:8", [], [1], [1, 2, 3], [(1, 2), 3], ["x", "y"], 7),
    ],
)
def test_nonsense_is_refused(rule: Any) -> None:
    with pytest.raises(ConfigError, match="Scaling"):
        parse_rule(rule)


def test_wrong_number_of_ranges() -> None:
    with pytest.raises(ConfigError, match=r"2 ranges for 3 bands of scene.tif"):
        settled("0,1;0,1", "uint8")


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.uint64, np.float32, np.float64]), (2, 3, 4)
    ),
    st.floats(-1e9, 1e9),
    st.floats(0, 1e9),
)
@settings(deadline=None, max_examples=100)
def test_apply_stays_in_range_and_finite_for_any_values(values: NDArray[Any], low: float, span: float) -> None:
    scaled = Scaling("test", (low, 0.0), (low + span, 1.0)).apply(values)
    assert scaled.dtype == np.float32
    assert scaled.shape == values.shape
    assert np.isfinite(scaled).all()
    assert scaled.min() >= 0
    assert scaled.max() <= 1


def test_nan_and_constant_bands_become_0() -> None:
    scaling = Scaling("test", (5.0, 0.0), (5.0, 1.0))
    values = np.array([[4.0, 5.0, 6.0, np.inf], [np.nan, 0.5, np.inf, -np.inf]], dtype=np.float32)
    np.testing.assert_array_equal(scaling.apply(values), [[0, 0, 0, 0], [0, 0.5, 1, 0]])


def test_apply_leaves_its_input_alone() -> None:
    values = np.array([[1.0, 2.0]], dtype=np.float32)
    Scaling("test", (0.0,), (4.0,)).apply(values)
    np.testing.assert_array_equal(values, [[1.0, 2.0]])
