"""What may be written where, known before any work."""

import geopandas
import pytest
import shapely

from geohp.errors import OutputError
from geohp.vector.targets import check_target, class_table, layers_of


def write(path, layer):
    geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=3857).to_file(path, layer=layer)
    return path


def test_tables_of_classes_are_named_after_their_layer():
    assert class_table("landcover") == "classes"
    assert class_table("fields") == "fields_classes"


def test_layers_of_a_geopackage_and_of_what_is_none(tmp_path):
    path = write(write(tmp_path / "a.gpkg", "one"), "two")
    assert sorted(layers_of(path)) == ["one", "two"]
    (tmp_path / "b.gpkg").write_text("no geopackage")
    for use in (layers_of, check_target):
        with pytest.raises(OutputError, match=r"b\.gpkg exists but is no readable GeoPackage"):
            use(tmp_path / "b.gpkg")


@pytest.mark.parametrize("present", ["landcover", "LandCover", "classes", "CLASSES"])
def test_a_layer_or_its_table_of_classes_is_replaced_when_asked_to(tmp_path, present):
    path = write(tmp_path / "a.GPKG", present)
    with pytest.raises(OutputError, match=f"has a layer '{present.lower()}' already") as refused:
        check_target(path)
    assert (refused.value.option, refused.value.value) == ("overwrite", True)
    assert check_target(str(path), overwrite=True) == path
    assert check_target(path, layer="fields") == path


@pytest.mark.parametrize("suffix", [".geojson", ".fgb", ".parquet"])
def test_a_file_of_one_layer_is_replaced_as_a_whole_when_asked_to(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    assert check_target(path) == path
    path.touch()
    with pytest.raises(OutputError, match="exists already"):
        check_target(path, layer="another")
    assert check_target(path, overwrite=True) == path


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(OutputError, match=r"\.gpkg"):
        check_target(tmp_path / "a.dxf")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb"])
def test_what_is_read_is_not_replaced_even_when_asked_to(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", "landcover")
    with pytest.raises(OutputError, match="is the input itself"):
        check_target(path, overwrite=True, inputs=[path])
    assert check_target(tmp_path / f"b{suffix}", overwrite=True, inputs=[path]) == tmp_path / f"b{suffix}"
    if suffix == ".gpkg":  # which has room for both
        write(path, "area")
        assert check_target(path, overwrite=True, inputs=[path], input_layer="area") == path
        with pytest.raises(OutputError, match="its layer 'area' is the input itself"):
            check_target(path, layer="Area", overwrite=True, inputs=[path], input_layer="area")
        write(path, "classes")
        with pytest.raises(OutputError, match="its layer 'classes' is the input itself"):  # where those of classes go
            check_target(path, overwrite=True, inputs=[path], input_layer="classes")
        assert check_target(path, layer="fields", overwrite=True, inputs=[path], input_layer="classes") == path


@pytest.mark.parametrize(
    "layer", ["", " ", "gpkg_contents", "layer_styles", "RTREE_a_geom", "sqlite_x", "[x]", "a\nb", "a\0b"]
)
def test_names_that_no_layer_can_have_are_refused_at_once(tmp_path, layer):
    with pytest.raises(OutputError, match="no name of a layer"):
        check_target(tmp_path / "a.gpkg", layer=layer)
    assert check_target(tmp_path / "a.fgb", layer=layer) == tmp_path / "a.fgb"  # which has one layer, called as it is
