"""The method core stands on torch and timm alone; training adds Lightning, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

ABSENT = [
    "pydantic",
    "typer",
    "rich",
    "rasterio",
    "rioxarray",
    "geopandas",
    "pandas",
    "shapely",
    "pyproj",
    "pyogrio",
    "xarray",
    "dask",
    "torchgeo",
    "torchmetrics",
    "scipy",
    "matplotlib",
]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (
            "geohp.methods.factory, geohp.methods.hp.method, geohp.methods.stego.method, "
            "geohp.methods.raw_features.method, geohp.methods.probes, geohp.backbones.factory",
            [*ABSENT, "lightning"],
        ),
        ("geohp.methods.factory, geohp.methods.hp.settings", ["torch", "timm", *ABSENT]),
        ("geohp.config.loading", ["torch", "timm", "lightning", "rasterio"]),
        ("geohp.training.task, geohp.features.sampler", [m for m in ABSENT if m.startswith(("raster", "geo", "pyd"))]),
    ],
)
def test_it_imports_where_nothing_else_is_installed(modules, absent):
    code = f"import sys\nfor name in {absent}: sys.modules[name] = None\nimport {modules}"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
