"""Names that pyogrio would take for addresses: written and read where they are, and nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import geopandas
import pytest
import shapely

from geohp.files.plain_names import plain_name
from geohp.raster.sources.vector_files import layer_info, read_vectors
from geohp.vector.writing import write_polygons

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such names")

POLYGONS = geopandas.GeoDataFrame({"class_id": [2]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:32633")


@pytest.mark.parametrize("folder", ["Maps!", "a;b&<b>?#c", "of\nlines", "plain"])
@pytest.mark.parametrize("name", ["p", "p!2", "w?"])
@pytest.mark.parametrize("suffix", [".gpkg", ".fgb", ".geojson"])
def test_polygons_lie_where_they_should_and_are_read_there(tmp_path: Path, folder: str, name: str, suffix: str) -> None:
    path = tmp_path / folder / f"{name}{suffix}"
    path.parent.mkdir()
    write_polygons(POLYGONS, path)
    assert [*tmp_path.rglob("*")] == [path.parent, path]
    assert path.is_file()
    assert not path.is_symlink()
    assert list(read_vectors(path, "landcover" if suffix == ".gpkg" else None)["class_id"]) == [2]
    assert "class_id" in layer_info(path, "landcover" if suffix == ".gpkg" else None)["fields"]
    write_polygons(POLYGONS, path, overwrite=True)
    assert [*path.parent.iterdir()] == [path]


def test_shapefiles_are_read_with_all_that_belongs_to_them(tmp_path: Path) -> None:
    (tmp_path / "Maps!").mkdir()
    POLYGONS.to_file(tmp_path / "a.shp")
    for file in tmp_path.glob("a.*"):
        file.rename(tmp_path / "Maps!" / f"a!b{file.suffix}")
    frame = read_vectors(tmp_path / "Maps!" / "a!b.shp")
    assert list(frame["class_id"]) == [2]
    assert frame.crs == POLYGONS.crs


@pytest.mark.parametrize("path", ["/vsizip/a.zip/b?.gpkg", "https://example.com/a?b;c", "a.zip!b.shp", "p.gpkg"])
def test_addresses_stay_as_they_are(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.zip").touch()
    with plain_name(path) as name:
        assert name == path
