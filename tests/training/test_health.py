"""Trainings that go wrong for real, and what is said of them."""

from types import SimpleNamespace

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geohp.backbones.affinities import neighbour_affinities
from geohp.backbones.base import PatchFeatures
from geohp.errors import GeohpError, TrainingError
from geohp.methods.base import Batch
from geohp.methods.hp.method import HP, positives_warnings
from geohp.methods.hp.settings import HPSettings, LearningRates
from geohp.methods.probes import ClusterProbe
from geohp.training.figures import FiguresReader
from geohp.training.health import (
    Health,
    check_finite,
    cluster_warnings,
    code_warnings,
    examine,
    not_finite,
)

CHANNELS, SIDE = 12, 4


class Module(L.LightningModule):
    """A method and features at hand: what the training loop does, without images."""

    def __init__(self, method):
        super().__init__()
        self.automatic_optimization = False
        self.method, self.steps_done = method, 0

    def configure_optimizers(self):
        return self.method.optimizers()

    def training_step(self, batch, _):
        affinities = torch.full((len(batch), SIDE * SIDE, 9), 0.5)
        losses = self.method.losses(Batch(PatchFeatures(batch, affinities)), step=self.steps_done, total_steps=100)
        total = torch.stack(list(losses.values())).sum()
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(total)
        self.method.clip_gradients()
        for optimizer in self.optimizers():
            optimizer.step()
        self.steps_done += 1
        self.figures = {**losses, **self.method.step_figures()}


def features(images=16, classes=4, noise=0.5):
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, CHANNELS, generator=g)
    members = torch.randint(classes, (images, SIDE, SIDE), generator=g)
    maps = centres[members] + noise * torch.randn(images, SIDE, SIDE, CHANNELS, generator=g)
    return maps.permute(0, 3, 1, 2).contiguous()


def trained(maps, tmp_path, epochs=2, **options):
    """A method trained on feature maps, and its watch."""
    torch.manual_seed(0)
    method = HP(CHANNELS, 4, HPSettings(code_channels=8, **{"pool_size": len(maps), "warmup_steps": 2, **options}))
    method.prepare(sampler(maps))
    health = Health()
    trainer = L.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[FiguresReader(), health], default_root_dir=tmp_path,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(maps, batch_size=4, shuffle=True)
    try:
        trainer.fit(Module(method), loader)
    finally:
        assert not method.head._forward_pre_hooks
    return method, health


def sampler(maps):
    return lambda count: torch.split(maps[:count], 4)


def test_a_good_training_is_not_disturbed(tmp_path):
    method, health = trained(features(), tmp_path, epochs=3)
    assert health.warnings == []
    method.finish(sampler(features()))
    health.check_result(method.eval(), sampler(features()))
    assert health.warnings == []
    assert not method.training


def test_a_huge_learning_rate_is_named(tmp_path):
    with pytest.raises(TrainingError) as caught:
        trained(features(), tmp_path, epochs=20, learning_rates=LearningRates(head=1e6))
    message = str(caught.value)
    assert message.startswith("step ")
    assert "= nan" in message or "= inf" in message
    assert "most likely diverged; set lower learning rates (method.learning_rates.head = 1e+06)" in message
    assert isinstance(caught.value, GeohpError)


def test_damaged_features_are_named(tmp_path):
    maps = features()
    maps[5, 3, 1, 2] = float("nan")
    with pytest.raises(TrainingError, match=r"contrastive = nan.*features are not finite.*nodata"):
        trained(maps, tmp_path)


def test_constant_images_teach_nothing_and_collapse(tmp_path):
    maps = torch.ones(16, CHANNELS, SIDE, SIDE)
    method, health = trained(maps, tmp_path, dropout=0.0)
    assert [warning[:8] for warning in health.warnings] == ["epoch 1:"] * 2  # each kind once, not every epoch
    assert "no patch is more similar to another" in health.warnings[0]
    assert "the codes have collapsed to one direction (length of their mean 1.000 of 1)" in health.warnings[1]
    said = examine(method.eval(), sampler(maps))
    assert any("takes 100.0 % of the patches" in sentence for sentence in said)
    assert any("of 4 have no patches" in sentence for sentence in said)


def test_the_published_probe_is_judged_every_epoch(tmp_path):
    _, health = trained(features(classes=1, noise=0.05), tmp_path, dropout=0.0, refit_probe=False)
    assert any("have no patches" in warning or "takes" in warning for warning in health.warnings)


def test_watching_changes_nothing(tmp_path, monkeypatch):
    watched, _ = trained(features(), tmp_path)
    monkeypatch.setattr(Health, "on_train_epoch_end", lambda *_: None)
    unwatched, _ = trained(features(), tmp_path)
    for name, value in watched.state_dict().items():
        assert torch.equal(value, unwatched.state_dict()[name])


def test_what_is_not_finite():
    nan, good = torch.tensor(float("nan")), torch.tensor(1.0)
    assert not_finite({"a": good, "b": 2.0}) == []
    assert not_finite({"a": nan, "b": 2.0, "c": float("inf"), "d": good}) == ["a", "c"]
    assert not_finite({}) == []
    with pytest.raises(TrainingError, match=r"^step 8: a = nan and c = inf: .*, or train.precision=32$"):
        check_finite({"a": nan, "c": float("inf")}, 7, precision="bf16")
    check_finite({"a": good}, 7)


def test_codes_of_one_direction():
    torch.manual_seed(0)
    assert code_warnings(torch.randn(500, 8)) == []
    assert code_warnings(torch.randn(500, 8).abs()) == []
    (said,) = code_warnings(torch.ones(500, 8) + 0.05 * torch.randn(500, 8))
    assert "collapsed" in said


def probe_of(directions):
    probe = ClusterProbe(directions.shape[1], len(directions))
    probe.clusters.data.copy_(directions)
    return probe


@pytest.mark.parametrize("common", [0.0, 3.0, 30.0])
def test_clusters_of_codes_that_share_much_coincide_where_they_do_for_them(common):
    """Features that end in ReLU share most of their direction, so that all centroids have cosines near 1."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 8)
    centres[:, 7] += common
    codes = centres.repeat(50, 1) + 0.05 * torch.randn(150, 8, generator=generator)
    assert cluster_warnings(codes, ClusterProbe.of(centres)) == []
    twice = torch.cat([centres, centres[:1] + 0.01])
    (said,) = [s for s in cluster_warnings(codes, ClusterProbe.of(twice)) if "coincide" in s]
    assert said.startswith("clusters 0 and 3 coincide")


def test_clusters_that_take_all_stay_empty_or_coincide():
    torch.manual_seed(0)
    axes = torch.eye(6)
    even = axes.repeat(50, 1)
    assert cluster_warnings(even, probe_of(3 * axes)) == []
    (said,) = cluster_warnings(torch.cat([even[0:1].repeat(1000, 1), axes]), probe_of(axes))
    assert said.startswith("cluster 0 takes 99.5 % of the patches")
    (said,) = cluster_warnings(axes[:5].repeat(50, 1), probe_of(axes))
    assert said.startswith("cluster 5 of 6 has no patches")
    assert "method.refit_probe=true" in said
    (said,) = cluster_warnings(axes[:5].repeat(50, 1), probe_of(axes), by_gradient=False)
    assert said.endswith("; set classes.count lower")
    (said,) = cluster_warnings(axes[[0, 1, 3]].repeat(50, 1), probe_of(axes))
    assert said.startswith("clusters 2, 4, 5 of 6 have no patches")
    twins = torch.cat([axes[:5], F.normalize(axes[4:5] + 0.05 * axes[5:], dim=1)])
    (said,) = cluster_warnings(even, probe_of(twins))
    assert said.startswith("clusters 4 and 5 coincide (cosine up to 0.999)")


def test_no_anchor():
    assert positives_warnings({"anchor_share": 0.2}) == positives_warnings({}) == []
    assert "method.pool_size" in positives_warnings({"anchor_share": 0.0})[0]


def test_a_broken_head_is_an_error():
    method = HP(CHANNELS, 3, HPSettings(code_channels=8, pool_size=4)).eval()
    nn.init.constant_(method.head.linear.weight, float("nan"))
    with pytest.raises(TrainingError, match="not finite"):
        examine(method, sampler(features()))
    assert examine(method, lambda _: []) == []


def test_what_was_told_survives_a_checkpoint():
    health = Health()
    health.warn(["a: b"], "epoch 1: ")
    again = Health()
    again.load_state_dict(health.state_dict())
    assert again.warnings == ["epoch 1: a: b"]
    again.warn(["other numbers: b"])
    assert again.warnings == ["epoch 1: a: b"]


def test_positives_are_counted_as_by_hand():
    """Figures of a step against a count on all pairs."""
    torch.manual_seed(0)
    maps = features(4)
    method = HP(CHANNELS, 3, HPSettings(code_channels=8, pool_size=4, warmup_steps=0, dropout=0.0))
    method.prepare(sampler(maps))
    affinities = neighbour_affinities(torch.randn(4, SIDE * SIDE, SIDE * SIDE), (SIDE, SIDE))
    for step in (0, 30):
        with torch.no_grad():
            averaged = method.averaged(maps)
        method.losses(Batch(PatchFeatures(maps, affinities)), step=step, total_steps=100)
        figures = method.figures()
        counted = []
        for found, pool in ((maps, method.pool_agnostic.rows), (averaged, method.pool_specific.rows)):
            rows = F.normalize(found.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
            bound = (rows @ pool.T).amax(1)
            pairs = rows @ rows.T > torch.minimum(bound[:, None], bound)
            counted.append(pairs.fill_diagonal_(False).sum(1).float())
        anchors = counted[0] > 0
        assert figures["anchor_share"] == pytest.approx(float(anchors.float().mean()))
        assert figures["positives_agnostic"] == pytest.approx(float(counted[0][anchors].mean()), rel=1e-5)
        if step:
            assert figures["positives_specific"] == pytest.approx(float(counted[1][anchors].mean()), rel=1e-4)
        else:
            assert "positives_specific" not in figures


def test_a_loss_scaler_may_pass_over_steps_but_not_over_all_of_them():
    health, nan = Health(), float("nan")
    module = SimpleNamespace(method=SimpleNamespace(head_learning_rate=0.1))
    trainer = SimpleNamespace(precision="16-mixed")
    skipped, sound = {"loss": 1.0, "gradient_norm": float("inf")}, {"loss": 1.0, "gradient_norm": 2.0}
    for figures in [skipped, sound] * 20 + [skipped] * 16:
        health.on_figures(trainer, module, 3, figures)
    with pytest.raises(TrainingError, match=r"^step 5: gradient_norm = inf: .*train.precision=32$"):
        health.on_figures(trainer, module, 4, skipped)
    for precision, figures in (("16-mixed", {"loss": nan, "gradient_norm": nan}), ("bf16-mixed", skipped)):
        with pytest.raises(TrainingError, match=r"^step 4: "):
            Health().on_figures(SimpleNamespace(precision=precision), module, 3, figures)
