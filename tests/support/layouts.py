"""Small made-up copies of the benchmark data sets, in the exact layout of their files."""

import io
import zipfile
from pathlib import Path

import numpy as np
import rasterio
import scipy.io
from PIL import Image

from geohp.data.benchmarks.potsdam_tiles import COLOURS, LABELLED_TILES, TILES

COLOUR_TABLE = np.array(COLOURS, np.uint8)


def _fields(rng, height, width, values, cell=8):
    """Labels (H, W): squares of random values."""
    small = rng.choice(values, (-(-height // cell), -(-width // cell)))
    return small.repeat(cell, 0).repeat(cell, 1)[:height, :width].astype(np.uint8)


def _picture(rng, labels, bands):
    """uint8 (H, W, bands): a colour a label, with some noise."""
    colours = np.random.default_rng(0).integers(30, 220, (256, bands))
    return np.clip(colours[labels] + rng.integers(-25, 26, (*labels.shape, bands)), 0, 255).astype(np.uint8)


def write_potsdam_patches(root, train=12, test=6, unlabelled=4, *, bands=4, seed=0) -> Path:
    """The prepared patches: imgs/ID.mat, gt/ID.mat and the four lists; ids are numbers in random order."""
    root = Path(root)
    rng = np.random.default_rng(seed)
    for folder in ("imgs", "gt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    ids = [str(i) for i in rng.permutation(train + test + unlabelled)]
    lists = {
        "labelled_train": ids[:train],
        "labelled_test": ids[train : train + test],
        "unlabelled_train": ids[train + test :],
        "all": ids,
    }
    for name, some in lists.items():
        (root / f"{name}.txt").write_text("".join(f"{i}\n" for i in some))
    for i in ids:
        labels = _fields(rng, 200, 200, range(6), cell=50)
        scipy.io.savemat(root / "imgs" / f"{i}.mat", {"img": _picture(rng, labels, bands)})
        if i not in lists["unlabelled_train"]:
            scipy.io.savemat(root / "gt" / f"{i}.mat", {"gt": labels.astype(np.int32)})
    return root


def write_potsdam_tiles(
    root, tiles=LABELLED_TILES, *, tile_px=400, kind="RGBIR", labels="all", zipped=False, labelled=None, seed=0
) -> dict:
    """Tiles as ISPRS hands them out, smaller ones: ``4_Ortho_RGBIR``, ``5_Labels_all``; gives {tile: (image, labels)}.

    Images are (H, W, 4) with near infrared, whatever is written of them; labels are (H, W), 0 to 5.
    """
    root = Path(root)
    images = {"RGBIR": "4_Ortho_RGBIR", "RGB": "2_Ortho_RGB"}[kind]
    marks = {"all": "5_Labels_all", "participants": "5_Labels_for_participants"}[labels]
    made, files = {}, {images: {}, marks: {}}
    for tile in tiles:
        rng = np.random.default_rng([seed, TILES.index(tile)])
        truth = _fields(rng, tile_px, tile_px, range(6), cell=50)
        image = _picture(rng, truth, 4)
        made[tile] = image, truth
        files[images][f"top_potsdam_{tile}_{kind}.tif"] = tiff(image[..., : len(kind) - (kind == "RGBIR")])
        if tile in (LABELLED_TILES if labelled is None else labelled):
            files[marks][f"top_potsdam_{tile}_label.tif"] = tiff(COLOUR_TABLE[truth])
    for folder, contents in files.items():
        if zipped:
            root.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(root / f"{folder}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in contents.items():
                    # Images lie in a folder of their archive, labels at its top.
                    archive.writestr(f"{folder}/{name}" if folder == images else name, data)
        else:
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name, data in contents.items():
                (root / folder / name).write_bytes(data)
    return made


def tiff(image, **profile) -> bytes:
    """An array (H, W, bands) as a TIFF."""
    image = image if image.ndim == 3 else image[..., None]
    height, width, count = image.shape
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=count, dtype=image.dtype.name, **profile
        ) as out:
            out.write(np.moveaxis(image, -1, 0))
        return memory.read()


def write_cocostuff(root, train=3, val=3, *, size=(48, 64), plain=False, seed=0) -> dict:
    """Images, annotations and curated lists; gives {part: {id: labels (H, W)}}.

    Args:
        plain: ``train2017`` and ``stuffthingmaps/train2017`` instead of ``images/...`` and ``annotations/...``.
    """
    root = Path(root)
    rng = np.random.default_rng(seed)
    made = {}
    lists = {"train2017": "Coco164kFull_Stuff_Coarse", "val2017": "Coco164kFull_Stuff_Coarse_7"}
    for part, count in (("train2017", train), ("val2017", val)):
        images = root / part if plain else root / "images" / part
        labels = root / ("stuffthingmaps" if plain else "annotations") / part
        curated = root / "curated" / part
        for folder in (images, labels, curated):
            folder.mkdir(parents=True, exist_ok=True)
        made[part] = {}
        for number in range(count):
            name = f"{number * 37 + 139:012}"
            # Portrait and landscape.
            height, width = size if number % 2 else size[::-1]
            fine = _fields(rng, height, width, [*range(182), 255])
            Image.fromarray(_picture(rng, fine, 3)).save(images / f"{name}.jpg", quality=92)
            Image.fromarray(fine).save(labels / f"{name}.png")
            made[part][name] = fine
        (curated / f"{lists[part]}.txt").write_text("".join(f"{n}\n" for n in made[part]))
    return made


def write_cityscapes(root, train=3, val=2, *, size=(32, 64), seed=0) -> dict:
    """``leftImg8bit`` and ``gtFine`` side by side; gives {part: {name: (image (H, W, 3), label ids (H, W))}}."""
    root = Path(root)
    rng = np.random.default_rng(seed)
    made = {}
    for part, count, cities in (("train", train, ("aachen", "bochum")), ("val", val, ("frankfurt",))):
        made[part] = {}
        for number in range(count):
            city = cities[number % len(cities)]
            name = f"{city}_{number:06}_000019"
            ids = _fields(rng, *size, [*range(34), 255])
            image = _picture(rng, ids, 3)
            for kind, pixels in (
                ("leftImg8bit", image),
                ("gtFine_labelIds", ids),
                ("gtFine_instanceIds", ids.astype(np.uint16) * 250),
                ("gtFine_color", image),
            ):
                folder = root / kind.split("_")[0] / part / city
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / f"{name}_{kind}.png")
            made[part][name] = image, ids
    return made


def write_voc(root, train=3, val=4, *, size=(48, 64), saliency=None, seed=0) -> dict:
    """``VOCdevkit/VOC2012`` as torchvision leaves it; gives {list: {id: (image (H, W, 3), labels (H, W))}}.

    Each image shows one object on the background, with the border that counts as nothing around it; where a folder for
    saliency maps is named, they show the objects.
    """
    root = Path(root) / "VOCdevkit" / "VOC2012"
    rng = np.random.default_rng(seed)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    palette = np.random.default_rng(1).integers(0, 256, 768, np.uint8).tolist()
    made = {}
    for name, count in (("train", train), ("val", val)):
        made[name] = {}
        for number in range(count):
            labels = np.zeros(size, np.uint8)
            row, col = (int(rng.integers(4, side // 2 - 4)) for side in size)
            rows, cols = slice(row, row + size[0] // 2), slice(col, col + size[1] // 2)
            labels[row - 2 : rows.stop + 2, col - 2 : cols.stop + 2] = 255
            labels[rows, cols] = 1 + number % 20
            image = _picture(rng, labels, 3)
            label = Image.fromarray(labels, "P")
            label.putpalette(palette)
            key = f"2007_{len(made) * 1000 + number:06}"
            Image.fromarray(image).save(root / "JPEGImages" / f"{key}.jpg", quality=100, subsampling=0)
            label.save(root / "SegmentationClass" / f"{key}.png")
            if saliency is not None:
                Path(saliency).mkdir(exist_ok=True)
                salient = np.where((labels > 0) & (labels < 255), 255, rng.integers(0, 100, size))
                Image.fromarray(salient.astype(np.uint8)).save(Path(saliency) / f"{key}.png")
            made[name][key] = image, labels
        (root / "ImageSets/Segmentation" / f"{name}.txt").write_text("".join(f"{key}\n" for key in made[name]))
    return made


def png(pixels) -> bytes:
    """An array as a PNG."""
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    return packed.getvalue()
