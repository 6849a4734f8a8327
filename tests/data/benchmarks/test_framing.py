"""Geometry: which pixels crops and squares consist of, against torchvision's own."""

import numpy as np
import pytest
import torch
import torchvision.transforms as T
import torchvision.transforms.functional as TF
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from geohp.data.benchmarks.framing import five_boxes, framed


@pytest.mark.parametrize("size", [(1024, 2048), (480, 640), (427, 640), (333, 500), (375, 501)])
@pytest.mark.parametrize("ratio", [0.5, 0.7, 1.0])
def test_five_crops_are_those_of_the_published_preparation(size, ratio):
    places = torch.arange(size[0] * size[1]).reshape(1, *size)
    expected = TF.five_crop(places, [int(length * ratio) for length in size])
    for box, crop in zip(five_boxes(*size, ratio), expected, strict=True):
        assert torch.equal(places[0][box.slices], crop[0])


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.01, 1))
def test_five_crops_lie_inside(height, width, ratio):
    for box in five_boxes(height, width, ratio):
        assert min(box.row, box.col) >= 0
        assert min(box.height, box.width) >= 1
        assert box.row + box.height <= height
        assert box.col + box.width <= width


@given(st.integers(8, 700), st.integers(8, 700), st.sampled_from([8, 56, 224, 320]))
def test_squares_are_those_of_the_published_transforms(height, width, side):
    places = np.arange(height * width, dtype=np.int32).reshape(height, width)
    steps = T.Compose([T.Resize(side, T.InterpolationMode.NEAREST), T.CenterCrop(side)])
    expected = np.asarray(steps(Image.fromarray(places)))
    np.testing.assert_array_equal(framed(places, side), expected)
    np.testing.assert_array_equal(framed(np.stack([places, places + 1]), side)[1], expected + 1)


@pytest.mark.parametrize("size", [(1024, 2048), (512, 1024), (200, 200)])
@pytest.mark.parametrize("side", [224, 320])
def test_squares_of_the_benchmarks_sizes(size, side):
    places = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
    steps = T.Compose([T.Resize(side, T.InterpolationMode.NEAREST), T.CenterCrop(side)])
    np.testing.assert_array_equal(framed(places, side), np.asarray(steps(Image.fromarray(places))))
