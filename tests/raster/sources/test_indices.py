"""Images as folders, indices and catalogues list them."""

import json
import os

import geopandas as gpd
import numpy as np
import pytest
import shapely

import geohp
from geohp.errors import DataError, SourceError
from geohp.raster.sources.find import find_images


@pytest.fixture
def tiles(write_scene, tmp_path):
    from rasterio.transform import from_origin

    (tmp_path / "tiles").mkdir()
    data = np.full((3, 20, 20), 90, np.uint8)
    return [
        write_scene(data, f"tiles/{n}.tif", transform=from_origin(380000 + 10 * n, 5800000, 0.5, 0.5)) for n in range(3)
    ]


def shapes(tiles):
    return [shapely.box(*_bounds(t)) for t in tiles]


def degrees(*bounds):
    return gpd.GeoSeries([shapely.box(*bounds)], crs="EPSG:4326")


def _bounds(path):
    import rasterio

    with rasterio.open(path) as dataset:
        return tuple(dataset.bounds)


@pytest.mark.parametrize("name", ["index.gpkg", "index.geojson", "index.parquet", "index.shp"])
@pytest.mark.parametrize("absolute", [True, False])
def test_an_index_of_footprints(tiles, tmp_path, name, absolute):
    paths = [str(t) if absolute else f"tiles/{t.name}" for t in tiles]
    frame = gpd.GeoDataFrame({"location": paths}, geometry=shapes(tiles), crs="EPSG:32633")
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_file(tmp_path / name)
    assert find_images([str(tmp_path / name)]) == [str(t) for t in tiles]
    west = degrees(*frame.iloc[:1].buffer(-1).to_crs(4326).total_bounds)
    assert find_images([str(tmp_path / name)], area=west) == [str(tiles[0])]


def test_addresses_are_passed_on_and_paths_may_be_seen_from_the_working_folder(tiles, tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path)
    places = ["https://example.org/a.tif", "/vsizip/b.zip/b.tif", "tiles/0.tif"]
    frame = gpd.GeoDataFrame({"Path": places}, geometry=shapes(tiles), crs="EPSG:32633")
    frame.to_file(tmp_path / "lists" / "i.gpkg")
    assert set(find_images(["lists/i.gpkg"])) == set(places)
    assert find_images(["https://example.org/a.tif"]) == ["https://example.org/a.tif"]


def test_an_index_without_paths_names_its_columns(tiles, tmp_path):
    gpd.GeoDataFrame({"town": ["a"]}, geometry=shapes(tiles)[:1], crs="EPSG:32633").to_file(tmp_path / "i.gpkg")
    with pytest.raises(DataError, match=r"no column with the images' paths \(its columns: town, geometry\)"):
        find_images([str(tmp_path / "i.gpkg")])


def item(tile, number, base, **assets):
    wgs = gpd.GeoSeries([shapely.box(*_bounds(tile))], crs="EPSG:32633").to_crs(4326).iloc[0]
    image = {"href": os.path.relpath(tile, base), "type": "image/tiff; application=geotiff", "roles": ["data"]}
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"i{number}",
        "geometry": json.loads(shapely.to_geojson(wgs)),
        "bbox": list(wgs.bounds),
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "links": [],
        "assets": {
            "image": image,
            "small": {"href": "small.png", "type": "image/png", "roles": ["thumbnail"]},
            "meta": {"href": "meta.xml", "type": "application/xml"},
            **assets,
        },
    }


def test_a_stac_item_collection(tiles, tmp_path):
    items = [item(t, n, tmp_path) for n, t in enumerate(tiles)]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    assert find_images([str(path)]) == [str(t) for t in tiles]
    area = degrees(*items[2]["bbox"][:2], items[2]["bbox"][0] + 1e-5, items[2]["bbox"][1] + 1e-5)
    assert str(tiles[2]) in find_images([str(path)], area=area)
    assert str(tiles[0]) not in find_images([str(path)], area=area)


def write_catalogue(tiles, folder):
    (folder / "items").mkdir(parents=True)
    for n, tile in enumerate(tiles):
        (folder / "items" / f"{n}.json").write_text(json.dumps(item(tile, n, folder / "items")))
    links = [{"rel": "item", "href": f"./items/{n}.json"} for n in range(3)] + [{"rel": "root", "href": "catalog.json"}]
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "", "links": links}
    (folder / "catalog.json").write_text(json.dumps(catalogue))


def test_a_folder_with_a_stac_catalogue(tiles, tmp_path):
    write_catalogue(tiles, tmp_path / "stac")
    for named in ("stac", "stac/catalog.json", "stac/items/*.json"):
        assert find_images([tmp_path / named]) == [str(t) for t in tiles]


@pytest.mark.parametrize("named", ["stac", "stac/catalog.json", "stac/items/1.json", "index.gpkg"])
def test_catalogues_items_and_indices_can_be_mapped(tiles, tmp_path, named):
    write_catalogue(tiles, tmp_path / "stac")
    frame = gpd.GeoDataFrame({"location": [str(t) for t in tiles]}, geometry=shapes(tiles), crs="EPSG:32633")
    frame.to_file(tmp_path / "index.gpkg")
    result = geohp.segment_files(tmp_path / named, tmp_path / "maps", classes=2, backbone="rcf")
    meant = ["1"] if named.endswith("1.json") else ["0", "1", "2"]
    assert [one.files[0] for one in result.maps] == [tmp_path / "maps" / f"{name}.tif" for name in meant]


def test_which_asset_is_asked_for_where_there_are_several(tiles, tmp_path):
    nir = {"href": "https://example.org/nir.tif", "type": "image/tiff", "roles": ["data"]}
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item(tiles[0], 0, tmp_path, nir=nir)))
    with pytest.raises(
        DataError, match=r"several assets that may be the image \(image, nir\); name one with data.asset"
    ):
        find_images([str(path)])
    assert find_images([str(path)], asset="nir") == [nir["href"]]
    with pytest.raises(DataError, match="no asset 'red'"):
        find_images([str(path)], asset="red")


def test_stac_as_geoparquet(tiles, tmp_path):
    items = [item(t, n, tmp_path) for n, t in enumerate(tiles)]
    rows = {"id": [i["id"] for i in items], "assets": [i["assets"] for i in items]}
    frame = gpd.GeoDataFrame(rows, geometry=shapes(tiles), crs="EPSG:32633").to_crs(4326)
    frame.to_parquet(tmp_path / "items.parquet")
    assert find_images([str(tmp_path / "items.parquet")]) == [str(t) for t in tiles]


def test_a_geopackage_of_tiles_is_an_image(write_scene):
    image = write_scene(np.full((3, 64, 64), 90, np.uint8), "tiles.gpkg", driver="GPKG")
    assert find_images([str(image)]) == [str(image)]


def test_broken_json_is_one_sentence(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match="no readable JSON"):
        find_images([str(tmp_path / "broken.json")])


STRANGE = {
    "items that are none": {"type": "FeatureCollection", "stac_version": "1.0.0", "features": [7]},
    "no items": {"type": "FeatureCollection", "stac_version": "1.0.0"},
    "an asset without an address": {
        "type": "Feature", "stac_version": "1.0.0", "assets": {"image": {"type": "image/tiff"}}
    },
    "assets of numbers": {"type": "Feature", "stac_version": "1.0.0", "assets": {"image": 7}},
    "assets in a list": {"type": "Feature", "stac_version": "1.0.0", "assets": ["image.tif"]},
    "links of numbers": {"type": "Catalog", "stac_version": "1.0.0", "links": [7]},
    "a link to nothing": {"type": "Catalog", "stac_version": "1.0.0", "links": [{"rel": "item", "href": "a\0b"}]},
    "a name that no disk takes": {
        "type": "Feature", "stac_version": "1.0.0", "assets": {"image": {"href": "x" * 9_000, "type": "image/tiff"}}
    },
}  # fmt: skip


@pytest.mark.parametrize("document", STRANGE.values(), ids=STRANGE)
def test_what_only_says_that_it_is_stac_is_one_sentence(tmp_path, document):
    path = tmp_path / "index.json"
    path.write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"index.json is no list of images that can be understood|.*no readable JSON"):
        find_images([str(path)])


def test_a_geometry_that_is_none_is_one_sentence_where_an_area_is_asked_for(tiles, tmp_path):
    path = tmp_path / "index.json"
    path.write_text(json.dumps(item(tiles[0], 0, tmp_path) | {"geometry": {"type": "Polygon", "coordinates": 7}}))
    with pytest.raises(SourceError, match=r"index.json is no list of images that can be understood"):
        find_images([str(path)], area=degrees(13, 52, 14, 53))


def test_collections_whose_first_member_is_no_feature_are_left_to_gdal(tmp_path):
    (tmp_path / "index.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [7]}))
    with pytest.raises(DataError, match=r"index\.geojson"):
        find_images([str(tmp_path / "index.geojson")])


def test_brackets_without_end_are_one_sentence(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="no readable JSON"):
        find_images([str(tmp_path / "deep.json")])
