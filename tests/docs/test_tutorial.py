"""The tutorial runs as it stands: its commands and its Python, on a smaller town and with fewer patches."""

import os
import re
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio

from geohp.demo.town.drawing import draw_orthophoto
from geohp.demo.town.geotiff import write_orthophoto

ROOT = Path(__file__).parents[2]
QUICKSTART = "geohp quickstart --out demo"
FEWER = {"data.patches=100": "data.patches=8"}


def blocks(language):
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    for many, few in FEWER.items():
        assert many in text
        text = text.replace(many, few)
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL))


def run(command, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    demo, tiles, maps = (tmp_path / name for name in ("demo", "tiles", "maps"))
    demo.mkdir()
    write_orthophoto(draw_orthophoto(400, 400, seed=3), demo / "scene.tif", demo / "truth.tif")
    commands = blocks("sh")
    assert QUICKSTART in commands
    geohp = f'geohp() {{ "{sys.executable}" -m geohp "$@"; }}'
    run(["bash", "-ec", f"{geohp}\n{commands.replace(QUICKSTART, 'true')}"], tmp_path)
    run([sys.executable, "-c", blocks("python")], tmp_path)
    named, known = (set(gpd.read_file(tmp_path / f"{name}.gpkg")["class_name"]) for name in ("named", "known"))
    assert named & known
    assert (tmp_path / "runs" / "town" / "report.html").is_file()
    assert (maps / "town.qml").is_file()
    with rasterio.open(maps / "mosaic.vrt") as mosaic, rasterio.open(tiles / "town.tif") as town:
        assert mosaic.transform == town.transform
