"""Windows in batches: each comes out with its own scores, and holds no others'."""

import numpy as np
import pytest
import torch

from geohp.inference.engine.batching import score_windows
from geohp.inference.engine.forward import Runner
from geohp.inference.engine.reading import Patch


class Model:
    """Gives an image's bands."""

    clusters, device = 3, torch.device("cpu")

    def __call__(self, images):
        return images


def patches(numbers):
    valid = np.ones((8, 8), bool)
    return [(Patch((0, 8 * n), np.full((3, 8, 8), n, np.float32), valid),) for n in numbers]


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_windows_have_their_own_scores_and_keep_no_others_in_memory(at_once):
    groups = (group for group in patches(range(6)))
    scored = list(score_windows(groups, Runner(Model(), at_once, 10**6, (8, 8), 3)))
    assert [origin for origin, _ in scored] == [(0, 8 * n) for n in range(6)]
    for n, (_, window) in enumerate(scored):
        assert (window.scores == n).all()
        assert window.scores.untyped_storage().nbytes() == window.scores.nbytes
