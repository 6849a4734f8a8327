"""Execute the notebooks anew and keep them tidy: ``python examples/execute.py [NOTEBOOK...]``.

Each runs in an empty folder, as the tests run it. What differs from run to run or from machine to machine (times,
progress bars, counts of executions, state of widgets) is left out, and pictures are made small, so that a new
execution changes little in the file.
"""

from __future__ import annotations

import re
import sys
from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
TIMEOUT_S = 1200
_WIDTH_PX = 760
_TONES = 96
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(notebook: Path, folder: Path) -> Any:
    """Run all cells in a folder; an error in one of them is raised with its traceback."""
    document = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        document, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    return client.execute()


def tidy(document: Any) -> Any:
    """Leave out what changes without meaning anything."""
    document.metadata.pop("widgets", None)
    document.metadata["language_info"] = {"name": "python"}
    for cell in document.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_tidy_output(output) for output in cell.outputs if _stays(output)]
    return document


def _stays(output: Any) -> bool:
    return output.get("name") != "stderr" and _WIDGET not in output.get("data", {})


def _tidy_output(output: Any) -> Any:
    if output.output_type == "execute_result":
        output.execution_count = None
    output.get("metadata", {}).clear()
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = _small(data["image/png"])
        data["text/plain"] = "<Figure>"
    if "text/html" in data:
        data["text/html"] = _without_uuids(data["text/html"])
    return output


def _without_uuids(html: str) -> str:
    """Elements numbered from 1, where xarray draws lots for their names."""
    names: dict[str, str] = {}
    return re.sub(_UUID, lambda found: names.setdefault(found[0], f"id{len(names) + 1}"), html)


def _small(png: str) -> str:
    """A picture of fewer pixels and colours."""
    picture = Image.open(BytesIO(b64decode(png)))
    if picture.mode == "P":  # is small already
        return png
    picture = picture.convert("RGB")
    if picture.width > _WIDTH_PX:
        picture = picture.resize(
            (_WIDTH_PX, round(picture.height * _WIDTH_PX / picture.width)), Image.Resampling.LANCZOS
        )
    file = BytesIO()
    picture.quantize(_TONES).save(file, format="PNG", optimize=True)
    return b64encode(file.getvalue()).decode("ascii")


def main() -> None:
    """Execute the notebooks named, or all of them."""
    for notebook in [Path(name) for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        with TemporaryDirectory() as folder:
            document = tidy(execute(notebook, Path(folder)))
        nbformat.write(document, notebook)
        print(f"{notebook.name}: {notebook.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
