"""The command line answers at once, and a mistake is one sentence and exit code 2."""

import re
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from geohp.cli.app import app
from geohp.cli.examples import EXAMPLES


def run(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "geohp", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False
    )


HEAVY = ("torch", "rasterio", "geopandas", "xarray", "lightning", "timm", "scipy", "numpy", "pandas", "matplotlib")


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, geohp, geohp.cli.app\n"
        "from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(geohp.cli.app.app, ['--help'])\n"
        "assert result.exit_code == 0 and 'segment' in result.output\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_answers_in_under_a_second():
    times = []
    for _ in range(3):
        started = time.perf_counter()
        assert run("--help").returncode == 0
        times.append(time.perf_counter() - started)
    assert min(times) < 1.0


@pytest.mark.parametrize("command", [command.name for command in app.registered_commands])
def test_the_help_of_each_command_has_examples_and_flags_without_a_type(command):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
    examples = [line for line in EXAMPLES[command] if line in shown]
    assert examples
    assert all(line.startswith(f"geohp {command} ") for line in examples)
    assert "<bool>" not in shown
    assert "--json" in shown


def parameters(command):
    return typer.main.get_command(app).commands[command].params


def test_the_commands_are_listed_by_what_they_are_for():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).output
    titles = re.findall(r"╭─ ([\w ]+) ─", shown)
    assert titles == ["Options", "To begin", "Maps", "Names of classes", "Models", "What there is"]


@pytest.mark.parametrize("command", [command.name for command in app.registered_commands])
def test_options_are_called_alike_and_lie_in_panels_where_there_are_any(command):
    options = [parameter for parameter in parameters(command) if parameter.param_type_name == "option"]
    assert all("-o" in option.opts for option in options if "--out" in option.opts)
    panels = {option.rich_help_panel for option in options if option.name != "help"}
    assert None not in panels or "Outputs" not in panels
    usage = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output.split("\n")[1]
    assert "...}" not in usage


@pytest.mark.parametrize(("command", "lines"), EXAMPLES.items())
def test_examples_name_options_that_there_are(command, lines):
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output
    options = [word for line in lines for word in line.split() if word.startswith("-")]
    assert options
    assert all(re.search(rf"(^|[\s│]){option}\s", shown) for option in options)


def test_version():
    assert run("--version").stdout.startswith("geohp 0.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "nothere.yaml"), "no such configuration file"),
        (("train", "potsdam3", "--set", "train.epoch=1"), "unknown key 'train.epoch', did you mean 'epochs'?"),
        (("train", "orthophotos"), "no images there"),
        (("segment", "nothere.tif", "--out", "x.tif"), "nothere.tif does not exist"),
        (("segment", "nothere.tif", "--out", "no/folder/x.tif"), "does not exist; create it"),
        (("segment", "nothere.tif", "--out", "x.tif", "--model", "nomodel"), "no such model"),
        (("segment", "a.tif", "--out", "x.tif", "--model", "m", "--classes", "4"), "the model has its own"),
        (("segment", "a.tif", "--out", "x.tif", "--classes", "4", "--block", "3"), "name the backbone"),
        (("polygonize", "nothere.tif", "--out", "x.gpkg"), "nothere.tif"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_2(tmp_path, arguments, said):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
