"""Notebooks as pages of the site: what they say, their code, and the outputs that they are kept with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

_FETCHES = re.compile(r"<(script|iframe|link)\b", re.IGNORECASE)


def notebook_files(path: Path, folder: str) -> Iterator[tuple[str, str | bytes]]:
    """The page of a notebook and its pictures, by their places in the docs.

    Of outputs that would run scripts or fetch something, such as maps to pan and zoom, the page has the text.

    Args:
        path: of the notebook.
        folder: where the page goes.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if _FETCHES.search(data.get("text/html", "")):
                del data["text/html"]
    resources = {"unique_key": path.stem, "output_files_dir": f"{path.stem}_files"}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    yield f"{folder}/{path.stem}.md", text
    for name, picture in resources["outputs"].items():
        yield f"{folder}/{name}", picture
