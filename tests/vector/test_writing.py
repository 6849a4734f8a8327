"""Files of polygons with what lies beside them."""

import geopandas
import numpy as np
import pytest
import rioxarray  # noqa: F401 (the accessor)
import shapely
import xarray as xr
from affine import Affine

from geohp.classes import LandCoverClass, classes_to_json
from geohp.errors import OutputError
from geohp.vector.writing import _legend, polygonize_file

CLASSES = (LandCoverClass(0, "road", "#ff0000"), LandCoverClass(1, "wood", "#00ff00"))


@pytest.fixture
def labels():
    array = xr.DataArray(np.array([[0, 0, 1]], np.uint8), dims=("y", "x"), attrs={"classes": classes_to_json(CLASSES)})
    return array.rio.write_transform(Affine(2, 0, 5e5, 0, -2, 5538000)).rio.write_crs(25832).rio.write_nodata(255)


@pytest.mark.parametrize("suffix", [".fgb", ".geojson", ".parquet", ".gpkg"])
def test_a_style_lies_beside_a_file_that_cannot_hold_it(labels, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert polygonize_file(labels, path, qml=True) == 2
    beside = sorted(file.name for file in tmp_path.iterdir())
    if suffix == ".gpkg":
        assert beside == ["a.gpkg"]
        return
    assert beside == sorted(["a.qml", path.name])
    style = (tmp_path / "a.qml").read_text(encoding="utf-8")
    assert "road" in style
    assert "wood" in style
    assert 'attr="class_id"' in style


def test_a_style_that_exists_is_replaced_when_asked_to(labels, tmp_path):
    (tmp_path / "a.qml").write_text("mine")
    with pytest.raises(OutputError, match=r"a\.qml: exists already"):
        polygonize_file(labels, tmp_path / "a.fgb", qml=True)
    assert polygonize_file(labels, tmp_path / "a.fgb") == 2
    assert (tmp_path / "a.qml").read_text() == "mine"
    polygonize_file(labels, tmp_path / "a.fgb", qml=True, overwrite=True)
    assert "wood" in (tmp_path / "a.qml").read_text()


def test_classes_are_those_given_or_carried_completed_by_the_names_in_the_table():
    polygons = geopandas.GeoDataFrame(
        {"class_id": [1, 7, 0], "class_name": ["forest", "lake", "street"]}, geometry=[shapely.box(0, 0, 1, 1)] * 3
    )
    assert [(entry.id, entry.name) for entry in _legend(polygons, None)] == [(0, "street"), (1, "forest"), (7, "lake")]
    given = _legend(polygons, CLASSES)
    assert [(entry.id, entry.name) for entry in given] == [(0, "road"), (1, "wood"), (7, "lake")]
    assert [entry.colour for entry in given[:2]] == ["#ff0000", "#00ff00"]
    polygons.attrs["classes"] = classes_to_json(CLASSES[:1])
    assert [(entry.id, entry.name) for entry in _legend(polygons, None)] == [(0, "road"), (1, "forest"), (7, "lake")]
    assert _legend(polygons, None)[0].colour == "#ff0000"
    assert [entry.name for entry in _legend(polygons, CLASSES[1:])] == ["street", "wood", "lake"]
    nameless = polygons.drop(columns="class_name")
    assert [entry.name for entry in _legend(nameless, CLASSES)] == ["road", "wood", "class 7"]
