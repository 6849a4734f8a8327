"""A GPU is given its next batch before anything of the last one is waited for; here a made-up one, on the CPU."""

import threading

import numpy as np
import pytest
import torch

from geohp.inference.engine import batching, pipeline
from geohp.inference.engine.pipeline import label_blocks
from geohp.inference.engine.settings import EngineSettings
from geohp.inference.engine.transfer import LayersToHost

WAIT = 20  # s: what a test takes that fails


class Card:
    """A model on a device that ends a forward pass only when the next one has been asked for, or there is none.

    Whoever waits for a block before the next forward pass is launched waits in vain.
    """

    clusters, device = 2, torch.device("cpu")

    def __init__(self, batches):
        self.batches, self.launched, self.progress = batches, 0, threading.Condition()

    def __call__(self, images):
        with self.progress:
            self.launched += 1
            self.progress.notify_all()
        return torch.cat([images, images.sum(1, keepdim=True)], 1)

    def milestone(self, device):
        """Waits for what has been asked for by now."""
        needed = self.launched + 1

        def wait():
            with self.progress:
                given = self.progress.wait_for(lambda: self.launched >= min(needed, self.batches), WAIT)
                assert given, "nobody gives the card more to do"

        return wait

    def finish(self):
        """There is no more to come."""
        with self.progress:
            self.batches = self.launched
            self.progress.notify_all()


class Scene:
    """Two bands held in memory; the lower half has no data."""

    def __init__(self, side):
        self.height = self.width = side
        self.data = np.random.default_rng(0).random((2, side, side)).astype(np.float32)
        self.valid = np.ones((side, side), bool)
        self.reads = 0

    def read(self, row, col, height, width):
        self.reads += 1
        part = np.s_[row : row + height, col : col + width]
        return self.data[:, *part].copy(), self.valid[part].copy()


@pytest.fixture
def asynchronous(monkeypatch):
    """A CPU counts as a GPU."""
    for module in (batching, pipeline):
        monkeypatch.setattr(module, "is_asynchronous", lambda device: True)


@pytest.fixture
def card(monkeypatch, asynchronous):
    """Makes a card that so many batches are sent to, and lets blocks be waited for as its."""

    def make(batches):
        made = Card(batches)
        monkeypatch.setattr(batching, "milestone", made.milestone)
        monkeypatch.setattr(LayersToHost, "send", lambda layers: LayersToHost(layers, made.milestone(None)))
        return made

    return make


def whole(blocks, side):
    labels = np.full((side, side), 77, np.uint8)
    for finished in blocks:
        labels[finished.block.slices] = finished.layers["labels"]
    return labels


@pytest.mark.parametrize("block_px", [8, 16, 32, 64])  # a quarter of a batch, all of one, and several
def test_the_next_forward_pass_is_launched_before_a_block_is_waited_for(card, block_px):
    scene, settings = Scene(64), EngineSettings(8, 0, 4, block_px)
    gpu = card(batches=16)
    labels = whole(label_blocks(scene, gpu, settings), 64)
    np.testing.assert_array_equal(labels, scene.data.argmax(0))
    assert gpu.launched == 16


def test_what_has_no_data_is_handed_over_without_a_forward_pass(card):
    scene, settings = Scene(64), EngineSettings(8, 0, 4, 8)
    scene.valid[24:] = False
    gpu = card(batches=6)
    labels = whole(label_blocks(scene, gpu, settings), 64)
    np.testing.assert_array_equal(labels, np.where(scene.valid, scene.data.argmax(0), 255))
    assert gpu.launched == 6


def test_no_more_is_read_launched_or_kept_than_a_few_batches(asynchronous):
    """Whoever takes blocks slowly finds no scene in memory."""
    scene, gpu = Scene(256), Card(256)
    blocks = label_blocks(scene, gpu, EngineSettings(8, 0, 4, 8))
    for number in range(1, 400, 50):
        for _ in range(50):
            next(blocks)
        # Blocks, of which each is a window, waited for: two batches; launched beyond: one; put together and read: four.
        assert gpu.launched <= (number + 50) / 4 + 2 + 2
        assert scene.reads <= number + 50 + 4 * (2 + 2 + 4)
    blocks.close()


def test_out_of_memory_with_a_batch_under_way_loses_nothing(card, monkeypatch):
    scene, gpu = Scene(64), card(batches=2 + 14 * 2)
    call = Card.__call__

    def cramped(self, images):
        if self.launched >= 2 and len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return call(self, images)

    monkeypatch.setattr(Card, "__call__", cramped)
    labels = whole(label_blocks(scene, gpu, EngineSettings(8, 0, 4, 16)), 64)
    np.testing.assert_array_equal(labels, scene.data.argmax(0))


def test_what_fails_is_raised_in_its_place_and_leaves_no_thread(card, monkeypatch):
    before = threading.active_count()
    scene = Scene(64)
    read = scene.read

    def broken(row, *window):
        if row >= 32:
            raise OSError("the disk is gone")
        return read(row, *window)

    monkeypatch.setattr(scene, "read", broken)
    blocks = []
    with pytest.raises(OSError, match="the disk is gone"):
        blocks.extend(label_blocks(scene, card(batches=8), EngineSettings(8, 0, 4, 8)))
    assert threading.active_count() == before

    gpu = card(batches=16)
    monkeypatch.setattr(LayersToHost, "wait", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        list(label_blocks(Scene(64), gpu, EngineSettings(8, 0, 4, 8)))
    assert threading.active_count() == before


def test_an_abandoned_run_leaves_no_thread(card):
    before = threading.active_count()
    scene, gpu = Scene(64), card(batches=16)
    blocks = label_blocks(scene, gpu, EngineSettings(8, 0, 4, 8))
    next(blocks)
    gpu.finish()
    blocks.close()
    assert threading.active_count() == before
    assert scene.reads < 64


def test_a_cpu_does_one_after_the_other(monkeypatch):
    scene, gpu = Scene(32), Card(4)
    monkeypatch.setattr(pipeline, "ThreadPoolExecutor", None)
    blocks = label_blocks(scene, gpu, EngineSettings(8, 0, 4, 16))
    next(blocks)
    assert gpu.launched == 1
    assert len(list(blocks)) == 3
