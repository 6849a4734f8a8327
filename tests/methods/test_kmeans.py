import pytest
import torch

from geohp.methods.kmeans.method import KMeans
from geohp.methods.kmeans.settings import KMeansSettings


@pytest.mark.parametrize("standardise", [False, True])
def test_a_channel_of_large_values_decides_unless_standardised(standardise):
    generator = torch.Generator().manual_seed(0)
    # Three small channels tell two classes apart; a large one says nothing.
    kinds = torch.arange(2000) % 2
    rows = 0.1 * torch.randn(2000, 4, generator=generator)
    rows[:, :3] += torch.where(kinds == 1, 1.0, -1.0)[:, None]
    rows[:, 3] = 30 * torch.randn(2000, generator=generator)
    maps = rows.T.reshape(1, 4, 40, 50)
    method = KMeans(4, 2, KMeansSettings(standardise=standardise))
    method.prepare(lambda _: iter([maps]))
    method.finish(lambda _: iter([maps]))
    found = method.probe.scores(method.head(maps))[0].argmax(0).flatten()
    agreement = float((found == kinds).float().mean())
    assert (max(agreement, 1 - agreement) > 0.99) == standardise
    assert torch.equal(method.head(maps), maps) != standardise
