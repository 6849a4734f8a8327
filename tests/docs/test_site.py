"""The documentation site: every page is in its navigation, and what the code writes of itself is complete."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

import geohp
from geohp.cli.app import app
from geohp.config.data import DATA_SOURCES
from geohp.config.experiment import Config
from geohp.methods.factory import METHODS

ROOT = Path(__file__).parents[2]
pytest.importorskip("mkdocs", reason="the site's packages are in the extra geohp[docs]")


@pytest.fixture(scope="module", autouse=True)
def docs_on_path():
    sys.path.insert(0, str(ROOT / "docs"))
    yield
    sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def reference(docs_on_path):
    return importlib.import_module("site_reference")


def navigated(nav):
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from navigated(entry)


def test_every_page_is_in_the_navigation_once():
    from mkdocs.config import load_config

    hooks = importlib.import_module("site_hooks")
    config = load_config(str(ROOT / "mkdocs.yml"))
    adopted = {page for source, page in hooks.ADOPTED.items() if (ROOT / source).is_file() and page.endswith(".md")}
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} | adopted | set(hooks.GENERATED)
    entries = list(navigated(config.nav))
    assert sorted(entries) == sorted(pages)


def test_pages_ask_for_nothing_from_a_network():
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"))
    assert config.theme["font"] is False
    assert not [entry for entry in [*config.extra_css, *config.extra_javascript] if "//" in str(entry)]
    for page in (ROOT / "docs").glob("*.md"):
        assert not re.search(r"!\[[^]]*\]\(https?:|<(img|script|iframe|link)\b[^>]*https?:", page.read_text()), (
            page.name
        )


def test_the_configuration_page_has_every_key(reference):
    page = reference.configuration_page()
    models = [*DATA_SOURCES.values(), *(settings for settings, _ in METHODS.values())]
    sections = [f.annotation for f in Config.model_fields.values() if isinstance(f.annotation, type)]
    models += [section for section in sections if issubclass(section, BaseModel)]
    for model in models:
        for key in getattr(model, "model_fields", None) or [field.name for field in fields(model)]:
            assert re.search(rf"\.{key}(`|\.)", page), f"{model.__name__}.{key}"
    assert "[`train.epochs`](#train.epochs){ #train.epochs } = `auto`" in page
    anchors = re.findall(r"\{ #(\S+) \}", page)
    assert len(anchors) == len(set(anchors))


def test_the_page_of_commands_has_every_command_and_option(reference):
    page = reference.commands_page()
    for command in app.registered_commands:
        assert f"## `geohp {command.name}`" in page
    assert re.search(r"`--on-read-error [^`]*stop\|nodata", page)
    assert "geohp segment tiles/ --out-dir maps --products polygons,confidence --json" in page


def test_the_page_of_names_has_every_public_one(reference):
    page = reference.api_page()
    for name in set(geohp.__all__) - {"__version__"}:
        assert f"::: geohp.{name}\n" in page


def test_code_in_texts_stays_and_other_marks_are_none(reference):
    assert reference._text("``patch_px`` of :class:`~a.Thing`: *not* a_b <x>") == (
        "`patch_px` of Thing: \\*not\\* a\\_b &lt;x&gt;"
    )


def test_roles_become_links_to_what_is_documented():
    pytest.importorskip("griffe")
    link_roles = importlib.import_module("site_docstrings").link_roles
    assert link_roles("see :class:`~geohp.options.FitOptions`") == "see [`FitOptions`][geohp.options.FitOptions]"
    assert link_roles(":func:`segment_file` of ``x``", "geohp.inference.map_scene") == (
        "[`segment_file`][geohp.segment_file] of `x`"
    )
    assert link_roles(":func:`geohp.files.checks.check_output`") == "`check_output`"


def test_options_objects_are_shown_as_keywords():
    griffe = pytest.importorskip("griffe")
    view = importlib.import_module("site_docstrings").SiteView()
    package = griffe.load("geohp", search_paths=[ROOT], extensions=griffe.load_extensions("dataclasses", view))
    parameters = package["inference.map_scene.segment_file"].parameters
    assert [parameter.name for parameter in parameters][:2] == ["scene", "out"]
    assert "options" not in parameters
    assert parameters["min_area_m2"].default == "0"
    assert parameters["model"].kind is griffe.ParameterKind.positional_or_keyword


def test_files_that_the_docs_name_are_there():
    for page in ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]:
        text = (ROOT / page).read_text()
        named = re.findall(r"`((?:geohp|tests|docs|benchmarks|configs|examples)/[\w/.-]+\.\w+)`", text)
        assert [name for name in named if not (ROOT / name).exists()] == [], page


def test_links_between_files_work_in_the_repository_too():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text())
        generated = importlib.import_module("site_hooks").GENERATED
        dead = [target for target in targets if target not in generated and not (page.parent / target).exists()]
        assert dead == [], page.name


def build(folder, site):
    """Not quietly: mkdocs then counts no warnings, and strict refuses nothing."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_site_builds_strictly_and_to_the_same_bytes(tmp_path):
    files = []
    for site in (tmp_path / "a", tmp_path / "b"):
        done = build(ROOT, site)
        assert done.returncode == 0, done.stderr
        files.append({path.relative_to(site): path.read_bytes() for path in site.rglob("*") if path.is_file()})
    assert files[0] == files[1]
    assert Path("api.html") in files[0]


@pytest.mark.slow
def test_dead_links_and_pages_without_navigation_are_refused(tmp_path):
    for name in ("docs", "geohp", "benchmarks", "examples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("mkdocs.yml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docs" / "stray.md").write_text("[gone](gone.md) [nowhere](legend.md#nowhere)")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    assert all(fault in done.stderr for fault in ("stray.md\n", "'gone.md'", "'#nowhere'"))
