"""Which device is meant, and what is said where it is not there."""

import sys

import pytest
import torch

from geohp.errors import ModelError
from geohp.model import device
from geohp.model.device import check_device, torch_device


@pytest.fixture
def has(monkeypatch):
    """What of GPUs there is: a driver, and what torch can use."""

    def there(driver=False, cuda=False, mps=False, platform="linux"):
        monkeypatch.setattr(device, "_has_driver", lambda: driver)
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return there


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "CUDA", "cpu:1", "mps:0", "auto "])
def test_names_of_no_device(name):
    with pytest.raises(ModelError, match=f"device {name}: there is no such kind of device; use auto, cpu, cuda or mps"):
        check_device(name)


@pytest.mark.parametrize(
    ("name", "there", "fits"),
    [
        ("auto", {}, True),
        ("cpu", {}, True),
        ("cuda", {}, False),
        ("cuda:1", {}, False),
        ("cuda", {"driver": True}, True),
        ("cuda:1", {"driver": True}, True),
        ("mps", {"driver": True}, False),
        ("mps", {"platform": "darwin"}, True),
    ],
)
def test_what_there_cannot_be_here_is_refused_without_torch(has, name, there, fits):
    has(**there)
    if fits:
        check_device(name)
        return
    with pytest.raises(ModelError, match=f"device {name}: not available here") as refused:
        check_device(name)
    assert (refused.value.option, refused.value.value) == ("device", "auto")


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({}, "cpu"),
        ({"driver": True}, "cpu"),  # which torch cannot use
        ({"driver": True, "cuda": True}, "cuda"),
        ({"platform": "darwin", "mps": True}, "mps"),
        ({"driver": True, "cuda": True, "platform": "darwin", "mps": True}, "cuda"),
    ],
)
def test_auto_is_a_gpu_where_there_is_one(has, there, chosen):
    has(**there)
    assert torch_device("auto") == torch.device(chosen)
    assert torch_device("cpu") == torch.device("cpu")
    if chosen != "cpu":
        assert torch_device(chosen) == torch.device(chosen)


def test_a_gpu_that_torch_cannot_use_is_refused(has):
    has(driver=True, platform="darwin")
    for name in ("cuda", "cuda:1", "mps"):
        with pytest.raises(ModelError, match=f"device {name}: not available here; use .*device.*auto.* or cpu"):
            torch_device(name)
    has(driver=True, cuda=True)
    assert torch_device("cuda:1") == torch.device("cuda", 1)


def test_a_driver_is_nvidias_or_amds(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "_NVIDIA", "lib-that-is-not-there.so")
    monkeypatch.setattr(device, "_AMD", tmp_path / "kfd")
    assert not device._has_driver()
    (tmp_path / "kfd").touch()
    assert device._has_driver()
    monkeypatch.setattr(device, "_AMD", tmp_path / "none")
    monkeypatch.setattr(device, "_NVIDIA", None)  # the program itself, which can be loaded
    assert device._has_driver()
