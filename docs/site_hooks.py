"""What mkdocs.yml cannot say: pages written by the code, pages from outside docs/, anchors as on GitHub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from pymdownx.slugs import slugify
from site_notebooks import notebook_files
from site_reference import api_page, commands_page, configuration_page

ROOT = Path(__file__).resolve().parents[1]

ADOPTED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
    "examples/segment_and_polygonize.py": "examples/segment_and_polygonize.py",
    "benchmarks/RESULTS.md": "measured.md",
    "examples/quickstart.png": "images/quickstart.png",
}
"""Files of the repository outside docs/, where there are any, and what they become on the site."""

GENERATED = {"configuration.md": configuration_page, "commands-reference.md": commands_page, "api.md": api_page}
"""Pages that are written by the code."""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s]+)")


def on_startup(**_: Any) -> None:
    """Leave the time of the build out of the site, so that the same sources give the same bytes."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name headings' anchors as GitHub does, where the same files are read too."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for page, write in GENERATED.items():
        files.append(File.generated(config, page, content=write()))
    for source, target in ADOPTED.items():
        path = ROOT / source
        if path.is_file():
            content = _moved(path) if path.suffix == ".md" else path.read_bytes()
            files.append(File.generated(config, target, content=content))
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        for target, content in notebook_files(path, "examples"):  # the page of examples leads to them
            files.append(File.generated(config, target, content=content, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links to adopted files into links to what they have become."""
    source = ROOT / "docs" / page.file.src_uri
    return _LINK.sub(lambda link: _adopted(source, link[1]) or link[1], markdown)


def _moved(path: Path) -> str:
    """A file's text as if it stood in docs/."""

    def moved(link: re.Match[str]) -> str:
        target, mark, anchor = link[1].partition("#")
        return _adopted(path, link[1]) or os.path.relpath(path.parent / target, ROOT / "docs") + mark + anchor

    return _LINK.sub(moved, path.read_text(encoding="utf-8"))


def _adopted(source: Path, link: str) -> str | None:
    """What a link means on the site, where it leads to an adopted file."""
    target, mark, anchor = link.partition("#")
    name = os.path.relpath(source.parent / target, ROOT)
    if name.startswith("examples/") and name.endswith(".ipynb") and (ROOT / name).is_file():
        return f"{name.removesuffix('.ipynb')}.md{mark}{anchor}"
    return f"{ADOPTED[name]}{mark}{anchor}" if name in ADOPTED and (ROOT / name).is_file() else None
