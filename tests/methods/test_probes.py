"""The probes against the reference's numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geohp.methods.probes import ClusterProbe, LinearProbe

GOLDEN = Path(__file__).parents[1] / "golden"


def arrays(path):
    with np.load(path) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def test_cluster_probe_is_the_references():
    recorded = arrays(GOLDEN / "cluster_aNone_log0.npz")
    probe = ClusterProbe(16, 5).double()
    probe.clusters.data = recorded["clusters"].clone()
    loss = probe.loss(recorded["x"])
    loss.backward()
    torch.testing.assert_close(loss.detach(), recorded["loss"], rtol=1e-12, atol=0)
    torch.testing.assert_close(probe.clusters.grad, recorded["grad_clusters"], rtol=1e-9, atol=1e-14)
    assert torch.equal(probe.cosines(recorded["x"]).argmax(1), recorded["out"].argmax(1))


def test_scores_are_linear_in_the_codes_and_ordered_like_cosines():
    torch.manual_seed(0)
    probe, codes = ClusterProbe(6, 4), torch.randn(2, 6, 5, 7)
    other = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(probe.scores(codes + 2 * other), probe.scores(codes) + 2 * probe.scores(other))
    assert torch.equal(probe.scores(codes).argmax(1), probe.cosines(codes).argmax(1))
    lengths = codes.norm(dim=1, keepdim=True)
    torch.testing.assert_close(probe.cosines(codes) * lengths, probe.scores(codes))
    probe.clusters.data *= torch.tensor([0.1, 3, 20, 1])[:, None]
    torch.testing.assert_close(probe.cosines(codes) * lengths, probe(codes))


def test_hard_loss_is_the_largest_cosine():
    torch.manual_seed(1)
    probe, codes = ClusterProbe(6, 4), torch.randn(2, 6, 5, 7)
    cosines = F.cosine_similarity(codes[:, None], probe.clusters[None, :, :, None, None], dim=2)
    torch.testing.assert_close(probe.loss(codes), -cosines.amax(1).mean())
    optimizer = torch.optim.Adam(probe.parameters(), 5e-2)
    before = probe.loss(codes).item()
    for _ in range(20):
        optimizer.zero_grad()
        probe.loss(codes).backward()
        optimizer.step()
    assert probe.loss(codes).item() < before - 0.05


def test_linear_probe_ignores_what_is_no_class():
    torch.manual_seed(0)
    probe, codes = LinearProbe(4, 3), torch.randn(2, 4, 5, 5)
    labels = torch.randint(0, 3, (2, 20, 20))
    loss = probe.loss(codes, labels)
    wanted = F.cross_entropy(probe(F.interpolate(codes, size=(20, 20), mode="bilinear")), labels)
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    labels[0] = 255
    torch.testing.assert_close(probe.loss(codes, labels), probe.loss(codes[1:], labels[1:]))
    labels[:] = -1
    assert probe.loss(codes, labels) == 0


def test_a_class_of_several_centroids_scores_as_the_nearest_of_them():
    members = torch.tensor([0, 2, 0, 1, 0])
    probe, codes = ClusterProbe(6, 5, members), torch.randn(2, 6, 3, 4)
    every = torch.einsum("bdhw,kd->bkhw", codes, F.normalize(probe.clusters, dim=1))
    scores = probe.scores(codes)
    assert probe.classes == 3
    torch.testing.assert_close(scores, torch.stack([every[:, [0, 2, 4]].amax(1), every[:, 3], every[:, 1]], 1))
    assert torch.equal(scores.argmax(1), members[every.argmax(1)])
    rows = codes.permute(0, 2, 3, 1).reshape(-1, 6)
    assert torch.equal(probe.classes_of(rows), scores.argmax(1).flatten())
    directions = probe.directions()
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(directions[2], F.normalize(probe.clusters[1].detach(), dim=0))
    alone = ClusterProbe(6, 5)
    assert alone.classes == 5
    assert "members" not in alone.state_dict()


def test_the_spread_of_classes_is_the_mean_distance_of_their_pairs():
    torch.manual_seed(0)
    probe = ClusterProbe.of(torch.randn(5, 6), torch.tensor([0, 1, 1, 2, 2]))
    first, second, third = probe.directions()
    expected = 1 - torch.stack([first @ second, first @ third, second @ third]).mean()
    torch.testing.assert_close(probe.spread(), expected)
    assert ClusterProbe.of(torch.randn(1, 6)).spread() == 1


@pytest.mark.parametrize("members", [[0, 1], [0, 2, 2], [1, 2, 3], [-1, 0, 1], [0.0, 1.0, 2.0], [[0], [1], [2]]])
def test_centroids_that_belong_to_no_class_are_refused(members):
    with pytest.raises(ValueError, match="3 centroids"):
        ClusterProbe(4, 3, torch.tensor(members))
