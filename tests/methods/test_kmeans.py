import pytest
import torch

from geohp.methods.kmeans.clustering import gather_rows, spherical_kmeans
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


def test_patches_are_drawn_where_clusters_are_fitted_to_them_and_as_settings_say():
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(6, 8, 10, 10, generator=generator)
    method = KMeans(8, 4, KMeansSettings(samples=300, iterations=2, restarts=1), seed=3)
    method.prepare(lambda _: pytest.fail("where covers are gathered, these patches would be for nothing"))
    method.finish(lambda _: iter([maps]))
    rows = gather_rows(lambda _: iter([maps]), 300, seed=3)
    centroids, _ = spherical_kmeans(rows, 4, iterations=2, restarts=1, seed=3)
    assert torch.equal(method.probe.clusters, centroids)
