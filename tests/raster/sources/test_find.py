"""What is meant by files, folders, patterns and addresses, and what is made of them is called."""

from pathlib import Path

import pytest

from geohp.errors import SceneError
from geohp.raster.sources.find import find_images
from geohp.raster.sources.paths import scene_name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.tif", "a.TIF", "c.jpg", "a.tif.aux.xml", "note.txt", "deep/d.tif", ".hidden.tif", "out/a.tif"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    Path(".work.geohp").mkdir()
    Path(".work.geohp/0_0_0.tif").touch()
    Path("x.zarr").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["b.tif", "a.TIF", "./b.tif"], ["b.tif", "a.TIF"]),
        (["."], ["a.TIF", "b.tif", "c.jpg", "deep/d.tif"]),
        (["deep"], ["deep/d.tif"]),
        (["*.tif"], ["b.tif"]),
        (["*"], ["a.TIF", "b.tif", "c.jpg"]),
        (["**/*.tif"], ["b.tif", "deep/d.tif"]),
        (["*.txt"], ["note.txt"]),
        (["out/a.tif"], ["out/a.tif"]),
        (["none.tif"], ["none.tif"]),
        (["x.zarr"], ["x.zarr"]),
        (["https://host/a[1].tif?key=*", "/vsicurl/http://h/a.tif"],) * 2,
    ],
)
def test_what_is_meant(folder, given, found):
    assert find_images(given, leave_out="out") == found
    absolute = [one if "://" in one else str(folder / one) for one in given]
    assert [Path(one).name for one in find_images(absolute, leave_out=folder / "out")] == [Path(o).name for o in found]


def test_patterns_in_gdals_own_names_are_refused():
    with pytest.raises(SceneError, match="no patterns; write it as s3://"):
        find_images(["/vsicurl/http://h/*.tif"])


@pytest.mark.parametrize("nothing", ["*.jp2", "out"])
def test_a_pattern_or_folder_of_nothing_is_refused(folder, nothing):
    with pytest.raises(SceneError, match="no images there"):
        find_images([nothing], leave_out="out")


@pytest.mark.parametrize(
    ("scene", "name"),
    [
        ("folder/ortho.2024.tif", "ortho.2024"),
        ("https://host/path/tile.tif?sig=a/b.c", "tile"),
        ("/vsizip/tiles.zip/tile_3.tif", "tile_3"),
        ('NETCDF:"/data/a b.nc":red', "a_b_nc_red"),
        ("Straße 5.tif", "Straße 5"),
    ],
)
def test_names(scene, name):
    assert scene_name(scene) == name


def test_a_name_may_begin_with_a_tilde(folder):
    Path("~nobody.tif").touch()
    assert find_images(["~nobody.tif"]) == ["~nobody.tif"]
