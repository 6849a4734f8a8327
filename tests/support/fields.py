"""Fields of three colours with labels, as a data source: what trainings are tested on without any file."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from geohp.classes import LandCoverClass
from geohp.data.base import DataSource, EvaluationProtocol, ImageSet

COLOURS = np.array([[60, 140, 50], [128, 128, 128], [170, 110, 60]])
CLASSES = tuple(
    LandCoverClass(i, name, colour)
    for i, (name, colour) in enumerate([("road", "#ffffff"), ("building", "#0000ff"), ("vegetation", "#00ff00")])
)


class Fields(ImageSet):
    """``count`` images of 16 fields each; a strip at the top is unlabelled."""

    channels = 3
    labelled = True

    def __init__(self, count, side, seed):
        self.count, self.side, self.seed = count, side, seed
        self.reads = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        rng = np.random.default_rng((self.seed, index))
        cell = self.side // 4
        mask = rng.integers(0, 3, (4, 4)).repeat(cell, 0).repeat(cell, 1)
        image = np.clip(COLOURS[mask] + rng.normal(0, 12, (self.side, self.side, 3)), 0, 255) / 255
        mask[:3] = 255
        return {
            "image": torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32)),
            "mask": torch.from_numpy(mask.astype(np.int64)),
        }

    def name(self, index):
        return f"{self.seed}-{index}"


class MadeUp(DataSource):
    """Twenty-four images to train on, ten to be judged on."""

    classes = CLASSES
    protocol = EvaluationProtocol("potsdam-3", same=True, text="Made-up fields.")

    def training(self, progress=None):
        return Fields(24, 64, 0)

    def evaluation(self, progress=None):
        return Fields(10, 96, 1)


@contextmanager
def fields_in_place_of_data():
    """Whatever asks for data gets the fields."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geohp.data.factory.open_data", lambda config, seed=0: MadeUp())
        yield


SETTINGS = [
    "data={source: potsdam, root: nowhere, input_px: 64, evaluation_px: 96}",
    "backbone.name=rcf",
    "method.pool_size=24",
    "method.code_channels=16",
    "method.warmup_steps=2",
    "train.batch_size=4",
    "train.epochs=3",
    "train.device=cpu",
]

SCORED = ["train.score_every=1", "train.score_steps=4"]
