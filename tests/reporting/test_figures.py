"""Images with patches marked."""

from io import BytesIO

import numpy as np
from PIL import Image

from geohp.reporting.figures import AGNOSTIC, BOTH, SPECIFIC, draw_positives


def test_positives_are_drawn_where_they_are():
    kinds = np.array([[0, 1, 2], [3, 0, 1]])
    image = np.random.default_rng(0).random((3, 64, 96), np.float32)
    png = draw_positives(image, kinds % 2 == 1, kinds > 1, (1, 1))
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"), float)
    side = pixels.shape[1] // 3
    shown = np.array([[pixels[(2 * r + 1) * side // 2, (2 * c + 1) * side // 2] for c in range(3)] for r in range(2)])
    for kind, colour in ((1, AGNOSTIC), (2, SPECIFIC), (3, BOTH)):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (abs(shown[kinds == kind] - wanted).max(1) < 80).all()
    assert (np.ptp(shown[kinds == 0], axis=1) < 16).all()  # grey
    assert (abs(pixels - [255, 221, 0]).max(2) < 40).sum() > 4 * side  # the frame
