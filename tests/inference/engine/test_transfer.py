"""The ways to and from a GPU, without one: tensors that know where they are, streams that note what is asked."""

import contextlib

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from waits import need_pretended_tensors

from geohp.inference.engine.forward import Runner
from geohp.inference.engine.transfer import LayersToHost, milestone, to_device

GPU = torch.device("cuda", 0)


class Stream:
    def __init__(self, log):
        self.log = log

    def wait_stream(self, other):
        self.log.append("computing waits for the images")


class Event:
    def __init__(self, log):
        self.log = log

    def record(self, stream):
        self.log.append("milestone")

    def synchronize(self):
        self.log.append("the host waits")


@pytest.fixture
def log(monkeypatch):
    """What a GPU is asked for."""
    log, empty = [], torch.empty
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(log))
    monkeypatch.setattr(torch.cuda, "Event", lambda blocking: Event(log))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(log))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: log.append("images are in use"))

    def unpinned(*shape, pin_memory=False, **options):
        log.extend(["pinned"] * pin_memory)
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", unpinned)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield log


class Model:
    clusters, device = 3, GPU

    def __init__(self, log):
        self.log = log

    def __call__(self, images):
        assert images.device == GPU
        self.log.append(f"forward pass of {len(images)}")
        return torch.cat([images, images.sum(1, keepdim=True)], 1)


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_images_are_sent_beside_the_work_and_nothing_is_waited_for(log):
    need_pretended_tensors()
    scores = Runner(Model(log), 4, 10, (8, 8), 4)(torch.zeros(7, 3, 8, 8))
    assert (scores.device, scores.shape) == (GPU, (7, 4, 8, 8))
    assert log == ["computing waits for the images", "images are in use", "forward pass of 4"] * 2


def test_layers_go_to_page_locked_memory(log):
    layers = {name: torch.zeros(5, 6, dtype=torch.uint8, device=GPU) for name in ("labels", "confidence")}
    arriving = LayersToHost.send(layers)
    assert log == ["pinned", "pinned", "milestone"]
    assert all(layer.device.type == "cpu" for layer in arriving.layers.values())
    arriving.arrived()
    assert log[-1] == "the host waits"


def test_layers_are_looked_at_once_they_have_arrived():
    arriving = torch.zeros(2, 1, 3, dtype=torch.uint8)
    layers = LayersToHost({"probabilities": arriving}, lambda: arriving.add_(7))
    valid = np.array([[True, False, True]])
    assert layers.wait(valid)["probabilities"].tolist() == [[[7, 255, 7]]] * 2
    assert (arriving == 7).all()  # the next block's


def test_a_cpu_needs_none_of_it():
    tensor = torch.arange(3)
    assert to_device(tensor, torch.device("cpu")) is tensor
    assert milestone(torch.device("cpu"))() is None
    assert LayersToHost.send({"labels": tensor}).arrived is None
