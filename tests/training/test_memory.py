"""Out of memory while training: the batch is taken in parts, and every part counts by its images."""

import copy

import lightning as L
import pytest
import torch
from squares import Squares, small_backbone

from geohp.backbones.base import PatchFeatures
from geohp.backbones.memory import half_as_many
from geohp.errors import ModelError
from geohp.features.encoder import FrozenEncoder
from geohp.features.filling import CacheOptions
from geohp.features.sampler import FeatureSampler
from geohp.methods.base import Batch
from geohp.methods.hp.head import EMAHead, SegmentationHead
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings
from geohp.training.batches import FeatureBatches
from geohp.training.figures import FiguresReader
from geohp.training.task import MethodTask


class SmallMemory(HP):
    """A method that a device has room for so many images of."""

    room = 100
    tried = ()

    def losses(self, batch, *, step, total_steps):
        self.tried = (*self.tried, len(batch))
        if len(batch) > self.room:
            raise torch.OutOfMemoryError("as provoked")
        return super().losses(batch, step=step, total_steps=total_steps)


def trained(tmp_path, room):
    features = FeatureSampler(Squares(9), small_backbone(), batch_size=4)
    features.cache(CacheOptions("memory"))
    torch.manual_seed(0)
    method = SmallMemory(features.backbone.channels, 3, HPSettings(code_channels=8, pool_size=8, dropout=0.0))
    method.room = room
    method.prepare(features.sample)
    start = copy.deepcopy(method)
    task = MethodTask(method, features, 2)
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[FiguresReader()], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(task, FeatureBatches(task))
    return task, start


def test_a_step_that_has_not_the_memory_goes_on_with_half(tmp_path, caplog):
    task, _ = trained(tmp_path, room=2)
    assert task.method.tried == (4, 2, 2, 2, 2)
    assert task.steps_done == 2
    assert "cpu ran out of memory; going on with 2 images at once" in caplog.text


def test_of_several_processes_none_goes_on_with_half(tmp_path, monkeypatch):
    task, _ = trained(tmp_path, room=4)
    task.method.room = 2
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    batch = Batch(task.features.patches(next(iter(task.features.batches()))))
    with pytest.raises(ModelError, match=r"not enough memory for a step on 4 images; set train\.batch_size lower"):
        task._accumulate_gradients(batch, task.method.optimizers())


def test_parts_give_what_their_mean_gives(tmp_path):
    """The first step by hand: gradients of both halves' losses, half of each."""
    task, method = trained(tmp_path, room=2)
    method.room = 100
    optimizers = method.optimizers()
    features = task.features
    for number, batch in enumerate(features.batches()):
        method.before_step(number, features.sample)
        parts = list(Batch(features.patches(batch), labels=batch.get("mask")).parts(2))
        assert [(len(part), part.share) for part in parts] == [(2, 0.5), (2, 0.5)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        total = 0
        for part in parts:
            total += torch.stack(list(method.losses(part, step=number, total_steps=2).values())).sum() / 2
        total.backward()
        method.clip_gradients()
        for optimizer in optimizers:
            optimizer.step()
    for name, value in task.method.head.state_dict().items():
        torch.testing.assert_close(value, method.head.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_no_room_for_a_single_image_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="not enough memory for a step on a single image"):
        trained(tmp_path, room=0)


def test_parts_of_a_batch_are_all_of_it():
    maps, affinities = torch.randn(5, 3, 2, 2), torch.rand(5, 4, 9)
    batch = Batch(PatchFeatures(maps, affinities), PatchFeatures(maps + 1), labels=torch.arange(5)[:, None, None])
    parts = list(batch.parts(2))
    assert [len(part) for part in parts] == [3, 2]
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert torch.equal(torch.cat([part.patches.affinities for part in parts]), affinities)
    assert torch.equal(torch.cat([part.augmented.features for part in parts]), maps + 1)
    assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)
    assert parts[0].masks is None
    assert len(list(batch.parts(7))) == 5


def test_the_average_moves_as_far_in_two_halves_as_at_once():
    torch.manual_seed(0)
    head, other = SegmentationHead(4, 3), SegmentationHead(4, 3)
    whole, halves = EMAHead(head, 0.9), EMAHead(head, 0.9)
    whole.update(other)
    halves.update(other, 0.5)
    halves.update(other, 0.5)
    for a, b in zip(whole.head.parameters(), halves.head.parameters(), strict=True):
        torch.testing.assert_close(a, b)


class GpuLike(FrozenEncoder):
    """All images at once, as on a GPU."""

    images_at_once = None


def test_an_encoder_without_the_memory_takes_fewer_and_remembers(caplog):
    backbone, images = small_backbone(), torch.rand(7, 3, 32, 32)
    wanted = GpuLike(backbone, 7)(images)
    encoder, tried, right = GpuLike(backbone, 7), [], backbone.forward

    def forward(lot, affinities=True):
        tried.append(len(lot))
        if len(lot) > 3:
            raise torch.OutOfMemoryError("as provoked")
        return right(lot, affinities)

    backbone.forward = forward
    got = encoder(images)
    assert tried == [7, 4, 2, 2, 2, 1]
    torch.testing.assert_close(got.features, wanted.features, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.affinities, wanted.affinities, rtol=1e-4, atol=1e-4)
    tried.clear()
    encoder(images[:2])
    assert tried == [2]
    assert "going on with 4 images at once" in caplog.text
    backbone.forward = lambda lot, affinities=True: (_ for _ in ()).throw(torch.OutOfMemoryError("none at all"))
    with pytest.raises(ModelError, match="the features of a single image"):
        encoder(images)


def test_half_is_rounded_up():
    assert [half_as_many(count, torch.device("cpu"), "images") for count in (2, 3, 64)] == [1, 2, 32]
