"""MaskContrast against its formulas: loss, keys, queue, and which masks are negatives."""

import math

import pytest
import torch
import torch.nn.functional as F

from geohp.backbones.base import PatchFeatures
from geohp.methods.base import Batch
from geohp.methods.maskcontrast import loss as loss_module
from geohp.methods.maskcontrast import method as method_module
from geohp.methods.maskcontrast.loss import mask_contrast_loss, mask_means, near_equal, numbered
from geohp.methods.maskcontrast.method import MaskContrast
from geohp.methods.maskcontrast.queue import MaskQueue
from geohp.methods.maskcontrast.settings import LearningRates, MaskContrastSettings


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=-1)


def formula(z, numbers, keys, others, excluded, tau):
    """The paper's equation patch by patch, nothing shared with ours."""
    terms = []
    for i, mask in enumerate(numbers.tolist()):
        if mask < 0:
            continue
        positive = math.e ** ((z[i] * keys[mask]).sum() / tau)
        negatives = [math.e ** ((z[i] * others[k]).sum() / tau) for k in range(len(others)) if not excluded[mask, k]]
        terms.append(-torch.log(positive / (positive + sum(negatives))))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("at_once", [1, 40, 1 << 24])
def test_loss_is_the_papers_in_value_and_gradient(monkeypatch, at_once):
    monkeypatch.setattr(loss_module, "_AT_ONCE", at_once)
    numbers = torch.tensor([0, 0, 1, -1, 2, 2, 2, -1, 1, 3])
    keys, others = unit(4, 6, seed=1), torch.cat([unit(4, 6, seed=1), unit(5, 6, seed=2)])
    excluded = torch.rand(4, 9, generator=torch.Generator().manual_seed(3)) < 0.3
    excluded.diagonal().fill_(True)
    ours, theirs = (unit(10, 6).requires_grad_() for _ in range(2))
    value = mask_contrast_loss(ours, numbers, keys, others, excluded, 0.5)
    expected = formula(theirs, numbers, keys, others, excluded, 0.5)
    value.backward()
    expected.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)
    assert not ours.grad[3].any()
    assert ours.grad[0].any()


def test_without_a_mask_there_is_no_loss():
    z = unit(4, 6).requires_grad_()
    value = mask_contrast_loss(z, torch.full((4,), -1), unit(0, 6), unit(3, 6), torch.zeros(0, 3).bool(), 0.5)
    value.backward()
    assert value.item() == 0
    assert not z.grad.any()


def test_masks_of_different_images_are_different_masks():
    masks = torch.tensor([[[0, 0], [-1, 7]], [[-1, 0], [7, 7]]])
    numbers, count = numbered(masks)
    assert (numbers.tolist(), count) == ([0, 0, -1, 1, -1, 2, 3, 3], 4)
    assert numbered(torch.full((1, 2, 2), -1))[1] == 0


def test_mean_of_a_mask():
    rows = unit(5, 4)
    means = mask_means(rows, torch.tensor([1, 0, 1, -1, 1]), 2)
    torch.testing.assert_close(means[0], rows[1])
    torch.testing.assert_close(means[1], F.normalize((rows[0] + rows[2] + rows[4]) / 3, dim=0))


def test_near_equal_masks_and_a_mask_itself_are_no_negatives():
    features = F.normalize(torch.tensor([[1.0, 0, 0], [1, 0.2, 0], [0, 1, 0]]), dim=1)
    others = torch.cat([features, F.normalize(torch.tensor([[0.1, 1.0, 0], [0, 0, 1]]), dim=1)])
    assert near_equal(features, others, 0.9).int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]
    assert near_equal(features, others, 1.0).int().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]


def test_queue_keeps_the_last_masks():
    queue, code, feature = MaskQueue(5, 2, 3), torch.arange(12.0), torch.arange(12.0) * 10
    assert len(queue.rows()[0]) == 0

    def add(first, last):
        queue.enqueue(code[first:last, None].expand(-1, 2), feature[first:last, None].expand(-1, 3))
        codes, features = queue.rows()
        assert (codes[:, 0] * 10).tolist() == features[:, 2].tolist()
        return sorted(codes[:, 0].tolist())

    assert add(0, 3) == [0, 1, 2]
    assert add(3, 6) == [1, 2, 3, 4, 5]
    assert add(6, 7) == [2, 3, 4, 5, 6]
    assert add(0, 12) == [7, 8, 9, 10, 11]
    assert add(0, 2) == [0, 1, 9, 10, 11]
    copy = MaskQueue(5, 2, 3)
    copy.load_state_dict(queue.state_dict())
    copy.enqueue(code[5:6, None].expand(-1, 2), feature[5:6, None].expand(-1, 3))
    assert sorted(copy.rows()[0][:, 0].tolist()) == [0, 1, 5, 10, 11]


def batch(seed, images=2, channels=12, side=4, augmented=False):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, side, side, generator=generator)
    masks = torch.randint(-1, 4, (images, side, side), generator=generator)
    other = PatchFeatures(torch.randn(images, channels, side, side, generator=generator)) if augmented else None
    return Batch(PatchFeatures(features), other, masks=masks)


def method_of(**settings):
    torch.manual_seed(0)
    settings = MaskContrastSettings(**{"dropout": 0.0, "code_channels": 6, "queue_size": 9, **settings})
    method = MaskContrast(12, 3, settings)
    method.prepare(lambda count: iter([torch.randn(8, 12, 4, 4, generator=torch.Generator().manual_seed(9)) * 2 + 0.2]))
    with torch.no_grad():  # the averaged head is to be told from the head
        for parameter in method.averaged.parameters():
            parameter.mul_(1.5)
    return method


def rows(maps):
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("cosine", [0.1, 1.0])
def test_steps_are_the_papers(augmented, cosine):
    method = method_of(near_equal=cosine, augmented_keys=augmented)
    earlier_keys, earlier_means = torch.empty(0, 6), torch.empty(0, 12)
    for step in range(4):
        step_batch = batch(step, augmented=augmented)
        averaged = [
            0.999 * a + 0.001 * h for a, h in zip(method.averaged.parameters(), method.head.parameters(), strict=True)
        ]
        value = method.losses(step_batch, step=step, total_steps=4)["contrastive"]
        for ours, expected in zip(method.averaged.parameters(), averaged, strict=True):
            torch.testing.assert_close(ours, expected)
        numbers, count = numbered(step_batch.masks)
        features = step_batch.patches.features
        view = step_batch.augmented.features if augmented else features
        with torch.no_grad():
            averaged_codes = F.normalize(rows(method.averaged.head(view)), dim=1)
            standard = (rows(features) - method.standardise.mean) / method.standardise.deviation
            keys = torch.stack([F.normalize(averaged_codes[numbers == m].mean(0), dim=0) for m in range(count)])
            means = torch.stack([F.normalize(standard[numbers == m].mean(0), dim=0) for m in range(count)])
        others = torch.cat([keys, earlier_keys])
        other_means = torch.cat([means, earlier_means])
        excluded = torch.tensor(
            [
                [m == k or (cosine < 1 and float(means[m] @ other_means[k]) >= cosine) for k in range(len(others))]
                for m in range(count)
            ]
        )
        assert 0 < excluded.float().mean() < 0.9
        assert (int(excluded.sum()) > count) == (cosine < 1)
        z = F.normalize(rows(method.head(features)), dim=1)
        expected = formula(z, numbers, keys, others, excluded, 0.5)
        assert value.item() == pytest.approx(expected.item(), rel=1e-5)
        gradient = torch.autograd.grad(value, method.head.linear.weight, retain_graph=True)[0]
        torch.testing.assert_close(
            gradient, torch.autograd.grad(expected, method.head.linear.weight)[0], rtol=1e-4, atol=1e-6
        )
        earlier_keys, earlier_means = torch.cat([earlier_keys, keys])[-9:], torch.cat([earlier_means, means])[-9:]
        for optimizer in method.optimizers():
            value.backward()
            optimizer.step()


def test_it_tells_of_what_cannot_be_learnt_from():
    method = method_of()
    step_batch = batch(0)
    method.losses(Batch(step_batch.patches, masks=torch.full_like(step_batch.masks, -1)), step=0, total_steps=1)
    assert "no patch lies in a mask" in method.warnings()[0]
    method = method_of(near_equal=1e-9)
    method.losses(Batch(PatchFeatures(torch.ones(2, 12, 4, 4)), masks=step_batch.masks), step=0, total_steps=1)
    assert "method.near_equal" in method.warnings()[0]
    method = method_of()
    method.losses(step_batch, step=0, total_steps=1)
    assert method.warnings() == []
    assert method.figures()["masks"] == numbered(step_batch.masks)[1] / 2
    assert 0 < method.figures()["negative_share"] < 1
    all_negative = method_of(near_equal=1.0)  # but for each mask itself, which does not count
    all_negative.losses(step_batch, step=0, total_steps=1)
    assert all_negative.figures()["negative_share"] == 1
    assert method.figures()["masked_share"] == pytest.approx(float((step_batch.masks >= 0).float().mean()))


def test_what_is_set_reaches_its_parts(monkeypatch):
    rates, seeds = LearningRates(head=2e-3, weight_decay=0.3), {}
    monkeypatch.setattr(
        method_module, "gather_rows", lambda *rest: seeds.update(measured=rest[-1]) or torch.randn(20, 12)
    )
    monkeypatch.setattr(method_module, "refit_probe", lambda *_, seed=0: seeds.update(settled=seed))
    method = MaskContrast(12, 3, MaskContrastSettings(dropout=0.3, clip_norm=1e-3, learning_rates=rates), seed=7)
    method.prepare(None)
    method.finish(None)
    assert seeds == {"measured": 7, "settled": 7}
    assert (method.head.drop.p, method.averaged.head.drop.p) == (0.3, 0.3)
    (optimizer,) = method.optimizers()
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (2e-3, 0.3)
    assert (method.head_learning_rate, method.gradient_bound) == (2e-3, 1e-3)
    method.losses(batch(0), step=0, total_steps=1)["contrastive"].backward()
    method.clip_gradients()
    gradient = torch.cat([parameter.grad.flatten() for parameter in method.head.parameters()])
    assert float(gradient.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert method.figures()["gradient_norm"] > 1e-3


def test_it_learns_what_masks_share():
    """Features with two planted parts: one that masks share, and a louder one that differs within a mask."""
    generator = torch.Generator().manual_seed(4)
    kinds = torch.eye(8)[:4]
    method = MaskContrast(
        16,
        4,
        MaskContrastSettings(code_channels=8, dropout=0.0, ema_momentum=0.9, learning_rates=LearningRates(head=5e-3)),
    )

    def draw():
        kind = torch.randint(4, (4, 4), generator=generator)  # of the four quarters of each of four images
        masks = torch.arange(4).view(1, 2, 2).repeat_interleave(4, 1).repeat_interleave(4, 2).expand(4, -1, -1)
        kind = kind.gather(1, masks.flatten(1)).view(4, 8, 8)
        noise = 1.5 * torch.randn(4, 8, 8, 8, generator=generator)
        return torch.cat([kinds[kind], noise], -1).permute(0, 3, 1, 2), masks, kind

    def purity():
        features, _, kind = draw()
        codes = F.normalize(rows(method.head(features)), dim=1)
        same = kind.flatten()[:, None] == kind.flatten()
        cosines = (codes @ codes.T).detach()
        return float(cosines[same].mean() - cosines[~same].mean())

    method.prepare(lambda count: iter([draw()[0]]))
    before = purity()
    (optimizer,) = method.optimizers()
    for step in range(60):
        features, masks, _ = draw()
        optimizer.zero_grad()
        method.losses(Batch(PatchFeatures(features), masks=masks), step=step, total_steps=60)["contrastive"].backward()
        optimizer.step()
    assert before < 0.3
    assert purity() > 0.6


def test_parts_of_a_batch_move_the_averaged_head_as_far_as_all_of_it():
    method = method_of(ema_momentum=0.25)
    expected = [
        0.25 * a + 0.75 * h for a, h in zip(method.averaged.parameters(), method.head.parameters(), strict=True)
    ]
    for part in batch(0, images=4).parts(2):
        method.losses(part, step=0, total_steps=1)
    for average, parameter in zip(method.averaged.parameters(), expected, strict=True):
        torch.testing.assert_close(average, parameter)
