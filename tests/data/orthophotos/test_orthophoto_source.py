"""One's own imagery with labels: every way of giving them, what is learnt from, and what is judged."""

import pickle

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin

from geohp.config.loading import parse_config
from geohp.data.factory import open_data
from geohp.data.orthophotos.label_files import match_labels
from geohp.errors import DataError, GeohpError

SIZE = (96, 128)


def own(images, seed=0, **keys):
    keys = {"patch_px": 32, "patches": 12, **keys}
    return open_data(parse_config({"data": {"images": [str(images)], **keys}}).data, seed)


def quarters(size=SIZE, values=(0, 1, 2, 3)):
    labels = np.empty(size, np.uint8)
    half = size[0] // 2, size[1] // 2
    labels[: half[0], : half[1]], labels[: half[0], half[1] :] = values[:2]
    labels[half[0] :, : half[1]], labels[half[0] :, half[1] :] = values[2:]
    return labels


def picture(labels):
    """Colours that tell each label from the others, so that image and mask can be held against one another."""
    return np.stack([labels * 40 + 10, labels * 20 + 30, 200 - labels * 30]).astype(np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.moveaxis(array, 0, -1) if array.ndim == 3 else array).save(path)


def counted(images):
    """How many pixels of each class all masks hold."""
    masks = [images[i]["mask"].numpy() for i in range(len(images))]
    return np.bincount(np.concatenate([m[m != 255] for m in masks]), minlength=1).tolist() if masks else []


@pytest.fixture
def pairs(tmp_path):
    """Three folders of two pictures without a place, and their labels beside them; the last folder has none."""
    for tile in range(3):
        for part in range(2):
            save(tmp_path / "town" / f"tile{tile}" / f"part{part}.png", picture(quarters()))
            if tile < 2:
                save(tmp_path / "town" / f"tile{tile}" / f"part{part}_labels.png", quarters())
    return tmp_path / "town"


def test_labels_beside_images_are_found_by_name_and_are_no_images(pairs):
    data = own(pairs, labels="{stem}_labels.png")
    found = data.evaluation()
    assert {found.name(i).split(" row")[0] for i in range(len(found))} == {
        str(pairs / f"tile{t}" / f"part{p}.png") for t in range(2) for p in range(2)
    }
    assert [c.name for c in data.classes] == ["0", "1", "2", "3"]
    assert counted(found) == [4 * 96 * 128 // 4] * 4
    item = found[0]
    np.testing.assert_allclose(item["image"].numpy() * 255, picture(item["mask"].numpy()), atol=0.01)
    assert "labels were used" in data.protocol.text
    assert not data.training().labelled
    assert data.protocol.benchmark is None


def test_hidden_files_are_neither_images_nor_labels(pairs):
    """Such as those macOS leaves, and the unfinished blocks of a map that is being made."""
    (pairs / ".part0_map.tif.geohp").mkdir()
    for path in (".part0_map.tif.geohp/0_0.png", "tile0/._part0.png", "tile0/._part0_labels.png"):
        save(pairs / path, picture(quarters()))
    paths = {place.path for place in own(pairs, exclude="*_labels.png").training().places}
    assert paths <= {str(pairs / f"tile{t}" / f"part{p}.png") for t in range(3) for p in range(2)}
    assert not any("._" in file for file in match_labels([str(pairs)], []).files)


@pytest.mark.parametrize("seed", range(3))
def test_folders_are_held_out_as_a_whole(pairs, seed):
    data = own(pairs, labels="{stem}_labels.png", split="folder", split_seed=seed)
    train, test = data.training(), data.evaluation()
    folders = [{p.path.split("/")[-2] for p in images.places} for images in (train, test)]
    assert folders[0].isdisjoint(folders[1])
    assert len(folders[1]) == 1
    assert "tile2" in folders[0]
    assert train.labelled
    assert set(train[0]) == {"image", "mask"}
    assert "4 image(s) to train on, 2 to test on" in data.protocol.text
    again = pickle.loads(pickle.dumps(test))
    np.testing.assert_array_equal(again[1]["mask"], test[1]["mask"])
    test.close()


def test_every_labelled_pixel_is_judged_once_whatever_the_patch(pairs):
    for side in (32, 40, 50, 96, 200):
        found = own(pairs, labels="{stem}_labels.png", patch_px=side).evaluation()
        assert counted(found) == [4 * 96 * 128 // 4] * 4, side


def test_patches_that_show_the_same_ground_over_and_over_are_told(pairs, caplog):
    caplog.set_level("INFO")
    own(pairs, patches=500, exclude=["*labels*"]).training()
    assert "over" not in caplog.text
    own(pairs, patches=720, exclude=["*labels*"]).training()
    assert "6 image(s) 10 times over: data.patches=288 shows it 4 times, in 40 % of the time" in caplog.text


def test_resized_patches_are_judged_as_they_were_learnt_from(pairs):
    found = own(pairs, labels="{stem}_labels.png", patch_px=16, input_px=32, evaluation_px=64).evaluation()
    assert found.patch_px == 32
    assert found[0]["image"].shape == (3, 64, 64)
    assert found[0]["mask"].shape == (64, 64)
    assert own(pairs, patch_px=16, input_px=40).config.evaluation_px == 40


def test_a_folder_of_labels_with_equal_names(pairs, tmp_path):
    for label in pairs.rglob("*_labels.png"):
        target = tmp_path / "truth" / label.parent.name / label.name.replace("_labels", "")
        target.parent.mkdir(parents=True, exist_ok=True)
        label.rename(target)
    assert counted(own(pairs, labels=str(tmp_path / "truth")).evaluation()) == [4 * 96 * 128 // 4] * 4


def test_a_mapping_merges_names_and_leaves_out(pairs):
    mapping = {0: "town", 1: "town", 2: "water", 3: None}
    data = own(pairs, labels="{stem}_labels.png", label_classes=mapping)
    assert counted(data.evaluation()) == [2 * 12288, 12288]
    assert [c.name for c in data.classes] == ["town", "water"]
    others = own(pairs, labels="{stem}_labels.png", label_classes={1: "a", "*": "b"})
    assert counted(others.evaluation()) == [12288, 3 * 12288]
    named = own(pairs, labels="{stem}_labels.png", label_classes=["a", "b", "c", "d"])
    named.evaluation()
    assert [c.name for c in named.classes] == ["a", "b", "c", "d"]
    with pytest.raises(DataError, match=r'part0_labels.png: holds the label 2, which .*"2": null'):
        own(pairs, labels="{stem}_labels.png", label_classes={0: "a", 1: "b"}).evaluation()


def test_255_is_a_label_where_it_has_a_name(write_scene, tmp_path, caplog):
    """As in masks of buildings, on the image's grid or another."""
    write_scene(picture(quarters()), "a.tif")
    mask = quarters(values=(0, 255, 0, 255))[None]
    write_scene(mask, "a_same.tif")
    write_scene(mask.repeat(2, 1).repeat(2, 2), "a_finer.tif", transform=from_origin(380000, 5800000, 0.25, 0.25))
    for name in ("same", "finer"):
        keys = {"labels": f"{{stem}}_{name}.tif"}
        data = own(tmp_path / "a.tif", **keys, label_classes={0: "land", 255: "building"})
        assert counted(data.evaluation()) == [6144, 6144]
        assert counted(own(tmp_path / "a.tif", **keys, label_classes={0: "land", "*": "other"}).evaluation()) == [6144]
        assert not caplog.records
        assert counted(own(tmp_path / "a.tif", **keys).evaluation()) == [6144]
        assert "of one class (0)" in caplog.text
        caplog.clear()


def test_colours_stand_for_classes(tmp_path):
    labels = quarters()
    table = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]], np.uint8)
    save(tmp_path / "a.png", picture(labels))
    save(tmp_path / "truth" / "a.png", np.moveaxis(table[labels], -1, 0))
    mapping = {"#FF0000": "roof", "#00ff00": "tree", "#0000ff": "tree", "#000000": None}
    data = own(tmp_path / "a.png", labels=str(tmp_path / "truth"), label_classes=mapping)
    assert counted(data.evaluation()) == [3072, 6144]
    assert data.classes[0].colour.lower() == "#ff0000"


def test_labels_of_another_size_are_refused_naming_both(tmp_path):
    save(tmp_path / "a.png", picture(quarters()))
    save(tmp_path / "a_labels.png", quarters((50, 50)))
    with pytest.raises(DataError, match=r"a_labels.png has 50 x 50 px but .*a.png 96 x 128"):
        own(tmp_path, labels="{stem}_labels.png").evaluation()


def test_labels_on_another_grid_are_warped(write_scene, tmp_path):
    scene = write_scene(picture(quarters()), "scene.tif")
    fine = quarters((192, 256))
    write_scene(fine[None], "truth.tif", transform=from_origin(380000, 5800000, 0.25, 0.25))
    data = own(scene, labels=str(tmp_path / "truth.tif"))
    found = data.evaluation()
    for i in range(len(found)):
        item = found[i]
        np.testing.assert_allclose(item["image"].numpy() * 255, picture(item["mask"].numpy()), atol=0.01)
    assert counted(found) == [3072] * 4
    whole = from_origin(380016, 5800000, 0.5, 0.5)
    write_scene(quarters()[None] + 1, "part.tif", transform=whole, nodata=0)
    assert sum(counted(own(scene, labels=str(tmp_path / "part.tif")).evaluation())) == 96 * 96


def polygons(tmp_path, crs="EPSG:4326"):
    """The left half is field, a quarter of the right one wood."""
    shapes = [shapely.box(380000, 5799952, 380032, 5800000), shapely.box(380032, 5799976, 380064, 5800000)]
    frame = gpd.GeoDataFrame({"cover": ["field", "wood"], "n": [1.5, 2.5]}, geometry=shapes, crs="EPSG:32633")
    frame.to_crs(crs).to_file(tmp_path / "cover.gpkg")
    return tmp_path / "cover.gpkg"


def test_labels_with_nothing_but_a_crs_have_the_images_pixels(write_scene, tmp_path):
    write_scene(picture(quarters()), "a.tif")
    write_scene(quarters()[None], "a_labels.tif", transform=rasterio.Affine.identity())
    assert counted(own(tmp_path / "a.tif", labels="{stem}_labels.tif").evaluation()) == [4 * 96 * 128 // 16] * 4


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:32632"])
def test_polygons_in_any_coordinate_reference_system(write_scene, tmp_path, crs):
    scene = write_scene(picture(quarters()))
    data = own(scene, labels=str(polygons(tmp_path, crs)), label_field="cover")
    field, wood = counted(data.evaluation())
    assert [c.name for c in data.classes] == ["field", "wood"]
    assert field == pytest.approx(96 * 64, abs=100)
    assert wood == pytest.approx(48 * 64, abs=100)
    with pytest.raises(DataError, match=r"no field 'covr' .*did you mean 'cover'"):
        own(scene, labels=str(polygons(tmp_path, crs)), label_field="covr").evaluation()


def test_blocks_share_one_scene_out(write_scene, tmp_path):
    scene = write_scene(picture(quarters((256, 256))), "big.tif")
    write_scene(quarters((256, 256))[None], "truth.tif")
    data = own(scene, labels=str(tmp_path / "truth.tif"), split="block", block_m=32, patch_px=16, patches=200)
    train, test = data.training(), data.evaluation()
    seen = np.zeros((256, 256), int)
    for place in train.places:
        seen[place.row : place.row + 16, place.col : place.col + 16] += 1
    judged = np.zeros((256, 256), int)
    for i, place in enumerate(test.places):
        judged[place.row : place.row + 16, place.col : place.col + 16] += test[i]["mask"].numpy() != 255
    assert judged.max() == 1
    assert (judged > 0).mean() == pytest.approx(0.25, abs=0.1)
    assert not (judged[seen > 0]).any()
    assert (seen > 0).mean() > 0.3
    assert len(train) == 200
    assert "Split by blocks of 32 m" in data.protocol.text


def test_a_grid_covers_the_image(write_scene):
    scene = write_scene(picture(quarters()))
    found = own(scene, layout="grid").training()
    assert [(p.row, p.col) for p in found.places] == [(r, c) for r in (0, 32, 64) for c in (0, 32, 64, 96)]
    assert len(own(scene, layout="grid", stride_px=16).training()) == 5 * 7


def test_an_area_of_interest_bounds_patches_and_masks(write_scene, tmp_path):
    scene = write_scene(picture(quarters()))
    area = gpd.GeoSeries([shapely.box(380000, 5799952, 380032, 5800000)], crs="EPSG:32633")
    area.to_file(tmp_path / "area.gpkg")
    data = own(scene, labels=str(polygons(tmp_path)), label_field="cover", area=str(tmp_path / "area.gpkg"))
    assert all(p.col + 32 <= 64 for p in data.training().places)
    assert counted(data.evaluation())[0] == pytest.approx(96 * 64, abs=100)
    with pytest.raises(DataError, match="meets none of the 1 image"):
        own(scene, area=[0.0, 0.0, 1.0, 1.0]).training()
    with pytest.raises(DataError, match=r"does a patch of 80 px fit .* larger data.block_m or data.area"):
        own(scene, area=str(tmp_path / "area.gpkg"), patch_px=80).training()


def test_named_test_images(pairs):
    data = own(pairs, labels="{stem}_labels.png", test_images=[str(pairs / "tile1")])
    assert {p.path.split("/")[-2] for p in data.training().places} == {"tile0", "tile2"}
    assert {p.path.split("/")[-2] for p in data.evaluation().places} == {"tile1"}


def test_an_index_serves_as_the_images(write_scene, tmp_path):
    scene = write_scene(picture(quarters()))
    with rasterio.open(scene) as dataset:
        box = shapely.box(*dataset.bounds)
    gpd.GeoDataFrame({"location": [scene.name]}, geometry=[box], crs=CRS.from_epsg(32633)).to_file(tmp_path / "i.gpkg")
    assert len(own(tmp_path / "i.gpkg").training()) == 12


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"labels": "{stem}_truth.png"}, r"no image has such labels \(looked for .*part0_truth.png"),
        ({"labels": "{stam}.png"}, "may hold {stem}, {name} and {folder} in braces, not {stam}"),
        ({"labels": "nowhere"}, "no labels there"),
        ({}, "no labels to evaluate against"),
        ({"labels": "{stem}_labels.png", "label_classes": {0: None}}, "makes 0 classes"),
        ({"labels": "{stem}_labels.png", "split": "folder", "label_classes": {7: "a", "*": None}}, "is labelled"),
    ],
)
def test_mistakes_are_one_sentence(pairs, keys, said):
    with pytest.raises(GeohpError, match=said):
        own(pairs, **keys).evaluation()


def test_real_tiles_are_held_out_as_a_whole(shared):
    data = own(
        shared / "data" / "dubai",
        labels="{stem}_labels.png",
        label_classes=["building", "land", "road", "vegetation", "water"],
        split="folder",
        patches=16,
        patch_px=448,
    )
    train, test = data.training(), data.evaluation()
    sides = [{p.path.split("/")[-2] for p in images.places} for images in (train, test)]
    assert sides[0].isdisjoint(sides[1])
    assert sides[0] >= {"tile4", "tile6", "tile8"}  # they have no labels
    assert set(np.unique(test[0]["mask"])) <= {0, 1, 2, 3, 4, 255}
    assert len(data.classes) == 5


def test_labels_of_one_name_never_go_to_the_wrong_image():
    from geohp.data.orthophotos.label_files import _by_name

    images = ["/d/images/t0/a.tif", "/d/images/t1/a.tif", "/d/images/t2/b.tif"]
    assert _by_name(["/d/truth/t0/a.tif"], images) == {"/d/images/t0/a.tif": "/d/truth/t0/a.tif"}
    assert _by_name(["/d/truth/b.png"], images) == {"/d/images/t2/b.tif": "/d/truth/b.png"}
    inside = ["/d/t0/image/a.tif", "/d/t1/image/a.tif"]
    assert _by_name([i.replace("image", "truth") for i in inside], inside) == {
        i: i.replace("image", "truth") for i in inside
    }
    with pytest.raises(DataError, match="cannot be told which of 1 files"):
        _by_name(["/d/truth/a.tif"], images)


def test_labels_that_are_open_may_be_closed_in_any_order(pairs, monkeypatch):
    from geohp.data.orthophotos import patch_sets

    monkeypatch.setattr(patch_sets, "_OPEN_SCENES", 2)
    data = own(pairs, labels="{stem}_labels.png")
    found, other = data.evaluation(), data.evaluation()
    for i in range(len(found)):
        assert {"image", "mask"} == set(found[i]) == set(other[len(found) - 1 - i])
    found.close()
    assert (other[0]["mask"] != 255).any()
    other.close()
    assert (found[0]["mask"] != 255).any()  # opened anew
    found.close()


def test_points_are_known_where_they_lie(write_scene, tmp_path):
    scene = write_scene(picture(quarters()))
    shapes = gpd.points_from_xy([380001, 380062, 380500], [5799999, 5799953, 5799999])
    gpd.GeoDataFrame({"kind": ["a", "b", "a"]}, geometry=shapes, crs="EPSG:32633").to_file(tmp_path / "p.geojson")
    data = own(scene, labels=str(tmp_path / "p.geojson"))
    assert counted(data.evaluation()) == [1, 1]


def test_a_layer_is_asked_for_by_the_name_of_its_key(write_scene, tmp_path):
    scene = write_scene(picture(quarters()))
    frame = gpd.read_file(polygons(tmp_path))
    frame.to_file(tmp_path / "cover.gpkg", layer="second")
    with pytest.raises(DataError, match=r"several layers .* say which one with data.label_layer"):
        own(scene, labels=str(tmp_path / "cover.gpkg")).evaluation()
    data = own(scene, labels=str(tmp_path / "cover.gpkg"), label_layer="second", split="block", block_m=16.0)
    assert data.evaluation().labelled


def test_a_test_image_named_otherwise_is_the_same_image(pairs, monkeypatch):
    monkeypatch.chdir(pairs)
    data = own(".", labels="{stem}_labels.png", test_images=[str(pairs / "tile1")])
    tests = {p.path for p in data.evaluation().places}
    assert len(tests) == 2
    assert len({p.path for p in data.training().places}) == 4


def test_labels_without_a_place_or_a_name_are_refused(pairs, tmp_path):
    save(tmp_path / "truth.png", quarters())
    with pytest.raises(DataError, match="nor is called like an image"):
        own(pairs, exclude=["*labels*"], labels=str(tmp_path / "truth.png")).evaluation()


def test_a_training_side_without_labels_teaches_nothing(pairs):
    for label in (pairs / "tile0").glob("*_labels.png"):
        label.unlink()
    data = own(pairs, labels="{stem}_labels.png", split="folder")
    assert not data.training().labelled
    assert {p.path.split("/")[-2] for p in data.evaluation().places} == {"tile1"}
