"""The linear probe over finished codes: converged, and honest about classes without labels."""

import pytest
import torch
from torch import nn

from geohp.features.sampler import FeatureSampler
from geohp.training.linear_probe import fit_linear_probe
from tests.support.squares import Squares, small_backbone


@pytest.fixture(scope="module")
def features():
    return FeatureSampler(Squares(count=12), small_backbone("rcf"), batch_size=4)


class Relabelled(Squares):
    """Squares, of which only some labels are kept."""

    def __init__(self, kept):
        super().__init__(count=8)
        self.kept = kept

    def __getitem__(self, index):
        item = super().__getitem__(index)
        mask = item["mask"]
        item["mask"] = torch.where(torch.isin(mask, torch.tensor(self.kept, dtype=mask.dtype)), mask, 255)
        return item


def sampler(kept):
    return FeatureSampler(Relabelled(kept), small_backbone("rcf"), batch_size=4)


def right_share(probe, features, scale=1.0):
    right = []
    for batch in features.batches():
        predicted = probe(scale * features.patches(batch).features).argmax(1)
        middles = batch["mask"][:, 4::8, 4::8]
        right.append((predicted == middles)[middles != 255])
    return float(torch.cat(right).float().mean())


def test_it_is_no_worse_for_codes_of_another_scale(features):
    """Gradient steps from small weights need the more of them the smaller codes are; what has converged does not."""
    channels = features.backbone.channels
    as_they_are = fit_linear_probe(nn.Identity(), features, channels, 4)
    faint = fit_linear_probe(lambda maps: 1e-3 * maps, features, channels, 4)
    assert right_share(as_they_are, features) > 0.8
    assert right_share(faint, features, 1e-3) == pytest.approx(right_share(as_they_are, features), abs=0.03)


def test_it_repeats(features):
    first, second = (fit_linear_probe(nn.Identity(), features, features.backbone.channels, 4) for _ in range(2))
    torch.testing.assert_close(first.classifier.weight, second.classifier.weight, atol=1e-3, rtol=1e-3)


def test_a_class_without_labels_is_never_predicted():
    source = sampler([0, 2])
    probe = fit_linear_probe(nn.Identity(), source, source.backbone.channels, 4)
    for batch in source.batches():
        assert set(probe(source.patches(batch).features).argmax(1).unique().tolist()) == {0, 2}


@pytest.mark.parametrize("kept", [[], [3]])
def test_too_few_classes_are_said(kept, caplog):
    source = sampler(kept)
    probe = fit_linear_probe(nn.Identity(), source, source.backbone.channels, 4)
    assert f"the labels hold {len(kept)} class(es)" in caplog.text
    batch = next(iter(source.batches()))
    assert set(probe(source.patches(batch).features).argmax(1).unique().tolist()) == {*(kept or [0])}
