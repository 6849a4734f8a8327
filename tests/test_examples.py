"""The examples run as they stand."""

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "execute")
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
MOST_BYTES = 500_000


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(script, tmp_path):
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def tool():
    """The script that executes notebooks."""
    pytest.importorskip("nbclient", reason="nbclient (extra test) is not installed")
    spec = spec_from_file_location("execute", FOLDER / "execute.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_notebooks_and_a_list_of_them():
    assert len(NOTEBOOKS) >= 5
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in NOTEBOOKS if f"({path.name})" not in listed] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_small_tidy_and_with_its_outputs(notebook, tool):
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    document = tool.nbformat.reads(text, as_version=4)
    outputs = [output for cell in document.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any("text/html" in output.get("data", {}) for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert json.loads(tool.nbformat.writes(tool.tidy(document))) == json.loads(text), "python examples/execute.py"


@pytest.mark.slow
@pytest.mark.cheap
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(notebook, tool, tmp_path):
    shown = [len(cell.outputs) for cell in tool.execute(notebook, tmp_path).cells if cell.cell_type == "code"]
    assert any(shown)
    assert any(tmp_path.iterdir())
