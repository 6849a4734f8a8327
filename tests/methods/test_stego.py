"""STEGO against the reference implementation's recorded numbers, and what surrounds the loss against plain formulas."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from geohp.backbones.base import PatchFeatures
from geohp.methods.base import Batch
from geohp.methods.settings import TrainingSize
from geohp.methods.stego.correspondence import Comparison, Maps, Places, Rows, sampled_rows
from geohp.methods.stego.method import STEGO
from geohp.methods.stego.settings import STEGOSettings

RECORDED = Path(__file__).parents[1] / "golden" / "stego_corr_stabilised.npz"


def reference(arrays, compare, shifts=(0.18, 0.12, 0.46), weights=(0.67, 0.25, 0.63)):
    """Losses of the three kinds of pairs, their weighted sum, its gradients and the cosines, from recorded draws."""
    given = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    given |= {name: value.float() for name, value in given.items() if value.dtype == torch.float16}
    maps, similar = (Maps(given[f"feats{which}"], given[f"code{which}"].requires_grad_()) for which in ("", "_pos"))
    points, second = given["coords1"].flatten(1, 2), given["coords2"].flatten(1, 2)
    rows = maps.at(points)
    pairs = [compare(rows, rows, shifts[0]), compare(rows, similar.at(second), shifts[1])]
    others = [compare(rows, maps.at(second, images), shifts[2]) for images in given["perms"].long()]
    pairs.append(tuple(torch.stack(values).mean() for values in zip(*others, strict=True)))
    total = sum(weight * loss for weight, (loss, _) in zip(weights, pairs, strict=True))
    gradients = torch.autograd.grad(total, [maps.codes, similar.codes])
    return [loss.detach() for loss, _ in pairs], total.detach(), gradients, [cosine for _, cosine in pairs]


def compared(arrays, compare, value, gradient):
    losses, total, gradients, cosines = reference(arrays, compare)
    for name, loss in zip(("pos_intra", "pos_inter", "neg_inter"), losses, strict=True):
        assert float(loss) == pytest.approx(float(arrays[name]), rel=value), name
    assert float(total) == pytest.approx(float(arrays["total"]), rel=value)
    assert float(cosines[0]) == pytest.approx(float(arrays["pos_intra_cd_mean"]), rel=value)
    assert float(cosines[2]) == pytest.approx(float(arrays["neg_inter_cd_mean"]), rel=value)
    for name, mine in zip(("grad_code", "grad_code_pos"), gradients, strict=True):
        theirs = torch.from_numpy(arrays[name])
        assert (mine - theirs).norm() < gradient * theirs.norm(), name


def test_loss_and_gradient_are_the_references():
    # Recorded features are rounded to half precision: that is what is left of a difference.
    compared(np.load(RECORDED), Comparison(stabilise=True), 1e-3, 1e-3)


def test_every_clamp_in_double_precision(shared):
    settings = json.loads((shared / "golden" / "manifest.json").read_text())
    for number in range(3):
        name = f"stego_corr_{number}"
        meta = settings[name]["meta"]
        compare = Comparison(meta["pointwise"], meta["zero_clamp"], meta["stabalize"])
        compared(np.load(shared / "golden" / f"{name}.npz"), compare, 1e-12, 1e-12)


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (2, 1), (1, 1)])
def test_points_are_interpolated_as_grid_sample_does(size):
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 6, *size, generator=generator, dtype=torch.float64).requires_grad_()
    points = torch.rand(3, 9, 2, generator=generator, dtype=torch.float64) * 2 - 1
    points[0, :4] = torch.tensor([[-1.0, -1], [1, 1], [1, -1], [0, 0]])
    images = torch.tensor([2, 0, 2])
    expected = F.grid_sample(maps[images], points[:, None], padding_mode="border", align_corners=True)[:, :, 0]
    expected = F.normalize(expected.transpose(1, 2), dim=2)
    mine = sampled_rows(maps, points, images)
    torch.testing.assert_close(mine, expected)
    upstream = torch.randn(mine.shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(*(torch.autograd.grad(rows, maps, upstream)[0] for rows in (mine, expected)))


def test_without_centring_the_loss_is_the_papers_equation():
    generator = torch.Generator().manual_seed(2)
    first, second = (
        Rows(*(F.normalize(torch.randn(2, 4, width, generator=generator), dim=2) for width in (6, 3))) for _ in "ab"
    )
    loss, cosine = Comparison(pointwise=False)(first, second, 0.1)
    terms, cosines = [], []
    for image in range(2):
        for i in range(4):
            for j in range(4):
                similar = float(first.features[image, i] @ second.features[image, j])
                cosines.append(float(first.codes[image, i] @ second.codes[image, j]))
                terms.append(-max(cosines[-1], 0) * (similar - 0.1))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(cosine) == pytest.approx(np.mean(cosines), rel=1e-5)


@pytest.mark.parametrize("images", [2, 3, 8])
def test_no_image_is_its_own_random_pair(images):
    places = Places.draw(images, 5, 40, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert places.others.shape == (40, images)
    assert (places.others != torch.arange(images)).all()
    assert ((places.others >= 0) & (places.others < images)).all()
    assert places.first.abs().max() <= 1
    assert not torch.equal(places.first, places.second)
    if images > 2:
        assert len({tuple(order.tolist()) for order in places.others}) > 2


def test_a_single_image_has_no_random_pairs():
    assert len(Places.draw(1, 5, 3, torch.Generator(), torch.device("cpu")).others) == 0


def make(settings=None, **options):
    torch.manual_seed(3)
    settings = settings or STEGOSettings(code_channels=5, samples=3, random_pairs=2)
    return STEGO(12, 4, settings, **options)


def batch(images=4, side=6, labels=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    views = [PatchFeatures(torch.randn(images, 12, side, side, generator=generator)) for _ in range(2)]
    masks = torch.randint(0, 3, (images, 24, 24), generator=generator) if labels else None
    return Batch(views[0], neighbours=views[1], labels=masks)


def step(method, given, at=0):
    return method.losses(given, step=at, total_steps=10)


def test_a_step_has_every_term_with_its_weight_and_repeats_after_its_random_state():
    method, given = make(label_classes=3), batch(labels=True)
    state, torch_state = method.random_state(), torch.get_rng_state()
    losses = step(method, given)
    assert set(losses) == {
        "correspondence_self", "correspondence_neighbour", "correspondence_random", "cluster", "linear",
    }  # fmt: skip
    following = step(method, given)
    assert following["correspondence_self"] != losses["correspondence_self"]
    method.restore_random_state(state)
    torch.set_rng_state(torch_state)
    assert step(method, given) == losses
    doubled = make(
        STEGOSettings(
            code_channels=5, samples=3, random_pairs=2, self_weight=1.34, neighbour_weight=0.5, random_weight=1.26
        ),
        label_classes=3,
    )
    doubled.load_state_dict(method.state_dict())
    doubled.restore_random_state(state)
    torch.set_rng_state(torch_state)
    for name, value in step(doubled, given).items():
        assert value == (2 * losses[name] if name.startswith("corr") else losses[name]), name


def test_each_shift_moves_its_own_term():
    losses = {}
    for name in (None, "self_shift", "neighbour_shift", "random_shift"):
        shift = {} if name is None else {name: 0.9}
        method = make(STEGOSettings(code_channels=5, samples=3, random_pairs=2, **shift))
        torch.manual_seed(4)
        losses[name] = step(method, batch())
    for kind in ("self", "neighbour", "random"):
        changed = {
            name for name in losses if losses[name][f"correspondence_{kind}"] != losses[None][f"correspondence_{kind}"]
        }
        assert changed == {f"{kind}_shift"}


def test_probes_do_not_teach_the_head():
    method = make(label_classes=3)
    losses = step(method, batch(labels=True))
    torch.autograd.backward(losses["cluster"] + losses["linear"])
    assert all(weight.grad is None for weight in method.head.parameters())
    assert all(weight.grad is not None for weight in [*method.probe.parameters(), *method.linear_probe.parameters()])


def test_dropout_reaches_the_features_that_are_compared():
    method = make(STEGOSettings(code_channels=5, samples=3, dropout=0.5, self_weight=1.0))
    method.head.drop.p = 0.0
    state = method.random_state()
    values = set()
    for seed in range(3):
        method.restore_random_state(state)
        torch.manual_seed(seed)
        values.add(step(method, batch())["correspondence_self"].item())
    assert len(values) == 3


def test_features_of_similar_images_are_dropped_out_too(monkeypatch):
    method, given, dropped = make(), batch(), []
    monkeypatch.setattr(method.drop, "forward", lambda maps: dropped.append(maps) or maps)
    step(method, given)
    assert [maps is each.features for maps, each in zip(dropped, (given.patches, given.neighbours), strict=True)] == [
        True, True,
    ]  # fmt: skip


def test_similar_images_are_looked_at_in_other_points():
    method, patches = make(STEGOSettings(code_channels=5, samples=3, dropout=0.0)), batch().patches
    step(method, Batch(patches, neighbours=patches))
    figures = method.step_figures()
    assert figures["similarity_self"] != pytest.approx(figures["similarity_neighbour"].item(), abs=1e-3)


def test_similar_images_are_asked_for_only_where_they_count():
    assert make().nearest_images == 7
    method = make(STEGOSettings(code_channels=5, samples=3, neighbour_weight=0.0))
    assert method.nearest_images == 0
    assert set(step(method, Batch(batch().patches))) == {"correspondence_self", "correspondence_random", "cluster"}
    with pytest.raises(ValueError, match="similar image"):
        step(make(), Batch(batch().patches))


def test_training_brings_codes_of_like_features_together():
    """Three kinds of patches: after some steps a code is nearer to those of its kind than to the others."""
    generator = torch.Generator().manual_seed(5)
    kinds = 3 * torch.linalg.qr(torch.randn(12, 3, generator=generator)).Q.T
    members = torch.randint(0, 3, (8, 6, 6), generator=generator)
    features = (kinds[members] + 0.3 * torch.randn(8, 6, 6, 12, generator=generator)).permute(0, 3, 1, 2)
    given = Batch(PatchFeatures(features), neighbours=PatchFeatures(features.roll(1, 0)))
    shifts = {f"{kind}_shift": 0.5 for kind in ("self", "neighbour", "random")}
    method = make(STEGOSettings(code_channels=5, samples=6, **shifts))
    torch.manual_seed(6)
    optimizers = method.optimizers()
    for at in range(100):
        losses = step(method, given, at)
        for optimizer in optimizers:
            optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        for optimizer in optimizers:
            optimizer.step()
    method.eval()
    codes = F.normalize(method.head(features).permute(0, 2, 3, 1).reshape(-1, 5), dim=1).detach()
    alike = members.flatten()[:, None] == members.flatten()
    cosines = codes @ codes.T
    assert cosines[alike].mean() > 0.9
    assert cosines[~alike].mean() < 0
    assert 0 < method.figures()["similarity_random"] < 0.5


def test_pairs_that_are_all_alike_are_told_with_their_shift():
    method = make()
    assert method.warnings() == []
    alike = torch.ones(4, 12, 6, 6)
    step(method.eval(), Batch(PatchFeatures(alike), neighbours=PatchFeatures(-alike)))
    assert [sentence.rpartition("method.")[2] for sentence in method.warnings()] == ["self_shift", "random_shift"]


def test_optimisers_are_adam_at_the_published_rates():
    rates = [(type(each).__name__, each.defaults["lr"]) for each in make(label_classes=3).optimizers()]
    assert rates == [("Adam", 5e-4), ("Adam", 5e-3), ("Adam", 5e-3)]


def test_settings_shrink_with_the_data_and_say_so():
    settings, notes = STEGOSettings().resolve(TrainingSize(images=4, batch_size=1, devices=1, epochs=1))
    assert settings.nearest_images == 3
    assert "method.nearest_images = 7" in notes[0]
    assert "train.batch_size = 1" in notes[1]
    settings, notes = STEGOSettings().resolve(TrainingSize(images=100, batch_size=16, devices=1, epochs=1))
    assert (settings.nearest_images, notes) == (7, [])
