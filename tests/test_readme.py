"""The README runs from top to bottom: its commands and its Python, as they stand, one by one in a fresh folder.

What a user brings along is made here (small scenes, reference polygons, weights as other projects lay them out), and
settings that make a training small are added behind the command. Installing is what CI does by the README's own words.
"""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import geopandas
import matplotlib
import numpy as np
import pytest
import rasterio
import typer
from layouts import write_potsdam_patches
from rasterio.transform import from_origin
from shapely import box
from typer.testing import CliRunner

from geohp.cli.app import app

matplotlib.use("Agg")

README = Path(__file__).parents[1] / "README.md"
INSTALLING = ("python3 -m venv", ".venv/bin/pip ", ".venv/bin/pytest")
SMALL = [
    "train.batch_size=2", "data.patches=8", "data.patch_px=64", "train.device=cpu",
]  # fmt: skip
"""Behind every training on one's own imagery."""
SMALL_HP = [*SMALL, "train.epochs=1", "method.pool_size=8", "method.code_channels=8", "method.warmup_steps=1"]
"""Behind that by HP."""
SMALL_BENCHMARK = [
    "train.epochs=1",
    "train.batch_size=4",
    "data.input_px=64",
    "backbone.name=rcf",
    "method.pool_size=8",
]
"""Behind the benchmark's: its transformer would have to be downloaded."""
SIDE_PX = 200


def blocks():
    """Language and text of each block, from top to bottom."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(text):
    """The lines of a block that call geohp, as lists of words; others must be known to install something."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        for part in map(str.strip, line.split(" && ")):
            if part.startswith(INSTALLING):
                continue
            first, *words = shlex.split(part, comments=True)
            assert first.removeprefix(".venv/bin/") == "geohp", f"{part}: neither installs nor calls geohp"
            yield words


ALL = [words for language, text in blocks() if language == "sh" for words in commands(text)]


def test_there_is_something_to_check():
    assert len(ALL) > 15
    assert {"quickstart", "segment", "train", "legend", "probe", "evaluate", "import-checkpoint"} <= {w[0] for w in ALL}
    assert sum(language == "python" for language, _ in blocks()) >= 1


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_option_exists(words):
    command = typer.main.get_command(app).commands[words[0]]
    command.make_context(words[0], words[1:])


@pytest.mark.slow
@pytest.mark.cheap
def test_every_block_runs_on_what_the_earlier_ones_made(tmp_path, monkeypatch):
    pytest.importorskip("folium", reason="what README installs for notebooks is not there")
    bring_along(tmp_path)
    monkeypatch.chdir(tmp_path)
    for language, text in blocks():
        if language == "python":
            exec(compile(text, str(README), "exec"), {})
            continue
        for words in commands(text):
            if words[0] != "quickstart":  # tests/demo runs it
                done = CliRunner().invoke(app, [*words, *small(words)])
                assert done.exit_code == 0, f"geohp {shlex.join(words)}: {done.exception!r}\n{done.output}"
    made = {path.name for path in tmp_path.iterdir()}
    assert {"landcover.gpkg", "better.gpkg", "legend.yaml", "named.tif", "taught.tif", "maps", "notebook.tif"} <= made
    assert (tmp_path / "report" / "index.html").is_file()


def small(words):
    """What makes a command small, as its last words."""
    if words[0] != "train":
        return []
    settings = {"potsdam3.yaml": SMALL_BENCHMARK, "orthophotos-hp.yaml": SMALL_HP}.get(words[1], SMALL)
    return [word for setting in settings for word in ("--set", setting)]


def bring_along(folder):
    """The files that the README takes for granted."""
    write_scene(folder / "scene.tif")
    for place, names in (("my_tiles", "ab"), ("tiles", "cd"), ("labelled", "ef")):
        (folder / place).mkdir()
        for name in names:
            write_scene(folder / place / f"{name}.tif", seed=ord(name))
    for name in "ef":
        write_raster(folder / "labelled" / f"{name}_labels.tif", fields()[None].astype(np.uint8))
    write_raster(folder / "dsm.tif", np.random.default_rng(0).normal(100, 5, (1, SIDE_PX, SIDE_PX)).astype(np.float32))
    stripes = [box(380000 + 5 + 33 * n, 5799910, 380000 + 28 + 33 * n, 5799990) for n in range(3)]
    known = [piece for stripe in stripes for piece in split(stripe)]
    uses = [use for use in ("meadow", "road", "field") for _ in range(8)]
    geopandas.GeoDataFrame({"landuse": uses}, geometry=known, crs="EPSG:32633").to_file(folder / "known.gpkg")
    write_potsdam_patches(folder / "potsdam")
    write_weights(folder)


def fields():
    """(rows, cols): three stripes."""
    return np.minimum(np.arange(SIDE_PX) // 67, 2)[None].repeat(SIDE_PX, 0)


def split(stripe):
    """Eight polygons out of one."""
    left, bottom, right, top = stripe.bounds
    edges = np.linspace(bottom, top, 9)
    return [box(left, low, right, high - 1) for low, high in pairwise(edges)]


def write_scene(path, seed=0):
    colours = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])[fields()].transpose(2, 0, 1)
    noise = np.random.default_rng(seed).normal(0, 12, colours.shape)
    write_raster(path, np.clip(colours + noise, 1, 255).astype(np.uint8))


def write_raster(path, data):
    place = {"crs": "EPSG:32633", "transform": from_origin(380000, 5800000, 0.5, 0.5)}
    size = dict(zip(("count", "height", "width"), data.shape, strict=True))
    with rasterio.open(path, "w", driver="GTiff", dtype=data.dtype, **size, **place) as dataset:
        dataset.write(data)


def write_weights(folder):
    """Random weights under the names of DINO, DINOv2, and of a checkpoint of HP's."""
    import timm
    import torch
    from safetensors.torch import save_file

    size = {"num_classes": 0}
    save_file(timm.create_model("vit_small_patch14_dinov2", **size).state_dict(), folder / "vits14.safetensors")
    dino = timm.create_model("vit_small_patch8_224", **size).state_dict()
    torch.save(dino, folder / "dino_deitsmall8_pretrain.pth")
    vit = timm.create_model("vit_tiny_patch16_224", **size).state_dict()
    wide, codes = 192, 8
    shapes = {"cluster1.0": (codes, wide), "cluster2.0": (wide, wide), "cluster2.2": (codes, wide)}
    net = {f"model.{name}": tensor for name, tensor in vit.items()}
    for name, (out, into) in shapes.items():
        net |= {f"{name}.weight": torch.randn(out, into, 1, 1), f"{name}.bias": torch.randn(out)}
    checkpoint = {
        "net_model_state_dict": net,
        "linear_model_state_dict": {"weight": torch.randn(3, codes, 1, 1), "bias": torch.randn(3)},
        "cluster_model_state_dict": {"clusters": torch.randn(3, codes)},
    }
    torch.save(checkpoint, folder / "ckpt.pth")
