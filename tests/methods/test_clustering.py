"""Spherical k-means where centroids may lose all their rows."""

import torch
import torch.nn.functional as F
from pretended_card import pretended_card

from geohp.methods.kmeans.clustering import refit_probe, spherical_kmeans
from geohp.methods.kmeans.method import KMeans
from geohp.methods.probes import ClusterProbe


def test_no_cluster_is_lost_where_directions_are_fewer():
    rows = torch.eye(3)[torch.arange(60) % 3]
    centroids, cosine = spherical_kmeans(rows, 5)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(5))
    assert cosine == 1


def test_the_best_run_wins():
    generator = torch.Generator().manual_seed(0)
    rows = F.normalize(torch.randn(6, 8, generator=generator), dim=1).repeat_interleave(20, 0)
    rows = rows + 0.2 * torch.randn(120, 8, generator=generator)
    single = [spherical_kmeans(rows, 6, restarts=1, seed=seed)[1] for seed in range(12)]
    assert spherical_kmeans(rows, 6, restarts=12)[1] >= max(single) - 1e-3


def test_clusters_settled_anew_are_one_a_class():
    method = KMeans(4, 3)
    method.probe = ClusterProbe(4, 3, torch.tensor([0, 0, 1]))
    refit_probe(method, lambda count: iter([torch.randn(2, 4, 5, 5)]), 3)
    assert (method.probe.classes, method.probe.members) == (3, None)
    method.probe = ClusterProbe(4, 3, torch.tensor([0, 0, 1]))
    refit_probe(method, lambda count: iter([torch.randn(2, 4, 5, 5)]))
    assert (method.probe.classes, len(method.probe.clusters)) == (2, 2)


def test_a_device_without_float64_will_do():
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    here, _ = spherical_kmeans(rows, 3)
    with pretended_card():
        there, _ = spherical_kmeans(rows.to("cuda"), 3)
        assert there.is_cuda
        assert torch.equal(there.cpu(), here)
