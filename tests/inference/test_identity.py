"""Which files of a scene must be the same for unfinished work to be gone on with."""

import os
import zipfile
from types import SimpleNamespace

import pytest
import rasterio

from geohp import open_scene
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.identity import run_identity
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


@pytest.mark.parametrize(
    "change",
    [
        {"bands": [3, 2, 1]}, {"scaling": "0,200"}, {"scaling": "percentiles:2,98"}, {"on_read_error": "nodata"},
        {"model": "another"}, {"tta": True}, {"overlap_px": 8}, {"area": "a lake"}, {"area": "a lake", "frame": (0, 0)},
    ],
)  # fmt: skip
def test_unfinished_work_is_gone_on_with_only_as_it_was_begun(scene, monkeypatch, change):
    def identity(bands=None, scaling="0,255", on_read_error="stop", model="one", area=None, frame=(), **settings):
        monkeypatch.setattr("geohp.inference.identity.model_sha256", str)
        digest = None if area is None else SimpleNamespace(digest=area)
        windows = EngineSettings(**{"window_px": 64, "overlap_px": 16, **settings})
        with open_scene(scene, bands=bands, scaling=scaling) as opened:
            return run_identity(opened, model, windows, on_read_error, SimpleNamespace(area=digest, frame=frame))

    assert identity(**change) == identity(**change)
    assert identity(**change) not in (identity(), identity(area="a lake") if "frame" in change else None)
