"""Reading checkpoints runs nothing of theirs: settings are passed over, anything else is refused."""

from __future__ import annotations

import argparse
import collections
import operator
import pathlib
import sys
import types
import typing

import numpy as np
import pytest
import torch

from geohp.backbones.weight_files import read_state
from geohp.errors import WeightsError

TENSORS = {"net.a": torch.arange(3.0), "net.b": torch.ones(2, 2)}


class Calls:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.fixture
def settings(monkeypatch):
    """A library of settings that runs code as soon as it is unpickled, there for saving and for reading."""
    module = types.ModuleType("omegaconf.dictconfig")

    class DictConfig:
        def __init__(self, content):
            self._content = content

        def __setstate__(self, state):
            pathlib.Path("harm").touch()

    def touch(name):
        pathlib.Path(name).touch()

    for each in (DictConfig, touch):
        each.__module__, each.__qualname__ = module.__name__, each.__name__
        setattr(module, each.__name__, each)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def save(path, **more):
    torch.save({"state_dict": TENSORS, **more}, path)
    return path


def expect_tensors(path):
    found = read_state(path)
    assert found.keys() == {f"state_dict.{name}" for name in TENSORS}
    assert all(torch.equal(found[f"state_dict.{name}"], tensor) for name, tensor in TENSORS.items())


def test_settings_and_training_state_are_passed_over(tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    path = save(
        tmp_path / "a.ckpt",
        hyper_parameters={"cfg": settings.DictConfig({"a": [1, {"b": 2}], "any": typing.Any, "kind": dict[str, int]})},
        called=Calls(settings.touch, "harm"),
        kind=typing.Dict[str, typing.Any],  # noqa: UP006 - as older libraries write it
        callbacks={settings.DictConfig: {"best": 0.5, "scores": collections.deque([1, 2], maxlen=3)}},
        counts=collections.defaultdict(list, {"a": [1]}),
        arguments=argparse.Namespace(lr=0.1, nested=argparse.Namespace(out=pathlib.PurePosixPath("x"))),
        figures={"miou": np.float64(3.5), "matrix": np.eye(3)},
        epoch=3,
    )
    # Even with the library at hand nothing of it is run, and without it nothing is missed.
    expect_tensors(path)
    monkeypatch.delitem(sys.modules, settings.__name__)
    expect_tensors(path)
    assert not (tmp_path / "harm").exists()


def test_settings_of_real_libraries(tmp_path):
    omegaconf = pytest.importorskip("omegaconf")
    from lightning.fabric.utilities.data import AttributeDict
    from lightning.pytorch.callbacks import ModelCheckpoint

    settings = omegaconf.OmegaConf.create({"a": 1, "b": [1, {"c": None}], "d": "${a}", "e": pathlib.Path("x")})
    path = save(
        tmp_path / "a.ckpt",
        hyper_parameters=AttributeDict(cfg=settings, n_classes=3),
        hparams_type=type(settings),
        callbacks={ModelCheckpoint: {"best_model_path": "x"}},
    )
    expect_tensors(path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda s: Calls(pathlib.Path.touch, pathlib.Path("harm")),
        lambda s: {"cfg": s.DictConfig({"deep": [{"er": Calls(pathlib.Path.touch, pathlib.Path("harm"))}]})},
        lambda s: Calls(s.touch, Calls(pathlib.Path.touch, pathlib.Path("harm"))),
        lambda s: Calls(collections.defaultdict, Calls(eval, "open('harm', 'w').close")),
        lambda s: Calls(exec, "open('harm', 'w').close()"),
        lambda s: Calls(operator.methodcaller("touch"), pathlib.Path("harm")),
        lambda s: Calls(__import__("os").system, "touch harm"),
        lambda s: Calls(__import__("importlib").import_module, "harmful"),
        lambda s: argparse.Namespace(out=Calls(open, "harm", "w")),
    ],
)
def test_nothing_runs_wherever_it_hides(harm, tmp_path, monkeypatch, settings):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "a.ckpt", hyper_parameters=harm(settings))
    with pytest.raises(WeightsError, match=r"a\.ckpt: holds \S+, which could run code; save its state dict alone"):
        read_state(tmp_path / "a.ckpt")
    assert [each.name for each in tmp_path.iterdir()] == ["a.ckpt"]


def test_what_stands_for_a_module_of_settings_is_inert_even_by_its_own_name(tmp_path, monkeypatch):
    """Functions of the libraries that are passed over could run code too: they are not looked up either."""
    monkeypatch.chdir(tmp_path)
    expect_tensors(save(tmp_path / "a.ckpt", a=Calls(collections.namedtuple, "harm", "a b")))
    forward = Calls(typing.get_type_hints, types.SimpleNamespace)
    with pytest.raises(WeightsError, match=r"holds types\.SimpleNamespace, which could run code"):
        read_state(save(tmp_path / "b.ckpt", a=forward))


def test_tensors_that_are_no_plain_numbers_are_passed_over(tmp_path):
    expect_tensors(save(tmp_path / "a.pth", empty=torch.empty(2, device="meta")))


def test_the_older_format(tmp_path):
    path = tmp_path / "a.pth"
    state = {"state_dict": TENSORS, "args": argparse.Namespace(lr=0.1)}
    torch.save(state, path, _use_new_zipfile_serialization=False)
    expect_tensors(path)
    torch.save(state | {"x": Calls(exec, "1")}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="could run code"):
        read_state(path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(WeightsError, match=r"a\.pth: cannot be read \(Permission denied\); check its permissions"):
        read_state(save(tmp_path / "a.pth"))
