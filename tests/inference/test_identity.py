"""Which files of a scene must be the same for unfinished work to be gone on with."""

import os
import zipfile

import pytest
import rasterio

from geohp.raster.write.resume_identity import file_states

STATISTICS = """
  <PAMRasterBand band="1">
    <Metadata>
      <MDI key="STATISTICS_APPROXIMATE">YES</MDI>
      <MDI key="STATISTICS_MEAN">97.187309265137</MDI>
    </Metadata>
    <Histograms><HistItem><HistMin>-0.5</HistMin></HistItem></Histograms>
  </PAMRasterBand>"""


@pytest.fixture
def scene(write_scene, three_fields):
    return write_scene(three_fields)


def _states(scene, side_file: str | None) -> list:
    """Of a scene beside which GDAL keeps this."""
    path = scene.with_suffix(".tif.aux.xml")
    path.unlink(missing_ok=True)
    if side_file is not None:
        path.write_text(f"<PAMDataset>{side_file}\n</PAMDataset>\n")
    with rasterio.open(scene) as dataset:
        assert len(dataset.files) == 1 + (side_file is not None)
        return file_states(dataset.files)


def test_a_look_at_the_scene_in_qgis_changes_nothing(scene):
    georeference = (
        '\n  <GeoTransform> 5, 1, 0, 7, 0, -1</GeoTransform>\n  <Metadata><MDI key="SENSOR">x</MDI></Metadata>'
    )
    assert _states(scene, STATISTICS) == _states(scene, None)
    assert _states(scene, georeference + STATISTICS) == _states(scene, georeference)


def test_what_the_map_depends_on_counts(scene):
    states = [
        _states(scene, None),
        _states(scene, "<GeoTransform>5, 1, 0, 7, 0, -1</GeoTransform>"),
        _states(scene, "<GeoTransform>5, 1, 0, 8, 0, -1</GeoTransform>"),
        _states(scene, '<PAMRasterBand band="1"><NoDataValue>0</NoDataValue></PAMRasterBand>'),
    ]
    assert all(states.count(state) == 1 for state in states)


def test_an_archive_that_the_scene_lies_in_counts(scene):
    archive = scene.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.write(scene, "scene.tif")
    with rasterio.open(f"/vsizip/{archive}/scene.tif") as dataset:
        before = file_states(dataset.files)
        os.utime(archive, ns=(1, 1))
        assert file_states(dataset.files) != before


def test_a_damaged_side_file_counts_as_it_is(scene):
    before = _states(scene, None)
    scene.with_suffix(".tif.aux.xml").write_text("<PAMDataset>")
    assert file_states([str(scene), f"{scene}.aux.xml"]) != before
