"""What a training step hands to its method."""

import torch
from squares import Squares, small_backbone

from geohp.data.augment import photometric
from geohp.features.sampler import FeatureSampler
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings
from geohp.training.task import MethodTask


def test_the_view_of_consistency_is_drawn_before_images_are_normalised():
    features = FeatureSampler(Squares(8), small_backbone(), batch_size=4, seed=3, keep_images=True)
    task = MethodTask(HP(features.backbone.channels, 3, HPSettings(consistency_weight=0.05)), features, 4, seed=7)
    generator = torch.Generator().manual_seed(7)
    for batch in features.batches():  # each of another view
        view = photometric(batch["image"], generator)
        assert not torch.equal(view, batch["image"])
        augmented = task._batch(batch).augmented
        torch.testing.assert_close(augmented.features, features.encode(view, affinities=False).features)
    without = MethodTask(HP(features.backbone.channels, 3), features, 4, seed=7)
    assert without._batch(batch).augmented is None
