"""Potsdam-3: both forms of the data, every label rule, and downloads that are not what they should be."""

import os
import pickle
import zipfile

import layouts
import numpy as np
import pytest
import rasterio
import scipy.io
import torch
import torchvision.transforms as T
from PIL import Image
from torch.utils.data import DataLoader

from geohp.config.data import PotsdamConfig
from geohp.data.benchmarks.potsdam import POTSDAM_CLASSES, Potsdam, own_split
from geohp.data.benchmarks.potsdam_tiles import COLOURS, LABELLED_TILES, TILES, TilePatches, Tiles, classes_of
from geohp.errors import ChangedError, DataError

COARSE = [0, 1, 2, 2, 0, 1]


def config(root, **settings) -> PotsdamConfig:
    return PotsdamConfig(source="potsdam", root=str(root), **settings)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return layouts.write_potsdam_patches(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    root = tmp_path_factory.mktemp("isprs")
    return root, layouts.write_potsdam_tiles(root, TILES)


def shown(array, side, kind):
    """What torchvision makes of an image or of labels, resized and cropped as in the published protocol."""
    steps = T.Compose([T.Resize(side, T.InterpolationMode.NEAREST), T.CenterCrop(side)])
    return np.asarray(steps(Image.fromarray(array, mode=kind)))


def test_prepared_patches_train_on_the_published_split(prepared):
    data = Potsdam(config(prepared))
    train, test = data.training(), data.evaluation()
    assert (len(train), len(test)) == (12, 6)
    assert train.ids == (prepared / "labelled_train.txt").read_text().split()
    assert test.ids == (prepared / "labelled_test.txt").read_text().split()
    assert not set(train.ids) & set(test.ids)
    assert (train.channels, train.labelled, test.labelled, data.pixel_size_m) == (3, True, True, 0.10)
    assert [c.name for c in data.classes] == ["road and car", "building and clutter", "vegetation"]


@pytest.mark.parametrize("folder", ["imgs", "gt"])
def test_patches_that_change_are_noticed(tmp_path, folder):
    root = layouts.write_potsdam_patches(tmp_path)
    images = Potsdam(config(root)).training()
    unchanged = images.unchanged()
    unchanged.check()
    os.utime(root / folder / f"{images.name(2)}.mat", ns=(1, 1))
    unchanged.check(images.files_of([0, 1]))
    with pytest.raises(ChangedError, match=rf"{images.name(2)}\.mat"):
        unchanged.check()


@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_items_are_what_the_published_transforms_make(prepared, part):
    images = getattr(Potsdam(config(prepared)), part)()
    side = {"training": 224, "evaluation": 320}[part]
    for index in range(3):
        item, name = images[index], images.name(index)
        image = scipy.io.loadmat(prepared / "imgs" / f"{name}.mat")["img"]
        truth = scipy.io.loadmat(prepared / "gt" / f"{name}.mat")["gt"].astype(np.uint8)
        assert item["image"].dtype == torch.float32
        assert item["mask"].dtype == torch.int64
        expected = np.moveaxis(shown(image[..., :3].copy(), side, "RGB"), -1, 0) / np.float32(255)
        np.testing.assert_allclose(item["image"], expected, atol=1e-7)
        np.testing.assert_array_equal(item["mask"], np.array(COARSE)[shown(truth, side, "L")])


def test_every_fine_class_has_its_coarse_one_and_others_none(prepared, tmp_path):
    root = layouts.write_potsdam_patches(tmp_path, 1, 1, 0)
    name = (root / "labelled_test.txt").read_text().strip()
    labels = np.arange(200 * 200, dtype=np.int32).reshape(200, 200) % 300 - 20
    scipy.io.savemat(root / "gt" / f"{name}.mat", {"gt": labels})
    mask = Potsdam(config(root, evaluation_px=200)).evaluation()[0]["mask"].numpy()
    for value in np.unique(labels):
        assert set(mask[labels == value]) == {COARSE[value] if 0 <= value < 6 else 255}, value
    assert [POTSDAM_CLASSES[c].name.count(w) for c, w in ((0, "car"), (1, "clutter"), (2, "vegetation"))] == [1, 1, 1]


def test_bands_are_those_asked_for_in_their_order(prepared):
    images = Potsdam(config(prepared, bands=["nir", "red", "green"], input_px=200)).training()
    stored = scipy.io.loadmat(prepared / "imgs" / f"{images.name(0)}.mat")["img"]
    np.testing.assert_allclose(images[0]["image"] * 255, np.moveaxis(stored[..., [3, 0, 1]], -1, 0), atol=1e-4)
    assert Potsdam(config(prepared, bands=["nir"])).training().channels == 1


@pytest.mark.parametrize(("split", "count"), [("unlabelled_train", 4), ("all", 22)])
def test_other_training_splits_come_without_labels(prepared, split, count):
    data = Potsdam(config(prepared, train_split=split))
    images = data.training()
    assert len(images) == count
    assert not images.labelled
    assert set(images[0]) == {"image"}
    assert ("trained on as well" in data.protocol.text) == (split == "all")


def test_all_is_made_of_the_other_lists_where_it_is_missing(tmp_path):
    root = layouts.write_potsdam_patches(tmp_path, 2, 1, 1)
    (root / "all.txt").unlink()
    assert sorted(Potsdam(config(root, train_split="all")).training().ids, key=int) == ["0", "1", "2", "3"]


def test_published_counts_make_the_published_protocol(prepared, tmp_path):
    assert not Potsdam(config(prepared)).protocol.same
    assert "other lists" in Potsdam(config(prepared)).protocol.text
    root = layouts.write_potsdam_patches(tmp_path, 2, 1, 1)
    (root / "labelled_train.txt").write_text("\n".join(f"a{i}" for i in range(4545)))
    (root / "labelled_test.txt").write_text("\n".join(f"b{i}" for i in range(855)))
    protocol = Potsdam(config(root)).protocol
    assert (protocol.benchmark, protocol.same) == ("potsdam-3", True)
    assert "855" in protocol.text
    assert not Potsdam(config(root, evaluation_px=224)).protocol.same


def spoil_key(root, name):
    scipy.io.savemat(root / "imgs" / f"{name}.mat", {"image": np.zeros((200, 200, 4), np.uint8)})


def spoil_size(root, name):
    scipy.io.savemat(root / "imgs" / f"{name}.mat", {"img": np.zeros((100, 200, 4), np.uint8)})


def spoil_dtype(root, name):
    scipy.io.savemat(root / "imgs" / f"{name}.mat", {"img": np.zeros((200, 200, 4))})


def spoil_objects(root, name):
    cells = np.full((2, 2, 4), {"a": 1}, object)
    scipy.io.savemat(root / "imgs" / f"{name}.mat", {"img": cells})


def spoil_cut(root, name):
    path = root / "imgs" / f"{name}.mat"
    path.write_bytes(path.read_bytes()[:1000])


def spoil_text(root, name):
    (root / "imgs" / f"{name}.mat").write_text("not here: see the mirror\n" * 20)


def spoil_hdf5(root, name):
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (root / "imgs" / f"{name}.mat").write_bytes(head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n")


def spoil_labels(root, name):
    scipy.io.savemat(root / "gt" / f"{name}.mat", {"gt": np.zeros((200, 200), np.float32)})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_key, "holds no 'img' but image"),
        (spoil_size, r"img is uint8 \(100, 200, 4\) where uint8 \(200, 200, 4\)"),
        (spoil_dtype, "img is float64"),
        (spoil_objects, "img is object"),
        (spoil_cut, "no sound MATLAB file"),
        (spoil_text, "no sound MATLAB file"),
        (spoil_hdf5, "version 7.3"),
        (spoil_labels, "gt is float32"),
    ],
)
def test_a_file_that_is_no_patch_is_named(tmp_path, spoil, said):
    root = layouts.write_potsdam_patches(tmp_path, 1, 1, 0)
    name = (root / "labelled_train.txt").read_text().strip()
    spoil(root, name)
    images = Potsdam(config(root)).training()
    with pytest.raises(DataError, match=rf"{name}\.mat: .*{said}"):
        images[0]


def test_bands_that_patches_do_not_have(tmp_path):
    root = layouts.write_potsdam_patches(tmp_path, 1, 1, 0, bands=3)
    assert Potsdam(config(root)).training()[0]["image"].shape == (3, 224, 224)
    with pytest.raises(DataError, match=r"has 3 band\(s\), without nir; name others with data.bands"):
        Potsdam(config(root, bands=["nir", "red"])).training()[0]


def test_lists_and_files_that_disagree(tmp_path):
    root = layouts.write_potsdam_patches(tmp_path, 3, 2, 0)
    train = (root / "labelled_train.txt").read_text().split()
    (root / "gt" / f"{train[1]}.mat").unlink()
    with pytest.raises(DataError, match=rf"gt: 1 of the 3 patches on labelled_train.txt .*{train[1]}.mat"):
        Potsdam(config(root)).training()
    (root / "imgs" / f"{train[0]}.mat").unlink()
    with pytest.raises(DataError, match=rf"imgs: 1 of the 3 patches .*{train[0]}.mat"):
        Potsdam(config(root)).training()
    assert len(Potsdam(config(root)).evaluation()) == 2
    (root / "labelled_test.txt").write_text(f"{train[2]}\n")
    with pytest.raises(DataError, match=f"1 patches .{train[2]} is one. are on both"):
        Potsdam(config(root))
    (root / "labelled_test.txt").write_text("7\n8\n7\n")
    with pytest.raises(DataError, match="names 7 more than once"):
        Potsdam(config(root))
    (root / "labelled_test.txt").write_text("\n")
    with pytest.raises(DataError, match="is empty"):
        Potsdam(config(root))
    (root / "labelled_test.txt").unlink()
    with pytest.raises(DataError, match=r"labelled_test.txt: there is no such list; lists there are all.txt"):
        Potsdam(config(root))


def test_a_folder_that_holds_neither_form(tmp_path):
    with pytest.raises(DataError, match=r"neither prepared patches .* nor the tiles"):
        Potsdam(config(tmp_path / "nowhere"))
    layouts.write_potsdam_patches(tmp_path / "potsdam", 1, 1, 0)
    with pytest.raises(DataError, match=r"did you mean .*potsdam\?"):
        Potsdam(config(tmp_path))


def test_reader_processes_give_the_same_items(prepared, tiles):
    for root, px in ((prepared, 6000), (tiles[0], 400)):
        images = Potsdam(config(root, input_px=64), tile_px=px).training()
        images[0]
        assert torch.equal(pickle.loads(pickle.dumps(images))[1]["image"], images[1]["image"])
    read = next(iter(DataLoader(images, batch_size=4, num_workers=1)))
    assert torch.equal(read["image"][3], images[3]["image"])
    images.close()


def test_the_tiles_are_the_38_of_the_benchmark():
    from torchgeo.datasets import Potsdam2D

    known = {split: {n.removeprefix("top_potsdam_") for n in names} for split, names in Potsdam2D.splits.items()}
    assert set(LABELLED_TILES) == known["train"]
    assert set(TILES) == known["train"] | known["test"]
    assert (len(TILES), len(LABELLED_TILES)) == (38, 24)


def halved(image):
    """(H, W, bands) to (H/2, W/2, bands): the mean of two by two, halves upwards."""
    total = sum(image[i::2, j::2].astype(int) for i in (0, 1) for j in (0, 1))
    return (total + 2) // 4


def test_tiles_are_halved_cut_and_translated(tmp_path):
    made = layouts.write_potsdam_tiles(tmp_path, LABELLED_TILES[5:7], tile_px=800)
    patches = TilePatches(Tiles.find(tmp_path), ["red", "green", "blue", "nir"], tile_px=800)
    assert patches.ids(["2_10"]) == ["2_10_00_00", "2_10_00_01", "2_10_01_00", "2_10_01_01"]
    for name in patches.ids(LABELLED_TILES[5:7]):
        tile, row, col = name.rsplit("_", 2)
        image, truth = made[tile]
        place = slice(int(row) * 200, int(row) * 200 + 200), slice(int(col) * 200, int(col) * 200 + 200)
        np.testing.assert_array_equal(patches.image(name), np.moveaxis(halved(image)[place], -1, 0))
        np.testing.assert_array_equal(patches.labels(name), truth[::2, ::2][place])
    assert len(patches._open) <= 6


def test_tiles_of_full_size_make_225_patches_of_20_m():
    patches = TilePatches(Tiles(None, {"RGBIR": dict.fromkeys(TILES, "x")}, []))
    names = patches.ids(TILES)
    assert len(names) == 8550
    assert len(set(names)) == 8550
    assert (names[0], names[224]) == ("2_10_00_00", "2_10_14_14")


@pytest.mark.parametrize("labels", ["all", "participants"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kind", ["RGBIR", "RGB"])
def test_every_form_of_the_download_gives_the_same(tiles, tmp_path, kind, zipped, labels):
    layouts.write_potsdam_tiles(tmp_path, LABELLED_TILES, kind=kind, zipped=zipped, labels=labels)
    ours, whole = Potsdam(config(tmp_path), tile_px=400), Potsdam(config(tiles[0]), tile_px=400)
    assert ours.splits == whole.splits
    for index in (0, 7):
        one, other = ours.evaluation(), whole.evaluation()
        one = one[index % len(one)]
        other = other[index % len(other)]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def test_the_folder_torchgeo_reads_serves_as_well(tiles, tmp_path):
    from torchgeo.datasets import Potsdam2D

    layouts.write_potsdam_tiles(tmp_path)
    for path in (tmp_path / "5_Labels_all").iterdir():
        path.rename(tmp_path / path.name)  # its archive has no folder in it
    assert len(Potsdam2D(tmp_path, "train").files) == 24
    ours, whole = (Potsdam(config(root), tile_px=400).training() for root in (tmp_path, tiles[0]))
    assert torch.equal(ours[0]["image"], whole[0]["image"])
    assert torch.equal(ours[0]["mask"], whole[0]["mask"])


def test_labels_of_all_38_tiles_change_nothing(tiles, tmp_path):
    layouts.write_potsdam_tiles(tmp_path, TILES, labelled=TILES)
    assert Potsdam(config(tmp_path), tile_px=400).splits == Potsdam(config(tiles[0]), tile_px=400).splits


def test_our_own_split_has_the_published_shares_and_says_so(tiles):
    labelled = [f"{t}_{r:02}_{c:02}" for t in LABELLED_TILES for r in range(15) for c in range(15)]
    train, test = own_split(labelled, 0)
    assert (len(train), len(test)) == (4545, 855)
    assert sorted(train + test) == sorted(labelled)
    assert own_split(labelled, 0) == (train, test)
    assert own_split(labelled, 1)[1] != test
    # Frozen: a model of today must find its test patches again.
    assert test[:4] == ["2_10_02_02", "2_10_03_07", "2_10_03_13", "2_10_04_01"]
    data = Potsdam(config(tiles[0], split_seed=3), tile_px=400)
    assert not data.protocol.same
    assert data.protocol.benchmark == "potsdam-3"
    assert "a split of our own (seed 3)" in data.protocol.text


@pytest.mark.parametrize("number", range(6))
def test_every_colour_has_its_class(number):
    labels, odd = classes_of(np.array(COLOURS[number], np.uint8)[:, None, None].repeat(4, 1))
    assert set(labels.ravel()) == {number}
    assert odd == 0


def test_colours_of_no_class_are_left_out_and_counted():
    near = np.array([[255, 255, 254], [1, 0, 255], [0, 0, 0], [128, 128, 128], [255, 0, 255]], np.uint8).T[:, None]
    labels, odd = classes_of(near)
    assert set(labels.ravel()) == {255}
    assert odd == 4  # black marks boundaries that were left out


def test_label_tiles_with_odd_colours_are_told(tmp_path, caplog):
    made = layouts.write_potsdam_tiles(tmp_path)
    path = tmp_path / "5_Labels_all" / f"top_potsdam_{LABELLED_TILES[0]}_label.tif"
    colours = layouts.COLOUR_TABLE[made[LABELLED_TILES[0]][1]]
    colours[:40] = 77
    path.write_bytes(layouts.tiff(colours))
    patches = TilePatches(Tiles.find(tmp_path), tile_px=400)
    labels = patches.labels(f"{LABELLED_TILES[0]}_00_00")
    assert (labels[:20] == 255).all()
    assert patches.odd_px == 20 * 200
    assert "10.0 % of patch" in caplog.text
    path.write_bytes(layouts.tiff(colours // 2))
    patches.close()
    with pytest.raises(DataError, match=r"label.tif: \d+% of the pixels .* have colours of no class"):
        patches.labels(f"{LABELLED_TILES[0]}_00_00")


def test_labels_without_boundaries_serve_where_there_are_no_others(tmp_path):
    layouts.write_potsdam_tiles(tmp_path)
    for path in (tmp_path / "5_Labels_all").iterdir():
        path.rename(path.with_name(path.name.replace("_label.tif", "_label_noBoundary.tif")))
    patches = TilePatches(Tiles.find(tmp_path), tile_px=400)
    assert patches.without_boundaries
    assert patches.labels("2_10_00_00").max() < 6


def test_missing_tiles_are_named(tmp_path):
    layouts.write_potsdam_tiles(tmp_path, [t for t in LABELLED_TILES if t != "4_11"])
    data = Potsdam(config(tmp_path), tile_px=400)
    with pytest.raises(DataError, match=r"1 of the 24 tiles needed are missing \(top_potsdam_4_11_RGBIR.tif\)"):
        data.training()
    with pytest.raises(DataError, match=r"14 of the 14 tiles .*top_potsdam_2_13_RGBIR.tif.*top_potsdam_7_13_RGBIR"):
        Potsdam(config(tmp_path, train_split="unlabelled_train"), tile_px=400).training()
    layouts.write_potsdam_tiles(tmp_path, ["4_11"], labelled=[])
    with pytest.raises(
        DataError, match=r"1 of the 24 tiles needed are missing \(top_potsdam_4_11_label.tif\).*5_Labels"
    ):
        Potsdam(config(tmp_path), tile_px=400).training()


def test_infrared_needs_tiles_that_have_it(tmp_path):
    layouts.write_potsdam_tiles(tmp_path, kind="RGB")
    with pytest.raises(DataError, match=r"only top_potsdam_\*_RGB.tif is there where bands nir, red"):
        Potsdam(config(tmp_path, bands=["nir", "red"]), tile_px=400)


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((400, 300, 4), np.uint8, "is of 300 x 400 px where a tile has 400 x 400"),
        ((400, 400, 3), np.uint8, r"has 3 band\(s\) where 4 are expected"),
        ((400, 400, 4), np.uint16, "holds uint16 values"),
    ],
)
def test_tiles_that_are_none_are_named(tmp_path, shape, dtype, said):
    layouts.write_potsdam_tiles(tmp_path)
    (tmp_path / "4_Ortho_RGBIR" / "top_potsdam_2_10_RGBIR.tif").write_bytes(layouts.tiff(np.zeros(shape, dtype)))
    patches = Potsdam(config(tmp_path), tile_px=400).patches
    with pytest.raises(DataError, match=rf"top_potsdam_2_10_RGBIR.tif: {said}"):
        patches.image("2_10_00_00")


def test_a_tile_cut_short_is_named(tmp_path):
    layouts.write_potsdam_tiles(tmp_path)
    path = tmp_path / "4_Ortho_RGBIR" / "top_potsdam_2_10_RGBIR.tif"
    path.write_bytes(path.read_bytes()[:100_000])
    patches = Potsdam(config(tmp_path), tile_px=400).patches
    for _ in range(2):
        with pytest.raises(DataError, match=r"2_10_RGBIR.tif: .*damaged"):
            patches.image("2_10_00_00")


def test_archives_that_cannot_be_looked_into_are_told(tmp_path):
    layouts.write_potsdam_tiles(tmp_path, zipped=True)
    images = tmp_path / "4_Ortho_RGBIR.zip"
    sound = images.read_bytes()
    images.write_bytes(sound[:2000])
    with pytest.raises(DataError, match=r"4_Ortho_RGBIR.zip is no sound archive"):
        Potsdam(config(tmp_path), tile_px=400)
    images.unlink()
    with zipfile.ZipFile(tmp_path / "Potsdam.zip", "w") as outer:
        outer.writestr("Potsdam/4_Ortho_RGBIR.zip", sound)
    with pytest.raises(DataError, match=r"Potsdam.zip holds further archives .* unpack it; they can stay packed"):
        Potsdam(config(tmp_path), tile_px=400)
    (tmp_path / "Potsdam").mkdir()
    (tmp_path / "Potsdam" / "4_Ortho_RGBIR.zip").write_bytes(sound)
    assert len(Potsdam(config(tmp_path), tile_px=400).training()) == 20


def test_other_archives_are_left_alone(tmp_path):
    layouts.write_potsdam_tiles(tmp_path)
    (tmp_path / "holiday.zip").write_bytes(b"PK")
    assert Potsdam(config(tmp_path), tile_px=400).patches.tiles.problems == []


def test_a_tile_of_full_size_is_read_by_windows(tmp_path):
    path = tmp_path / "4_Ortho_RGBIR" / "top_potsdam_7_13_RGBIR.tif"
    path.parent.mkdir()
    with rasterio.open(
        path, "w", driver="GTiff", width=6000, height=6000, count=4, dtype="uint8", sparse_ok=True, tiled=True
    ) as out:
        corner = rasterio.windows.Window(5600, 5600, 400, 400)
        out.write(np.full((4, 400, 400), 90, np.uint8), window=corner)
    patches = Potsdam(config(tmp_path)).patches
    assert (patches.image("7_13_14_14") == 90).all()
    assert (patches.image("7_13_14_13") == 0).all()
