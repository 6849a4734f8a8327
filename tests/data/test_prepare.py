"""Preparing once: the same items as on the fly, taken up again, and never mixed up."""

import json
import os
from pathlib import Path

import layouts
import pytest
import torch

from geohp.config.data import PotsdamConfig
from geohp.config.loading import parse_config
from geohp.data.base import EvaluationProtocol
from geohp.data.benchmarks.folders import MANIFEST
from geohp.data.benchmarks.photograph_source import PhotographSource
from geohp.data.benchmarks.potsdam import Potsdam
from geohp.data.benchmarks.potsdam_tiles import LABELLED_TILES, TILES
from geohp.data.factory import open_data
from geohp.data.prepare import prepare
from geohp.errors import ChangedError, DataError, OutputError

WRITERS = {"cocostuff": "write_cocostuff", "cityscapes": "write_cityscapes"}


@pytest.fixture(params=WRITERS)
def photographs(request, tmp_path):
    """A configuration of a data set of photographs."""
    getattr(layouts, WRITERS[request.param])(tmp_path / "data")
    return {"source": request.param, "root": str(tmp_path / "data"), "input_px": 32}


def experiment(**data):
    return parse_config({"data": data})


def same(one, other):
    assert len(one) == len(other)
    for index in range(len(one)):
        a, b = one[index], other[index]
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    return True


def test_prepared_crops_are_those_made_on_the_fly(photographs, tmp_path):
    told = []
    result = prepare(experiment(**photographs), tmp_path / "crops", progress=lambda *a: told.append(a))
    assert (result.written, result.existing) == (15, 0)
    assert told[-1] == ("cutting photographs", 3, 3)
    assert f"15 crops in {tmp_path / 'crops'}" in result.report()
    assert result.setting == f"data.prepared={tmp_path / 'crops'}"
    on_the_fly = open_data(experiment(**photographs).data).training()
    prepared = open_data(experiment(**photographs, prepared=str(tmp_path / "crops")).data).training()
    assert same(on_the_fly, prepared)
    assert not list((tmp_path / "crops").rglob("*.tmp"))


def test_jpeg_crops_keep_the_labels(photographs, tmp_path):
    prepare(experiment(**photographs), tmp_path / "crops", jpeg_quality=75)
    on_the_fly = open_data(experiment(**photographs).data).training()
    prepared = open_data(experiment(**photographs, prepared=str(tmp_path / "crops")).data).training()
    assert all(torch.equal(on_the_fly[i]["mask"], prepared[i]["mask"]) for i in range(15))
    assert not torch.equal(on_the_fly[0]["image"], prepared[0]["image"])
    assert len(list((tmp_path / "crops" / "images").glob("*.jpg"))) == 15
    with pytest.raises(OutputError, match="prepared with images = jpeg 75 where now it is png"):
        prepare(experiment(**photographs), tmp_path / "crops")
    with pytest.raises(DataError, match="JPEG quality of 0"):
        prepare(experiment(**photographs), tmp_path / "other", jpeg_quality=0)


def test_jpeg_crops_are_of_the_quality_asked_for(photographs, tmp_path):
    sizes = []
    for quality in (10, 95):
        prepare(experiment(**photographs), tmp_path / str(quality), jpeg_quality=quality)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / str(quality) / "images").iterdir()))
    assert sizes[0] < 0.9 * sizes[1]


def test_what_is_there_is_not_made_again(photographs, tmp_path):
    out = tmp_path / "crops"
    prepare(experiment(**photographs), out)
    before = {p: p.read_bytes() for p in out.rglob("*.png")}
    lost = sorted(out.glob("labels/*.png"))[7]
    lost.unlink()
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.png") if lost.stem[:-2] not in p.name}
    result = prepare(experiment(**photographs), out)
    assert (result.written, result.existing) == (5, 10)
    assert "10 of them were there already" in result.report()
    assert {p: p.read_bytes() for p in out.rglob("*.png")} == before
    assert all(p.stat().st_mtime_ns == t for p, t in times.items())


def test_an_interrupted_preparation_is_told_and_gone_on_with(photographs, tmp_path):
    def stop(_, done, __):
        if done == 2:
            raise KeyboardInterrupt

    out = tmp_path / "crops"
    with pytest.raises(KeyboardInterrupt):
        prepare(experiment(**photographs), out, progress=stop, workers=1)
    with pytest.raises(DataError, match="is unfinished; run the same geohp prepare again"):
        open_data(experiment(**photographs, prepared=str(out)).data).training()
    result = prepare(experiment(**photographs), out)
    assert result.existing >= 10
    assert result.existing + result.written == 15
    assert len(open_data(experiment(**photographs, prepared=str(out)).data).training()) == 15


def test_another_preparation_or_other_files_are_not_touched(photographs, tmp_path):
    prepare(experiment(**photographs), tmp_path / "crops")
    with pytest.raises(OutputError, match=r"prepared with crop_ratio = 0.5 where now it is 0.75"):
        prepare(experiment(**photographs, crop_ratio=0.75), tmp_path / "crops")
    with pytest.raises(DataError, match=r"prepared with crop_ratio = 0.5 where the configuration means 0.75"):
        open_data(experiment(**photographs, crop_ratio=0.75, prepared=str(tmp_path / "crops")).data).training()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="holds other files already"):
        prepare(experiment(**photographs), tmp_path / "mine")
    with pytest.raises(DataError, match="holds no prepared crops"):
        open_data(experiment(**photographs, prepared=str(tmp_path / "mine")).data).training()


def test_crops_of_another_list_are_refused(tmp_path):
    layouts.write_cocostuff(tmp_path / "data")
    data = {"source": "cocostuff", "root": str(tmp_path / "data")}
    prepare(experiment(**data), tmp_path / "crops")
    path = tmp_path / "data" / "curated" / "train2017" / "Coco164kFull_Stuff_Coarse.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))
    with pytest.raises(DataError, match="prepared with names_sha256"):
        open_data(experiment(**data, prepared=str(tmp_path / "crops")).data).training()


def test_crops_that_went_missing_are_named(photographs, tmp_path):
    prepare(experiment(**photographs), tmp_path / "crops")
    lost = sorted((tmp_path / "crops" / "images").iterdir())[3]
    lost.unlink()
    with pytest.raises(DataError, match=rf"images: 1 of 15 image files are missing \({lost.stem}\)"):
        open_data(experiment(**photographs, prepared=str(tmp_path / "crops")).data).training()


def test_the_manifest_says_what_it_is(photographs, tmp_path):
    prepare(experiment(**photographs), tmp_path / "crops")
    manifest = json.loads((tmp_path / "crops" / MANIFEST).read_text())
    assert manifest["dataset"] == {"cocostuff": "cocostuff-27", "cityscapes": "cityscapes-27"}[photographs["source"]]
    assert (manifest["photographs"], manifest["crop_ratio"], manifest["images"]) == (3, 0.5, "png")
    assert manifest["complete"] is True
    (tmp_path / "crops" / MANIFEST).write_text("{")
    with pytest.raises(DataError, match=f"{MANIFEST}: cannot be read"):
        open_data(experiment(**photographs, prepared=str(tmp_path / "crops")).data).training()


def test_photographs_that_cannot_be_read_end_it(tmp_path):
    made = layouts.write_cityscapes(tmp_path / "data")
    name = sorted(made["train"])[1]
    path = next((tmp_path / "data" / "leftImg8bit").rglob(f"{name}_*"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{name}_leftImg8bit.png: cannot be decoded"):
        prepare(experiment(source="cityscapes", root=str(tmp_path / "data")), tmp_path / "crops")


@pytest.mark.parametrize("tiles", [TILES, LABELLED_TILES], ids=["all 38", "the 24 with labels"])
def test_prepared_tiles_are_patches_like_the_published_ones(tmp_path, monkeypatch, tiles):
    layouts.write_potsdam_tiles(tmp_path / "isprs", tiles)
    settings = {"source": "potsdam", "root": str(tmp_path / "isprs"), "split_seed": 2, "bands": ["nir", "red", "green"]}
    direct = Potsdam(PotsdamConfig(**settings), tile_px=400)
    out = tmp_path / "patches"
    assert direct.prepare(out) == (len(tiles), 0)
    (out / "gt" / f"{LABELLED_TILES[3]}_00_00.mat").unlink()
    assert direct.prepare(out) == (1, len(tiles) - 1)
    prepared = Potsdam(PotsdamConfig(**{**settings, "root": str(out), "split_seed": 0}))
    assert same(direct.training(), prepared.training())
    assert same(direct.evaluation(), prepared.evaluation())
    assert prepared.protocol == direct.protocol
    assert not prepared.protocol.same
    assert "seed 2" in prepared.protocol.text
    everything = (
        Potsdam(PotsdamConfig(**{**settings, "root": str(out), "train_split": "all"})) if tiles is TILES else None
    )
    assert everything is None or len(everything.training()) == 38
    assert (out / "all.txt").exists() == (tiles is TILES)
    with pytest.raises(OutputError, match="prepared with split_seed = 2 where now it is 5"):
        Potsdam(PotsdamConfig(**{**settings, "split_seed": 5}), tile_px=400).prepare(out)
    with pytest.raises(DataError, match="holds prepared patches already"):
        prepared.prepare(tmp_path / "again")
    with pytest.raises(DataError, match="jpeg_quality=: is for crops of photographs"):
        prepare(experiment(**settings), tmp_path / "again", jpeg_quality=75)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.utime(path, ns=(1, 1))])
@pytest.mark.parametrize("kind", ["RGBIR", "label"])
def test_of_a_tile_that_changes_while_it_is_cut_no_patch_stays(tmp_path, change, kind):
    first = LABELLED_TILES[0]
    layouts.write_potsdam_tiles(tmp_path / "isprs", LABELLED_TILES, tile_px=800)
    (tile,) = (tmp_path / "isprs").rglob(f"top_potsdam_{first}_{kind}.tif")
    config, out = PotsdamConfig(source="potsdam", root=str(tmp_path / "isprs")), tmp_path / "patches"

    def progress(stage, done, total, detail=""):
        if done == 3:  # of four
            change(tile)

    with pytest.raises(ChangedError, match=rf"a tile has changed while it was read \(.*{first}_{kind}\.tif\)"):
        Potsdam(config, tile_px=800).prepare(out, progress)
    assert not list(out.rglob("*.mat"))
    if tile.exists():
        assert Potsdam(config, tile_px=800).prepare(out) == (4 * len(LABELLED_TILES), 0)


def test_an_unfinished_folder_of_patches_is_told(tmp_path):
    def stop(_, done, __):
        if done == 5:
            raise KeyboardInterrupt

    layouts.write_potsdam_tiles(tmp_path / "isprs")
    source = Potsdam(PotsdamConfig(source="potsdam", root=str(tmp_path / "isprs")), tile_px=400)
    with pytest.raises(KeyboardInterrupt):
        source.prepare(tmp_path / "patches", stop)
    with pytest.raises(DataError, match="is unfinished"):
        Potsdam(PotsdamConfig(source="potsdam", root=str(tmp_path / "patches")))
    assert source.prepare(tmp_path / "patches") == (19, 5)


def test_what_needs_no_preparation(tmp_path):
    with pytest.raises(DataError, match=r"data.source = orthophotos: needs no preparation"):
        prepare(experiment(images=["a.tif"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_asked_for_reaches_what_cuts(tmp_path, monkeypatch):
    asked = {}

    class Cut(PhotographSource):
        protocol = EvaluationProtocol(None, same=True, text="As published.")

        def __init__(self, config):
            asked["root"] = config.root

        names = photographs = None

        def prepare(self, out, **options):
            asked.update(options, out=out)
            return 0, 0

    monkeypatch.setattr("geohp.data.prepare.open_data", lambda config, seed: Cut(config))
    out = tmp_path / "crops"
    prepare("cocostuff27", out, ["data.root=there"], print, jpeg_quality=80, workers=3)
    assert asked == {"root": "there", "out": out, "jpeg_quality": 80, "workers": 3, "progress": print}
