"""What is given to a command reaches what does the work: options under their names and nowhere else."""

import importlib
import typing
from dataclasses import is_dataclass

import pytest
from typer.models import OptionInfo
from typer.testing import CliRunner

from geohp.cli import change, evaluate, maps, probe, segment, train, view
from geohp.cli.app import app

IN_PYTHON = {
    "pixel_size": "pixel_size_m", "window": "window_px", "min_area": "min_area_m2", "simplify": "simplify_m",
    "set_": "overrides",
}  # fmt: skip
"""Options that have another name there: with their unit, for most."""

TEXTS = {"datetime": "2024-07-31", "out": "out.safetensors"}
"""Values of options that do not take any text."""

COMMANDS = [
    (segment.segment, "geohp.inference.map_scene.map_scene", ["a.tif"], {"out_dir", "products", "dask", "workers"}),
    (change.change, "geohp.comparison.change.change", ["a.tif", "b.tif"], set()),
    (maps.polygonize, "geohp.vector.writing.polygonize_file", ["a.tif"], set()),
    (maps.legend, "geohp.legend.naming.name_classes", ["a.tif"], set()),
    (maps.recode, "geohp.legend.recode_raster.recode_file", ["a.tif"], {"weights"}),
    (maps.recode, "geohp.legend.recode_model.recode_model_file", ["a.safetensors"], {"qml"}),
    (probe.probe, "geohp.inference.probe.run.probe", ["a.tif"], set()),
    (view.view, "geohp.viewer.view.view", ["a.tif"], set()),
    (train.train, "geohp.training.run.train", ["a.tif"], set()),
    (train.prepare, "geohp.data.prepare.prepare", ["a.tif"], set()),
    (train.import_checkpoint, "geohp.model.importing.convert.import_checkpoint", ["a.tif"], set()),
    (train.quickstart, "geohp.demo.quickstart.run_quickstart", [], set()),
    (evaluate.evaluate, "geohp.evaluation.evaluate.score_models", [], set()),
]
"""Commands, what does their work, their arguments, and the options that go another way."""


class Arrived(Exception):  # noqa: N818  # nothing has gone wrong
    """The work would begin here."""


def options_of(command):
    hints = typing.get_type_hints(command, include_extras=True)
    described = {name: typing.get_args(hint) for name, hint in hints.items()}
    return [(name, args[0], args[1]) for name, args in described.items() if args and isinstance(args[-1], OptionInfo)]


def unlike_others(name, kind, option, number):
    """The option as words of the command line, and its value: one that no other option has, if it can."""
    spelled = [str(text) for text in (option.default, *(option.param_decls or ())) if str(text).startswith("-")]
    decl = next(iter(spelled), f"--{name.replace('_', '-')}").partition("/")[0]  # of --tta/--no-tta
    alternatives = typing.get_args(kind)
    kind = next((part for part in alternatives if part is not type(None)), kind)
    if kind is bool:
        return [decl], True
    if isinstance(kind, str):  # the first of several choices, of which the last is not the default
        return [decl, alternatives[-1]], alternatives[-1]
    if typing.get_origin(kind) is typing.Literal:
        return [decl, typing.get_args(kind)[-1]], typing.get_args(kind)[-1]
    if kind in (int, float):
        value = number if option.max is None or option.max >= number else min(kind(number / 100) or 3, option.max)
        return [decl, str(value)], value
    if typing.get_origin(kind) is tuple:
        return [decl, f"{name}1.tif", f"{name}2.tif"], (f"{name}1.tif", f"{name}2.tif")
    value = TEXTS.get(name, f"{name}.tif")
    return [decl, value], value


def as_words(value):
    """A value as it is on the command line."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(float(value)) if type(value) is int else str(value)


@pytest.mark.parametrize(("command", "worker", "arguments", "others"), COMMANDS)
def test_every_option_reaches_what_does_the_work(command, worker, arguments, others, monkeypatch, tmp_path):
    given, beside = {}, []

    def take(*positional, **named):
        for each in positional:
            given.update(vars(each) if is_dataclass(each) else {})
            beside.append(as_words(each))
        given.update(named)
        raise Arrived

    importlib.import_module("geohp.inference.batch")  # which keeps what it finds of the workers when it is loaded
    monkeypatch.setattr(worker, take)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").touch()
    words, expected = [], {}
    for number, (name, kind, option) in enumerate(options_of(command), 21):
        if name not in others:
            of_option, expected[IN_PYTHON.get(name, name)] = unlike_others(name, kind, option, number)
            words += of_option
    done = CliRunner().invoke(app, [command.__name__.replace("_", "-"), *arguments, *words])
    assert isinstance(done.exception, Arrived), (done.exception, done.output)
    assert [text for text in beside if text in arguments] == arguments
    for name, value in expected.items():
        assert as_words(given[name]) == as_words(value) if name in given else as_words(value) in beside, name
