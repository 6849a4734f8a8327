"""Hidden Positives put together: its parts' sizes, pools, optimisers, figures, and what it says of them."""

import pytest
import torch
from torch import nn
from torch.optim import Adam, AdamW

from geohp.backbones.base import PatchFeatures
from geohp.methods.base import Batch
from geohp.methods.factory import create_method
from geohp.methods.hp import method as method_module
from geohp.methods.hp.method import HP, positives_warnings
from geohp.methods.hp.mixing import mix_neighbours
from geohp.methods.hp.settings import HPSettings, LearningRates

SMALL = {"code_channels": 4, "pool_size": 5, "dropout": 0.0}


def method(label_classes=0, seed=0, **settings):
    torch.manual_seed(seed)
    return HP(6, 3, HPSettings(**SMALL | settings), label_classes=label_classes, seed=seed)


def maps(images=4, seed=0, side=3):
    return torch.randn(images, 6, side, side, generator=torch.Generator().manual_seed(seed))


def affinities(images=4, side=3):
    return torch.rand(images, side * side, 9, generator=torch.Generator().manual_seed(1))


def batch(augmented=False, labels=False):
    return Batch(
        PatchFeatures(maps(), affinities()),
        augmented=PatchFeatures(maps(seed=5), None) if augmented else None,
        labels=torch.zeros(4, 12, 12, dtype=torch.int64) if labels else None,
    )


def filled(**settings):
    made = method(**settings).train()
    made.prepare(lambda count: iter([maps(count, 9)]))
    return made


def test_the_published_numbers():
    settings = HPSettings()
    assert (settings.code_channels, settings.temperature, settings.ema_momentum) == (256, 0.4, 0.999)
    assert (settings.keep_rate, settings.consistency_weight, settings.dropout, settings.clip_norm) == (
        1.0,
        0.0,
        0.1,
        10,
    )
    rates = settings.learning_rates
    assert (rates.head, rates.projection, rates.linear_probe, rates.cluster_probe) == (5e-4, 5e-4, 1e-3, 5e-3)
    assert rates.weight_decay == 0.1
    assert settings.discovers
    assert settings.left_out == ()
    assert settings.reweight
    assert settings.refit_probe
    made = HP(6, 3)
    assert (made.warmup_steps, made.renew_interval, len(made.pool_agnostic.rows)) == (100, 20, 1024)
    assert HP(6, 3, HPSettings(warmup_steps=0)).warmup_steps == 0


def test_what_it_is_made_of():
    made = method(label_classes=2, ema_momentum=0.5)
    assert made.head.linear.weight.shape == (4, 6, 1, 1)
    assert made.averaged.momentum == 0.5
    assert (made.pool_agnostic.rows.shape, made.pool_specific.rows.shape) == ((5, 6), (5, 4))
    assert made.probe.clusters.shape == (3, 4)
    assert made.linear_probe is not None
    assert method().linear_probe is None
    assert (made.wants_augmented, made.probe_is_final) == (False, False)
    assert method(consistency_weight=0.1).wants_augmented
    assert method(refit_probe=False).probe_is_final
    naive = method(task_agnostic_positives=False, task_specific_positives=False)
    assert naive.wants_augmented
    assert not naive.settings.discovers
    assert HPSettings(task_specific_positives=False).discovers
    assert (made.head_learning_rate, made.gradient_bound) == (5e-4, 10.0)
    faster = method(learning_rates=LearningRates(head=1e-3), clip_norm=2.0)
    assert (faster.head_learning_rate, faster.gradient_bound) == (1e-3, 2.0)
    assert method(dropout=0.3).drop.p == 0.3


def test_a_head_is_built_as_the_file_has_it():
    linear = HP.build_head(6, 4, ["head.linear.weight"])
    assert linear.nonlinear is None
    assert HP.build_head(6, 4, ["head.linear.weight", "head.nonlinear.0.weight"]).nonlinear is not None


def test_optimisers_are_the_published_ones_over_their_own_parts():
    made = method(label_classes=2, learning_rates=LearningRates(head=1e-3, weight_decay=0.2, projection=2e-3))
    head, projection, *probes = made.optimizers()
    assert type(head) is AdamW
    assert type(projection) is Adam
    assert (head.defaults["lr"], head.defaults["weight_decay"], projection.defaults["lr"]) == (1e-3, 0.2, 2e-3)
    assert {id(p) for p in head.param_groups[0]["params"]} == {id(p) for p in made.head.parameters()}
    assert {id(p) for p in projection.param_groups[0]["params"]} == {id(p) for p in made.projection.parameters()}
    of_probes = {id(parameter): opt.defaults["lr"] for opt in probes for parameter in opt.param_groups[0]["params"]}
    assert of_probes[id(made.probe.clusters)] == 5e-3
    assert all(of_probes[id(parameter)] == 1e-3 for parameter in made.linear_probe.parameters())


def test_pools_hold_patches_of_as_many_images_as_they_have_rows():
    made, asked = method().train(), []

    def sample(count):
        asked.append(count)
        yield maps(2, 1)
        yield maps(count - 2, 2)

    made.prepare(sample)
    assert asked == [5]
    images = torch.cat([maps(2, 1), maps(3, 2)])
    patches = nn.functional.normalize(images.flatten(2), dim=1)
    for row, image in zip(made.pool_agnostic.rows, patches, strict=True):
        assert torch.isclose(row @ image, torch.ones(()), atol=1e-5).any()
    codes = nn.functional.normalize(made.averaged(images).flatten(2), dim=1)
    for row, image in zip(made.pool_specific.rows, codes, strict=True):
        assert torch.isclose(row @ image, torch.ones(()), atol=1e-5).any()


def test_the_specific_pool_alone_is_refilled_at_its_steps():
    made, asked = filled(renew_interval=3), []
    agnostic, specific = made.pool_agnostic.rows.clone(), made.pool_specific.rows.clone()
    changed = []
    for step in range(8):
        made.before_step(step, lambda count, step=step: asked.append(count) or iter([maps(count, 20 + step)]))
        if not torch.equal(made.pool_specific.rows, specific):
            changed.append(step)
            specific = made.pool_specific.rows.clone()
    assert changed == [3, 6]
    assert asked == [5, 5]
    assert torch.equal(made.pool_agnostic.rows, agnostic)


@pytest.mark.parametrize(
    ("settings", "weights"),
    [
        ({"warmup_steps": 4}, [0, 0, 0, 1 / 6, 1]),
        ({"warmup_steps": 0}, [0, 0.2, 0.4, 0.5, 1]),
        ({"warmup_steps": 4, "task_specific_positives": False}, [0, 0, 0, 0, 0]),
        ({"warmup_steps": 4, "task_agnostic_positives": False}, [1, 1, 1, 1, 1]),
        ({"warmup_steps": 20}, [0, 0, 0, 0, 0]),
    ],
)
def test_lambda_grows_from_the_end_of_warmup_to_one(settings, weights):
    made = method(**settings)
    assert [made.task_specific_weight(step, 10) for step in (0, 2, 4, 5, 10)] == pytest.approx(weights)


def test_figures_of_a_step_and_what_is_said_of_them():
    made = filled(warmup_steps=2)
    losses = made.losses(batch(), step=1, total_steps=12)
    assert set(losses) == {"contrastive", "cluster"}
    assert set(made.figures()) == {"task_specific_weight", "anchor_share", "positives_agnostic"}
    losses = made.losses(batch(), step=7, total_steps=12)
    sum(losses.values()).backward()
    made.clip_gradients()
    figures = made.figures()
    assert set(figures) == {
        "task_specific_weight", "anchor_share", "positives_agnostic", "positives_specific", "gradient_norm",
    }  # fmt: skip
    assert figures["task_specific_weight"] == 0.5
    assert all(type(value) is float for value in figures.values())
    gradients = torch.cat([parameter.grad.flatten() for parameter in made.head.parameters()])
    assert figures["gradient_norm"] == pytest.approx(float(gradients.norm()), rel=1e-4)
    said = {"loss": torch.tensor(1.23456), "linear": torch.tensor(0.5), "task_specific_weight": torch.tensor(0.25)}
    assert made.describe(said) == "loss 1.23, linear 0.5, lambda 0.25"
    said |= {"positives_agnostic": torch.tensor(7.4), "positives_specific": torch.tensor(12.0)}
    assert made.describe(said) == "loss 1.23, linear 0.5, lambda 0.25, positives 7 + 12 an anchor"


def test_specific_positives_alone_are_told_as_such():
    made = filled(task_agnostic_positives=False)
    made.losses(batch(), step=0, total_steps=12)
    assert set(made.figures()) == {"task_specific_weight", "anchor_share", "positives_specific"}
    assert made.figures()["task_specific_weight"] == 1.0


def test_gradients_are_bounded():
    made = filled(clip_norm=1e-3)
    made.losses(batch(), step=0, total_steps=9)["contrastive"].backward()
    made.clip_gradients()
    gradients = torch.cat([parameter.grad.flatten() for parameter in made.head.parameters()])
    assert float(gradients.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert made.figures()["gradient_norm"] > 1e-3


def test_consistency_is_the_distance_to_the_augmented_view():
    made = filled(consistency_weight=0.25).eval()
    losses = made.losses(batch(augmented=True), step=0, total_steps=9)
    rows = [
        nn.functional.normalize(made.projection(made.head(maps(seed=seed)).flatten(2).transpose(1, 2).reshape(-1, 4)))
        for seed in (0, 5)
    ]
    expected = 0.25 * (rows[0] - rows[1]).norm(dim=1).mean()
    torch.testing.assert_close(losses["consistency"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="augmented view"):
        made.losses(batch(), step=0, total_steps=9)
    assert "consistency" not in filled().losses(batch(augmented=True), step=0, total_steps=9)
    with pytest.raises(ValueError, match="affinities"):
        filled().losses(Batch(PatchFeatures(maps(), None)), step=0, total_steps=9)
    assert filled(local_positives=False).losses(Batch(PatchFeatures(maps(), None)), step=0, total_steps=9)


def test_no_positive_anywhere_is_warned_of():
    made = method()
    assert made.warnings() == []
    assert positives_warnings({"anchor_share": 0.01}) == []
    (sentence,) = positives_warnings({"anchor_share": 0.0})
    assert "no patch is more similar to another than to the reference pool" in sentence
    made.pool_agnostic.put(maps(5).flatten(2)[:, :, 0])
    made._figures = {"anchor_share": torch.zeros(())}
    assert made.warnings() == [sentence]


def test_draws_follow_the_seed_and_go_on_where_they_were():
    first, again, other = (method(seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.random_state()["pools"], again.random_state()["pools"])
    assert not torch.equal(first.random_state()["pools"], other.random_state()["pools"])
    state = first.random_state()
    drawn = [first._draw_codes(maps()) for _ in range(3)]
    again.load_state_dict(first.state_dict())
    again.restore_random_state(state)
    assert all(torch.equal(again._draw_codes(maps()), codes) for codes in drawn)


def test_the_probe_is_settled_on_the_codes_where_it_is_asked_for():
    def sample(count):
        yield maps(count, 30)

    settled, published = filled().eval(), filled(refit_probe=False).eval()
    before = [made.probe.clusters.clone() for made in (settled, published)]
    for made in (settled, published):
        made.finish(sample)
    assert not torch.equal(settled.probe.clusters, before[0])
    assert torch.equal(published.probe.clusters, before[1])


def test_clusters_are_settled_by_the_methods_own_seed(monkeypatch):
    asked = []
    monkeypatch.setattr(method_module, "refit_probe", lambda *_, **options: asked.append(options))
    method(seed=7).finish(lambda count: iter([maps(count)]))
    assert asked == [{"seed": 7}]
    assert create_method(HPSettings(**SMALL), 6, 3, seed=7).seed == 7


def unit_rows(maps):
    return nn.functional.normalize(maps.flatten(2).transpose(1, 2).reshape(-1, maps.shape[1]), dim=1)


def asked_of(monkeypatch, name):
    """What the loss of a name is called with, while it does its work."""
    asked, loss = [], getattr(method_module, name)
    monkeypatch.setattr(
        method_module, name, lambda *rows, **options: asked.append((rows, options)) or loss(*rows, **options)
    )
    return asked


@pytest.mark.parametrize("specific_alone", [False, True])
def test_what_is_set_reaches_the_loss(monkeypatch, specific_alone):
    asked = asked_of(monkeypatch, "contrastive_loss")
    made = filled(
        temperature=0.3, keep_rate=0.5, reweight=False, symmetric_positives=False, warmup_steps=2,
        task_agnostic_positives=not specific_alone,
    ).eval()  # fmt: skip
    made.losses(batch(), step=7, total_steps=12)
    ((rows, options),) = asked
    z, z_mix, features, codes, pool_agnostic, pool_specific = rows
    averaged = unit_rows(made.averaged(maps()))
    torch.testing.assert_close(z, nn.functional.normalize(made.projection(flat(made.head(maps()))), dim=1))
    mixed = mix_neighbours(made.head(maps()), affinities())
    torch.testing.assert_close(z_mix, nn.functional.normalize(made.projection(flat(mixed)), dim=1))
    torch.testing.assert_close(features, averaged if specific_alone else unit_rows(maps()))
    torch.testing.assert_close(codes, averaged)
    pools = (made.pool_specific if specific_alone else made.pool_agnostic, made.pool_specific)
    assert all(torch.equal(rows, pool.rows) for rows, pool in zip((pool_agnostic, pool_specific), pools, strict=True))
    assert options == {
        "images": 4, "temperature": 0.3, "task_specific_weight": 0.0 if specific_alone else 0.5, "keep": 0.5,
        "reweight": False, "symmetric": False, "on_positives": made._note,
    }  # fmt: skip
    plain = filled(local_positives=False)
    plain.losses(batch(), step=0, total_steps=12)
    (rows, options) = asked[-1]
    assert rows[1] is None
    assert (options["reweight"], options["symmetric"], options["keep"], options["temperature"]) == (True, True, 1, 0.4)


def test_what_is_set_reaches_the_loss_of_two_views(monkeypatch):
    asked = asked_of(monkeypatch, "view_loss")
    naive = {"task_agnostic_positives": False, "task_specific_positives": False}
    made = filled(**naive, temperature=0.3, keep_rate=0.5).eval()
    made.losses(batch(augmented=True), step=7, total_steps=12)
    (((z, z_mix), options),) = asked
    both = made.head(torch.cat([maps(), maps(seed=5)]))
    torch.testing.assert_close(z, nn.functional.normalize(made.projection(flat(both)), dim=1))
    mixed = mix_neighbours(both, affinities().repeat(2, 1, 1))
    torch.testing.assert_close(z_mix, nn.functional.normalize(made.projection(flat(mixed)), dim=1))
    assert options == {"images": 8, "temperature": 0.3, "keep": 0.5}
    filled(**naive, local_positives=False).losses(batch(augmented=True), step=0, total_steps=12)
    assert asked[-1][0][1] is None


def flat(codes):
    return codes.flatten(2).transpose(1, 2).reshape(-1, codes.shape[1])
