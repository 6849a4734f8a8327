import pytest
import torch
from squares import Squares, small_backbone, trained

from geohp.features.sampler import FeatureSampler


@pytest.fixture(scope="session")
def squares():
    """The class of small image sets."""
    return Squares


@pytest.fixture(scope="session")
def make_backbone():
    return small_backbone


@pytest.fixture(scope="session")
def vit():
    return small_backbone()


@pytest.fixture(scope="session")
def train_on():
    return trained


@pytest.fixture
def make_source(vit):
    """A source of features, and what it said."""

    def make(images, backbone=vit, **options):
        return FeatureSampler(images, backbone, **{"batch_size": 4, "seed": 3, **options})

    return make


@pytest.fixture(scope="module")
def one_thread():
    """Products this small take longer to share than to compute, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
