"""The zip of the QGIS plugin, and that its sources are for the oldest Python that QGIS 3.22 brings."""

import ast
import configparser
import os
import runpy
import zipfile
from pathlib import Path

import pytest
import typer

from geohp.cli.app import app
from geohp.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "qgis" / "geohp_processing"


@pytest.fixture(scope="module")
def building():
    return runpy.run_path(str(ROOT / "qgis" / "build.py"))


def test_the_zip_is_what_qgis_installs_and_the_same_each_time(building, tmp_path):
    first, second = building["build"](tmp_path / "a"), building["build"](tmp_path / "b")
    assert first.name == f"geohp_processing-{__version__}.zip"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        assert archive.read("geohp_processing/LICENSE") == (ROOT / "LICENSE").read_bytes()
    wanted = {"__init__.py", "algorithms.py", "base.py", "command.py", "provider.py", "metadata.txt", "LICENSE"}
    assert {f"geohp_processing/{name}" for name in wanted} <= names
    assert all(name.startswith("geohp_processing/") and "__pycache__" not in name for name in names)


def test_a_touched_file_gives_the_same_zip(building, tmp_path):
    before = building["build"](tmp_path).read_bytes()
    os.utime(PLUGIN / "command.py")
    assert building["build"](tmp_path).read_bytes() == before


def test_the_plugin_has_the_version_of_geohp_and_is_a_provider():
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(PLUGIN / "metadata.txt", encoding="utf-8")
    general = metadata["general"]
    assert general["version"] == __version__
    assert (general["qgisMinimumVersion"], general["hasProcessingProvider"]) == ("3.22", "yes")


def test_what_plugins_qgis_org_wants_is_added(building, tmp_path):
    target = building["build"](tmp_path, repository="https://example.org/geohp/", email="us@example.org")
    with zipfile.ZipFile(target) as archive:
        text = archive.read("geohp_processing/metadata.txt").decode()
    assert "tracker=https://example.org/geohp/issues\n" in text
    with pytest.raises(building["MetadataError"], match="lacks email"):
        building["build"](tmp_path, repository="https://example.org/geohp")


@pytest.mark.parametrize(
    ("line", "by", "problem"),
    [
        ("description=", "description=", None),
        ("version=0.1.0", "version=new", "version is 'new'"),
        ("qgisMinimumVersion=3.22", "", "lacks qgisMinimumVersion"),
        ("icon=icon.png", "icon=none.png", "no icon 'none.png'"),
        ("homepage=https", "homepage=ftp", "homepage is 'ftp:"),
    ],
)
def test_metadata_are_checked(building, line, by, problem):
    text = (PLUGIN / "metadata.txt").read_text(encoding="utf-8")
    assert line in text
    changed = text.replace(line, by)
    if problem is None:
        assert building["check_metadata"](changed) == __version__
        return
    with pytest.raises(building["MetadataError"], match=problem):
        building["check_metadata"](changed)


@pytest.mark.parametrize("path", sorted(PLUGIN.glob("*.py")), ids=lambda path: path.name)
def test_sources_are_for_python_3_9_and_import_nothing_of_the_other_environment(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imports = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imports |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 0}
    assert not {name.split(".")[0] for name in imports} & {"geohp", "torch", "numpy", "rasterio"}


def test_every_option_that_a_dialog_passes_on_is_one_of_its_command():
    """An algorithm has the flags of its class, of the classes above it, and of the functions that these call."""
    tree = ast.parse((PLUGIN / "algorithms.py").read_text(encoding="utf-8"))
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    commands = typer.main.get_command(app).commands

    def flags(node):
        nodes = list(ast.walk(node))
        own = {str(entry.value) for entry in nodes if isinstance(entry, ast.Constant)}
        named = {entry.id for entry in nodes if isinstance(entry, ast.Name)} & set(defined)
        return {text for text in own if text.startswith("--")}.union(*(flags(defined[name]) for name in named))

    checked = 0
    for node in defined.values():
        constants = [
            line.value for line in node.body if isinstance(line, ast.Assign) and line.targets[0].id == "COMMAND"
        ]
        for constant in constants:
            options = {option for parameter in commands[constant.value].params for option in parameter.opts}
            assert flags(node) <= options, node.name
            checked += 1
    assert checked == 7
