"""MaskContrast as a method like any other: trained, stopped and gone on with, swept, evaluated, and a map drawn."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from rasterio.transform import from_origin
from safetensors.torch import load_file

import geohp
from geohp.config.loading import load_config
from geohp.errors import ConfigError, DataError

COLOURS = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
SMALL = [
    "data.patches=24",
    "data.patch_px=64",
    "method.masks.segments=8",
    "method.code_channels=8",
    "method.queue_size=50",
    "classes.count=3",
    "train.epochs=2",
    "train.batch_size=4",
    "train.device=cpu",
    "train.checkpoint_minutes=0",
]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    """An orthophoto of square fields, their labels, and the fields as polygons."""
    folder = tmp_path_factory.mktemp("ground")
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 3, (6, 6))
    labels = kinds.repeat(40, 0).repeat(40, 1)
    pixels = np.clip(COLOURS[labels] + rng.normal(0, 10, (*labels.shape, 3)), 1, 255).astype(np.uint8)
    profile = {"driver": "GTiff", "width": 240, "height": 240, "dtype": "uint8", "crs": "EPSG:25833"}
    place = from_origin(400_000, 5_800_000, 1, 1)
    for name, bands in (("photo.tif", np.moveaxis(pixels, -1, 0)), ("classes.tif", labels[None].astype(np.uint8))):
        with rasterio.open(folder / name, "w", **profile, transform=place, count=len(bands)) as dataset:
            dataset.write(bands)
    fields = [
        shapely.box(400_000 + 40 * col, 5_800_000 - 40 * row - 40, 400_040 + 40 * col, 5_800_000 - 40 * row)
        for row in range(6)
        for col in range(6)
    ]
    geopandas.GeoDataFrame(geometry=fields[:30], crs="EPSG:25833").to_crs("EPSG:4326").to_file(folder / "fields.gpkg")
    return folder


class Stopped(BaseException):
    """What no code of ours catches."""


def train(ground, out, *overrides, stop_at=None, **options):
    def progress(stage, done, total, detail=""):
        if stage == "training" and done == stop_at:
            raise Stopped

    settings = [f"data.images={ground}/photo.tif", *SMALL, *overrides]
    return geohp.train("maskcontrast", settings, out=out, progress=progress, **options)


KINDS = {
    "polygons": ["data.mask_polygons={ground}/fields.gpkg", "method.masks.proposals=[data,affinities]"],
    "augmented": ["method.augmented_keys=true"],
    "anew": ["train.augment=[flip]", "data.mask_polygons={ground}/fields.gpkg", "method.masks.proposals=[data]"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_it_ends_at_the_same_weights(ground, tmp_path, kind):
    settings = [setting.format(ground=ground) for setting in KINDS[kind]]
    if kind == "polygons":
        settings += ["train.cache=disk", f"train.cache_dir={tmp_path / 'cache'}"]
    run = train(ground, tmp_path / "whole", *settings)
    with pytest.raises(Stopped):
        train(ground, tmp_path / "run", *settings, stop_at=8)
    again = geohp.train(resume=tmp_path / "run")
    first, second = load_file(run.model), load_file(again.model)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert "queue" not in " ".join(first)


def test_a_map_finds_the_fields(ground, tmp_path):
    run = train(
        ground,
        tmp_path / "run",
        f"data.mask_polygons={ground}/fields.gpkg",
        "method.masks.proposals=[data,superpixels]",
        f"data.labels={ground}/classes.tif",
        sweep="classes=2..4",
    )
    assert load_config(run.folder / "config.yaml").classes.count in (2, 3, 4)
    assert (run.folder / "report.html").is_file()
    header = (run.folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"contrastive", "masks", "masked_share", "negative_share"} <= set(header)
    (result,) = geohp.evaluate(run.folder).results
    assert result.scores["accuracy"] > 80
    labels = geohp.segment(ground / "photo.tif", run.folder)
    assert len(np.unique(labels)) == load_config(run.folder / "config.yaml").classes.count


def test_labels_held_out_teach_a_linear_probe(ground, tmp_path):
    run = train(
        ground,
        tmp_path / "run",
        f"data.labels={ground}/classes.tif",
        "data.split=block",
        "data.block_m=120",
        "data.patch_px=32",
        "train.score_every=1",
    )
    modes = {str(result.mode) for result in geohp.evaluate(run.folder).results}
    assert modes == {"cluster", "linear"}
    assert len((run.folder / "scores.csv").read_text().splitlines()) == 3


def test_what_cannot_be(ground, tmp_path):
    with pytest.raises(DataError, match=r"data\.mask_polygons"):
        train(ground, tmp_path / "run", "method.masks.proposals=[data]")
    with pytest.raises(ConfigError, match=r"method\.masks\.segments"):
        train(ground, tmp_path / "run", "method.masks.segments=1")
    with pytest.raises(ConfigError, match="did you mean 'proposals'"):
        train(ground, tmp_path / "run", "method.masks.proposal=[data]")
