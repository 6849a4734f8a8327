"""One way from bands to the image that the dense CRF looks at, for maps and for evaluations."""

import numpy as np
import pytest
import torch

from geohp.crf.mean_field import guide_image
from geohp.evaluation.predict import Predictor
from geohp.inference.engine.reading import Patch
from geohp.inference.engine.refining import refined
from geohp.methods.probes import ClusterProbe
from geohp.raster.block import Block

VALUES = (0.1, 0.9, 0.5, 0.2)
GUIDES = {1: [26, 26, 26], 2: [26, 230, 230], 3: [26, 230, 128], 4: [26, 230, 128]}


@pytest.mark.parametrize("bands", GUIDES)
def test_first_three_bands_the_last_repeated(bands):
    image = torch.tensor(VALUES[:bands])[:, None, None].expand(-1, 2, 3)
    guide = guide_image(image)
    assert (guide.shape, guide.dtype) == ((3, 2, 3), torch.uint8)
    assert guide[:, 0, 0].tolist() == GUIDES[bands]


def test_values_outside_the_range_are_cut_off():
    assert guide_image(torch.tensor([-0.1, 1.1, 0.5])[:, None, None]).flatten().tolist() == [0, 255, 128]


@pytest.mark.parametrize("bands", GUIDES)
def test_maps_and_evaluations_show_the_crf_the_same_image(bands, monkeypatch):
    guides = []

    def record(image, log_probabilities, **_):
        guides.append(image[:, 0, 0].tolist())
        return log_probabilities.softmax(0)

    monkeypatch.setattr("geohp.inference.engine.refining.dense_crf", record)
    monkeypatch.setattr("geohp.evaluation.predict.dense_crf", record)
    image = torch.tensor(VALUES[:bands])[:, None, None].expand(-1, 4, 4)
    predict = Predictor(lambda images: images.mean(1, keepdim=True), ClusterProbe(1, 2), crf=True)
    predict(image[None])
    valid = np.ones((4, 4), bool)
    window = (Block(0, 0, 4, 4), torch.rand(3, 4, 4), valid)
    list(refined(iter([window]), iter([(Patch((0, 0), image.numpy(), valid),)]), None))
    assert guides == [GUIDES[bands]] * 2
