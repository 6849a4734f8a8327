"""An area of interest in place of the configuration's."""

import geopandas as gpd
import pytest
import shapely

from geohp.errors import ConfigError, DataError
from geohp.training import run


@pytest.fixture
def area(tmp_path):
    for layer in ("west", "east"):
        gpd.GeoSeries([shapely.box(0, 0, 1, 1)], crs=4326).to_file(tmp_path / "area.gpkg", layer=layer)
    return tmp_path / "area.gpkg"


@pytest.fixture
def trained_on(monkeypatch):
    """The data that a training would begin with."""
    seen = []

    class StopError(Exception):
        pass

    def source(config, data):
        seen.append(config.data)
        raise StopError

    monkeypatch.setattr(run, "_source", source)

    def train(*args, **kwargs):
        with pytest.raises(StopError):
            run.train(*args, **kwargs)
        return seen[-1]

    return train


def test_it_takes_the_place_of_the_configurations(area, trained_on, tmp_path):
    own = ["data.images=tiles", "data.area=other.gpkg"]
    data = trained_on("orthophotos", own, out=tmp_path / "run", aoi=area, aoi_layer="east")
    assert (data.area, data.area_layer) == (str(area), "east")
    assert trained_on("orthophotos", own, out=tmp_path / "run").area == "other.gpkg"
    assert trained_on("orthophotos", own[:1], out=tmp_path / "run", aoi=(0, 0, 1, 2)).area == [0.0, 0.0, 1.0, 2.0]


def test_what_cannot_be_is_refused(area, tmp_path):
    with pytest.raises(DataError, match=r"several layers \(.*\); name one of them with aoi_layer="):
        run.train("orthophotos", ["data.images=tiles"], out=tmp_path / "run", aoi=area)
    with pytest.raises(ConfigError, match=r"aoi=: is for one's own imagery, but data.source is potsdam"):
        run.train("potsdam3", ["data.root=potsdam"], out=tmp_path / "run", aoi=area, aoi_layer="east")
    with pytest.raises(ConfigError, match=r"goes on with its own configuration"):
        run.train(resume=tmp_path, aoi=area)
