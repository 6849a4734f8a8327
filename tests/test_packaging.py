"""What is handed out: wheel and sdist are whole, and the files that describe geohp elsewhere agree with it."""

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from geohp.version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

_CONDA = {
    "torch": "pytorch",
    "dask": "dask-core",
    "geopandas": "geopandas-base",
    "matplotlib": "matplotlib-base",
}
"""Names on conda-forge that differ from those on PyPI."""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """A wheel built from an sdist of this tree, and that sdist."""
    missing = [name for name in ("build", "hatchling") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def _below(*folders: str) -> set[str]:
    files = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*")}
    return {name for name in files if (ROOT / name).is_file() and "__pycache__" not in name}


@pytest.mark.slow
@pytest.mark.cheap
def test_the_wheel_holds_every_file_of_the_package_and_the_configurations(distributions):
    with zipfile.ZipFile(distributions[0]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == _below("geohp") | {f"geohp/{name}" for name in _below("configs")}


@pytest.mark.slow
@pytest.mark.cheap
def test_the_sdist_holds_what_tests_and_plugin_need(distributions):
    with tarfile.open(distributions[1]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert _below("geohp", "configs", "tests", "qgis", "docs") <= names
    assert {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"} <= names


@pytest.mark.slow
@pytest.mark.cheap
def test_the_wheel_works_where_there_is_no_repository(distributions, tmp_path, write_scene, three_fields):
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(distributions[0]) as archive:
        archive.extractall(site)
    write_scene(three_fields, "work/scene.tif")

    def geohp(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "geohp", *arguments]
        env = {**os.environ, "PYTHONPATH": str(site)}
        process = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        return process.stdout

    shown = subprocess.run(
        [sys.executable, "-P", "-c", "import geohp; print(geohp.__file__)"],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert Path(shown.strip()).is_relative_to(site)
    assert "potsdam" in geohp("config", "potsdam3")
    settings = ["data.images=scene.tif", "data.patches=8", "data.patch_px=64", "classes.count=3"]
    geohp("train", "orthophotos", "--out", "run", *[word for text in settings for word in ("--set", text)])
    assert (work / "run" / "report.html").is_file()
    geohp("segment", "scene.tif", "-o", "labels.tif", "--model", "run", "--polygons", "landcover.gpkg", "--qml")
    assert {"labels.tif", "labels.qml", "landcover.gpkg"} <= {path.name for path in work.iterdir()}


def test_the_recipe_for_conda_has_the_dependencies_of_the_project():
    recipe = yaml.safe_load((ROOT / ".ci" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))
    wanted = {"python >=${{ python_min }}"}
    for requirement in PROJECT["dependencies"]:
        name, bounds = re.fullmatch(r"([A-Za-z0-9-]+)(.*)", requirement).groups()
        wanted.add(f"{_CONDA.get(name, name)} {bounds}".rstrip())
    assert set(recipe["requirements"]["run"]) == wanted
    assert recipe["context"]["version"] == __version__ == PROJECT["version"]
    assert f">={recipe['context']['python_min']}" == PROJECT["requires-python"]
    assert recipe["build"]["python"]["entry_points"] == [
        f"{name} = {place}" for name, place in PROJECT["scripts"].items()
    ]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (str(citation["version"]), citation["license"]) == (__version__, PROJECT["license"])
    assert citation["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]


def test_the_image_installs_torch_as_the_project_asks_for_it():
    dockerfile = (ROOT / ".ci" / "Dockerfile").read_text(encoding="utf-8")
    for requirement in PROJECT["dependencies"]:
        if requirement.startswith(("torch>", "torchvision>")):
            assert f'"{requirement}"' in dockerfile
    assert re.search(r"^USER (?!0$|root$)", dockerfile, re.MULTILINE)
