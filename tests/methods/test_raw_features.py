"""Probes on features as they leave the backbone."""

import torch
import torch.nn.functional as F

from geohp.backbones.base import PatchFeatures
from geohp.methods.base import Batch
from geohp.methods.raw_features.method import RawFeatures


def test_codes_are_the_features_and_both_probes_learn():
    torch.manual_seed(0)
    features = torch.randn(4, 6, 5, 5, generator=torch.Generator().manual_seed(0))
    features[:, 0] += 6 * (torch.arange(5) > 2) - 3  # the right of every image is another kind
    labels = (torch.arange(20) > 11).long().expand(4, 20, 20)
    method = RawFeatures(6, 2, label_classes=2)
    assert method.head(features) is features
    optimizers = method.optimizers()
    assert [(type(each).__name__, each.defaults["lr"]) for each in optimizers] == [("Adam", 5e-3), ("Adam", 1e-3)]
    first = None
    for step in range(400):
        losses = method.losses(Batch(PatchFeatures(features), labels=labels), step=step, total_steps=400)
        first = first or {name: float(loss) for name, loss in losses.items()}
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert set(losses) == {"cluster", "linear"}
    assert float(losses["cluster"]) < first["cluster"] - 0.1
    assert float(losses["linear"]) < first["linear"] / 2
    shown = F.interpolate(method.probe(features), size=20, mode="bilinear").argmax(1)
    agreement = (shown == labels).float().mean()
    assert max(agreement, 1 - agreement) > 0.9


def test_without_labels_there_is_the_cluster_probe_alone():
    method = RawFeatures(6, 3)
    assert set(method.losses(Batch(PatchFeatures(torch.randn(2, 6, 4, 4))), step=0, total_steps=1)) == {"cluster"}
    assert len(method.optimizers()) == 1
