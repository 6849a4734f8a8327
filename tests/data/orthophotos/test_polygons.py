"""Polygons of a GIS layer as mask proposals: on an image's pixels, whatever their projection, each a number."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin

from geohp.config.data import OrthophotosConfig
from geohp.data.augment import Augmentation
from geohp.data.orthophotos.orthophoto_source import Orthophotos
from geohp.data.orthophotos.polygons import PolygonLayers
from geohp.errors import DataError
from geohp.raster.block import Block
from geohp.raster.grid import Grid

UTM = "EPSG:25833"
LEFT, TOP = 400_000, 5_800_000


def field(col, row, right, bottom, pixel=2.0):
    """A rectangle of pixels on the ground."""
    return shapely.box(LEFT + col * pixel, TOP - bottom * pixel, LEFT + right * pixel, TOP - row * pixel)


FIELDS = [
    field(10, 20, 40, 50),
    shapely.MultiPolygon([field(50, 5, 60, 15), field(70, 5, 80, 15)]),
    field(35, 40, 60, 60),
]


def write(path, shapes=FIELDS, crs="EPSG:4326", **layer):
    frame = geopandas.GeoDataFrame({"kind": ["a"] * len(shapes), "note": "x"}, geometry=shapes, crs=UTM).to_crs(crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path, **layer)
    return str(path)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.tif"
    profile = {"driver": "GTiff", "width": 96, "height": 64, "count": 3, "dtype": "uint8", "crs": UTM}
    with rasterio.open(path, "w", **profile, transform=from_origin(LEFT, TOP, 2, 2)) as dataset:
        dataset.write(np.random.default_rng(0).integers(1, 255, (3, 64, 96), np.uint8))
    return path


def grid_of(path):
    with rasterio.open(path) as dataset:
        return Grid.of(dataset)


def painted():
    numbers = np.full((64, 96), -1)
    numbers[20:50, 10:40] = 0
    numbers[5:15, 50:60] = numbers[5:15, 70:80] = 1
    numbers[40:60, 35:60] = 2  # later ones on top
    return numbers


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3035"])
@pytest.mark.parametrize("name", ["fields.gpkg", "fields.shp", "fields.geojson", "fields.parquet"])
def test_polygons_lie_on_the_pixels_they_cover(image, tmp_path, name, crs):
    if name == "fields.geojson" and crs == "EPSG:3035":
        pytest.skip("GeoJSON is in degrees")
    layers = PolygonLayers((write(tmp_path / name, crs=crs),))
    numbers = layers.open(str(image), grid_of(image)).read(Block(0, 0, 64, 96))
    np.testing.assert_array_equal(numbers, painted())
    np.testing.assert_array_equal(layers.open("i", grid_of(image)).read(Block(30, 30, 20, 20)), painted()[30:50, 30:50])


def test_the_first_file_counts_and_numbers_go_on(image, tmp_path):
    first, second = write(tmp_path / "first.gpkg", FIELDS[:1]), write(tmp_path / "second.gpkg", [field(0, 0, 96, 64)])
    numbers = PolygonLayers((first, second)).open("i", grid_of(image)).read(Block(0, 0, 64, 96))
    expected = np.ones((64, 96), int)
    expected[20:50, 10:40] = 0
    np.testing.assert_array_equal(numbers, expected)


def test_a_layer_is_chosen_or_asked_for(image, tmp_path):
    path = write(tmp_path / "both.gpkg", FIELDS[:1], layer="parcels")
    write(tmp_path / "both.gpkg", [field(0, 0, 96, 64)], layer="districts")
    numbers = PolygonLayers((path,), "parcels").open("i", grid_of(image)).read(Block(0, 0, 64, 96))
    assert (numbers >= 0).sum() == 900
    for layer in (None, "fields"):
        with pytest.raises(DataError, match=r"data\.mask_layer: (parcels, districts|districts, parcels)"):
            PolygonLayers((path,), layer).open("i", grid_of(image))


def test_what_covers_no_ground_is_refused(image, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        PolygonLayers((str(tmp_path / "absent.gpkg"),)).open("i", grid_of(image))
    with pytest.raises(DataError, match="points"):
        PolygonLayers((write(tmp_path / "points.gpkg", [FIELDS[0].centroid]),)).open("i", grid_of(image))
    with pytest.raises(DataError, match="no layer with geometries"):
        PolygonLayers((str(image),)).open("i", grid_of(image))


def test_what_is_damaged_behind_a_sound_header_is_refused(image, tmp_path):
    path = tmp_path / "fields.parquet"
    write(path)
    content = bytearray(path.read_bytes())
    content[4:300] = bytes(296)  # the first page; what the file holds stands at its end
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"fields\.parquet: cannot be read .*; mend it or give another file"):
        PolygonLayers((str(path),)).open("i", grid_of(image))


def patches(image, *layers, **settings):
    settings = {"patch_px": 32, "layout": "grid", "mask_polygons": list(layers), **settings}
    return Orthophotos(OrthophotosConfig(images=[str(image)], **settings)).training()


def test_a_file_that_is_not_there_is_refused_before_any_image_is_read(image):
    with pytest.raises(DataError, match=r"data\.mask_polygons = nowhere\.gpkg: no such file"):
        patches(image, "nowhere.gpkg")


def test_patches_carry_them(image, tmp_path):
    layer = write(tmp_path / "fields.gpkg")
    images = patches(image, layer)
    assert images.segmented
    assert not images.labelled
    for index, place in enumerate(images.places):
        window = np.s_[place.row : place.row + 32, place.col : place.col + 32]
        np.testing.assert_array_equal(images[index]["segments"], painted()[window])
    halved = patches(image, layer, input_px=16)[0]["segments"]
    assert set(np.unique(halved)) <= set(np.unique(painted()[:32, :32]))
    assert halved.shape == (16, 16)
    assert not patches(image).segmented


def test_large_patches_read_by_strips_carry_them_too(image, tmp_path, monkeypatch):
    layer = write(tmp_path / "fields.gpkg")
    whole = patches(image, layer, pixel_size_m=3.0, patch_px=40, input_px=24)
    expected = [whole[i]["segments"] for i in range(len(whole))]
    monkeypatch.setattr("geohp.data.orthophotos.patch_sets._AT_ONCE_PX", 300)
    for index, segments in enumerate(expected):
        assert torch.equal(whole[index]["segments"], segments)
    assert any((segments >= 0).any() for segments in expected)


def test_other_polygons_are_another_set(image, tmp_path):
    layer = write(tmp_path / "fields.gpkg")
    assert layer in patches(image, layer).files()
    before, without = patches(image, layer).identity(), patches(image).identity()
    write(tmp_path / "fields.gpkg", [*FIELDS, field(0, 0, 9, 9)])
    assert len({before, without, patches(image, layer).identity()}) == 3


def test_augmentation_moves_them_with_the_image(image, tmp_path):
    item = patches(image, write(tmp_path / "fields.gpkg"))[4]
    item["image"] = item["segments"][None].float() / 10
    for epoch in range(6):
        changed = Augmentation(("flip", "turn"), 3)(item, epoch, 0)
        assert torch.equal(changed["image"][0], changed["segments"].float() / 10)
    assert any(
        not torch.equal(Augmentation(("flip", "turn"), 3)(item, epoch, 0)["segments"], item["segments"])
        for epoch in range(6)
    )
    cropped = Augmentation(("crop",), 3)(item, 0, 0)
    assert (cropped["image"][0] * 10 - cropped["segments"]).abs().median() == 0
    assert set(cropped["segments"].unique().tolist()) <= set(item["segments"].unique().tolist())
