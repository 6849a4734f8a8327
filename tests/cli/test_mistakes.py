"""Whatever is wrong with paths, outputs, options and configurations is found before torch is imported."""

import errno
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from geohp.cli import app as commands
from geohp.errors import GeohpError
from geohp.inference.segmenter import Segmenter
from geohp.model.file import save_model
from geohp.options import FitOptions
from geohp.raster.read.scene import open_scene

MISTAKES = {
    "no such scene": ("segment nowhere.tif -o a.tif", "nowhere.tif does not exist"),
    "not an image": ("segment notes.txt -o a.tif", "is not a raster"),
    "several scenes, one map": ("segment scene.tif scene2.tif -o a.tif", "give --out-dir FOLDER instead"),
    "no output": ("segment scene.tif", "no output: give --out"),
    "folder of the output": ("segment scene.tif -o no/a.tif", "does not exist; create it"),
    "output exists": ("segment scene.tif -o scene2.tif", "replace it with --overwrite"),
    "output is a picture": ("segment scene.tif -o a.jpg", "has the suffix '.jpg'"),
    "polygons are a picture": ("segment scene.tif -o a.tif --polygons a.png", "has the suffix '.png'"),
    "no such model": ("segment scene.tif -o a.tif --model nomodel", "no such model"),
    "model is none": ("segment scene.tif -o a.tif --model notes.txt", "not a readable safetensors file"),
    "model is a backbone": ("segment scene.tif -o a.tif --model weights.safetensors", "no geohp model card"),
    "model and classes": ("segment scene.tif -o a.tif --model model.safetensors --classes 4", "the model has its own"),
    "bands of the model": ("segment scene.tif -o a.tif --model model.safetensors --bands 1,2", "2 named"),
    "bands of the scene": ("segment scene.tif -o a.tif --classes 3 --bands 1,2,9", "9"),
    "bands of no figure": ("segment scene.tif -o a.tif --classes 3 --bands ²", 'has no band "²"'),
    "scaling": ("segment scene.tif -o a.tif --classes 3 --scaling brightest", "brightest"),
    "backbone": ("segment scene.tif -o a.tif --classes 3 --backbone vit_smal_patch8_224", "did you mean vit_small"),
    "weights without backbone": ("segment scene.tif -o a.tif --weights weights.safetensors", "with --backbone"),
    "no such weights": (
        "segment scene.tif -o a.tif --classes 3 --backbone vit_tiny_patch16_224 --weights no.pth",
        "no such weight file",
    ),
    "weights are none": (
        "segment scene.tif -o a.tif --classes 3 --backbone vit_tiny_patch16_224 --weights bad.pth",
        "damaged or not a weight file",
    ),
    "device": ("segment scene.tif -o a.tif --classes 3 --device gpu", "no such kind of device"),
    "legend": ("segment scene.tif -o a.tif --model model.safetensors --legend legend.yaml", "names label 7"),
    "polygons of no size": ("segment scene.tif -o a.tif --classes 3 --min-area inf", "--min-area: inf is no size"),
    "product": ("segment scene.tif --out-dir maps --classes 3 --products heights", "'heights' is none"),
    "folder of other maps": ("segment scene.tif --out-dir others --classes 3", "exists already"),
    "date without an item": ("segment scene.tif -o a.tif --classes 3 --datetime 2024-07-31", "is for STAC Items"),
    "no such area": ("segment scene.tif -o a.tif --classes 3 --aoi nowhere.gpkg", "nowhere.gpkg: no such file"),
    "cropped to nothing": ("segment scene.tif -o a.tif --classes 3 --crop", "--crop: is for an area of interest"),
    "no area to train in": ("train orthophotos --set data.images=scene.tif --aoi nowhere.gpkg", "no such file"),
    "second date": ("change scene.tif nowhere.tif -o a.tif", "nowhere.tif"),
    "one date": ("change scene.tif scene.tif -o a.tif", "is both dates"),
    "change is a picture": ("change scene.tif scene2.tif -o a.png", "has the suffix '.png'"),
    "model of the dates": ("change scene.tif scene2.tif -o a.tif --model nomodel", "no such model"),
    "no configuration": ("train nowhere.yaml", "no such configuration file"),
    "key": ("train orthophotos --set train.epoch=3", "did you mean 'epochs'"),
    "value": ("train orthophotos --set data.images=scene.tif --set train.batch_size=many", "train.batch_size"),
    "no images": ("train orthophotos --set data.images=nowhere/", "no images there"),
    "no benchmark": ("train potsdam3 --set data.root=nowhere", "nowhere"),
    "run folder": ("train orthophotos --set data.images=scene.tif --out others", "exists already"),
    "nothing to resume": ("train --resume others", "no unfinished run there"),
    "backbone to train": (
        "train orthophotos --set data.images=scene.tif --set backbone.name=vit_smal_patch8_224",
        "did you mean vit_small",
    ),
    "sweep": ("train orthophotos --set data.images=scene.tif --sweep classes=9..3", "holds no number"),
    "band to train": ("train orthophotos --set data.images=scene.tif --set data.bands=[1,2,9]", "9"),
    "no model to evaluate": ("evaluate --model nomodel", "no such model"),
    "data to evaluate on": ("evaluate --model model.safetensors --data nowhere.yaml", "no such configuration file"),
    "labels to evaluate on": ("evaluate --model model.safetensors --data own.yaml", "no labels"),
    "report": ("evaluate --model model.safetensors --report others", "is no report of an evaluation"),
    "labels": ("polygonize nowhere.tif -o a.gpkg", "nowhere.tif"),
    "style of a model": (
        "recode model.safetensors --legend legend.yaml -o b.safetensors --qml",
        "is for label rasters",
    ),
    "weights of a map": (
        "recode scene.tif --legend legend.yaml -o b.tif --weights bad.pth",
        "--weights: is for models",
    ),
    "legend to recode": ("recode model.safetensors --legend legend.yaml -o b.safetensors", "names label 7"),
    "map to view": ("view nowhere.tif --scene scene.tif", "nowhere.tif does not exist"),
    "scene to view": ("view scene2.tif --scene nowhere.tif", "nowhere.tif does not exist"),
    "page": ("view scene2.tif --scene scene.tif -o page.pdf", "has the suffix '.pdf'"),
    "no map to view": ("view scene2.tif --scene scene.tif", "has 3 bands"),
    "model to probe": ("probe nomodel scene.tif --reference scene2.tif -o b.safetensors", "no such model"),
    "scene to probe on": ("probe model.safetensors no/*.tif --reference scene2.tif -o b.safetensors", "no/*.tif"),
    "reference of a probe": ("probe model.safetensors scene.tif --reference no.gpkg -o b.safetensors", "no such file"),
    "probed model": ("probe model.safetensors scene.tif --reference scene2.tif -o b.tif", "has the suffix '.tif'"),
    "probe of nothing": ("probe --backbone rcf scene.tif --reference no.gpkg -o b.safetensors", "no.gpkg"),
    "checkpoint": ("import-checkpoint nowhere.pth -o b.safetensors", "no such checkpoint"),
}

# All in one process, which must not have imported torch at the end of any.
RUN = """
import json, sys
from typer.testing import CliRunner
from geohp.cli.app import app
from geohp.cli.terminal import flag
results = {}
for name, command in json.load(sys.stdin).items():
    result = CliRunner().invoke(app, command.split())
    error = result.exception
    said = error.render(flag) if hasattr(error, "render") else f"{type(error).__name__}: {error} {result.output}"
    results[name] = said, [module for module in ("torch", "timm", "lightning") if module in sys.modules]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    import rasterio

    folder = tmp_path_factory.mktemp("mistakes")
    values = np.random.default_rng(1).integers(0, 255, (3, 64, 64), np.uint8)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    for name in ("scene.tif", "scene2.tif"):
        with rasterio.open(
            folder / name, "w", transform=rasterio.transform.from_origin(0, 0, 1, 1), **profile
        ) as dataset:
            dataset.write(values)
    with open_scene(folder / "scene.tif") as scene:
        save_model(Segmenter.fit(scene, FitOptions(classes=3), device="cpu").model, folder / "model.safetensors")
    save_file({"a": torch.zeros(2)}, folder / "weights.safetensors")
    (folder / "notes.txt").write_text("nothing of use")
    (folder / "bad.pth").write_text("<html>404</html>")
    (folder / "legend.yaml").write_text("7: water\n")
    (folder / "own.yaml").write_text("name: own\ndata: {source: orthophotos, images: [scene.tif]}\n")
    (folder / "others").mkdir()
    (folder / "others" / "scene.tif").write_bytes((folder / "scene.tif").read_bytes())
    return folder


@pytest.fixture(scope="module")
def answers(workplace):
    commands = {name: command for name, (command, _) in MISTAKES.items()}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        cwd=workplace,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_without_torch(name, answers):
    said, heavy = answers[name]
    assert MISTAKES[name][1] in said
    assert heavy == []


def test_a_corrupt_file_names_what_maps_the_rest(workplace):
    """Compressed, and cut off in the middle."""
    import rasterio

    path = workplace / "cut.tif"
    with rasterio.open(workplace / "scene.tif") as scene:
        profile = {**scene.profile, "compress": "deflate", "tiled": False, "blockysize": 8}
        values = scene.read()
    with rasterio.open(path, "w", **profile) as out:
        out.write(values)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    command = [sys.executable, "-m", "geohp", "segment", "cut.tif", "--classes", "3"]
    done = subprocess.run([*command, "-o", "a.tif"], capture_output=True, text=True, cwd=workplace, check=False)
    assert done.returncode == 2
    assert "geohp: the rest of the scene can be mapped with --on-read-error nodata" in done.stderr.splitlines()
    many = subprocess.run(
        [*command[:-2], "--out-dir", "m", "--model", "model.safetensors"],
        capture_output=True,
        text=True,
        cwd=workplace,
        check=False,
    )
    assert many.returncode == 2
    assert "with --on-read-error nodata" in many.stderr.splitlines()[-1]
    mapped = subprocess.run([*command, "-o", "a.tif", "--on-read-error", "nodata"], cwd=workplace, check=False)
    assert mapped.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps the folder that one is in")
@pytest.mark.parametrize("command", ["segment a.tif -o b.tif", "polygonize a.tif -o b.gpkg", "info a.tif", "doctor"])
def test_a_working_folder_that_was_removed_is_a_sentence(command, tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    error = CliRunner().invoke(commands.app, command.split()).exception
    assert isinstance(error, GeohpError)
    assert str(error) == "the folder that you are in is not there any more; change to one that is (cd)"


@pytest.mark.parametrize(
    ("fill_it", "says"),
    [
        (lambda: _raise(MemoryError("Unable to allocate 3.2 TiB")), " (Unable to allocate 3.2 TiB)"),
        (lambda: torch.empty(10**15), " (4,000,000.0 GB were asked for at once)"),
        (lambda: _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to")), " (CUDA out of memory. Tried to)"),
        (lambda: _raise(OSError(errno.ENOMEM, "Cannot allocate memory")), " ([Errno 12] Cannot allocate memory)"),
        (lambda: _raise(MemoryError()), ""),
    ],
)
def test_memory_that_does_not_suffice_is_a_sentence(monkeypatch, capsys, fill_it, says):
    def run():
        try:
            fill_it()
        except Exception as error:
            error.add_note("3 finished block(s) are kept")
            raise

    monkeypatch.setattr(commands, "app", run)
    monkeypatch.setattr(commands.terminal, "show_log", lambda: None)
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit, match="2"):
        commands.main()
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"geohp: error: the memory does not suffice{says}; use less at once: a smaller --window")
    assert said[1:] == ["geohp: 3 finished block(s) are kept"]


def test_what_nobody_foresaw_is_no_sentence(monkeypatch):
    monkeypatch.setattr(commands, "app", lambda: _raise(RuntimeError("a bug")))
    monkeypatch.setattr(commands.terminal, "show_log", lambda: None)
    monkeypatch.setattr(commands.signal, "signal", lambda *_: None)
    with pytest.raises(RuntimeError, match="a bug"):
        commands.main()


def _raise(error):
    raise error
