"""Images through a backbone: the precision of products, and nothing that waits for a GPU."""

from types import SimpleNamespace

import pytest
import torch
from squares import small_backbone
from torch._subclasses.fake_tensor import FakeTensorMode
from waits import Waits, need_pretended_tensors

from benchmarks.gpu.training import Pooled
from geohp.backbones.base import PatchFeatures
from geohp.errors import DataError
from geohp.features import sampler as sampler_module
from geohp.features.encoder import FrozenEncoder
from geohp.features.filling import FeatureJob
from geohp.features.host_copy import HostCopy
from geohp.features.sampler import FeatureSampler
from geohp.features.store import FeatureLayout
from geohp.progress import no_progress

pytestmark = pytest.mark.usefixtures("one_thread")


class GpuLike(FrozenEncoder):
    """All images at once and products in half precision, as on a GPU."""

    images_at_once = None
    half = True


def test_products_in_half_precision_give_nearly_the_same_in_float32(vit):
    images = torch.rand(3, 3, 32, 32)
    exact, half = FrozenEncoder(vit, 4)(images), GpuLike(vit, 4)(images)
    assert half.features.dtype == half.affinities.dtype == torch.float32
    error = (half.features - exact.features).norm() / exact.features.norm()
    assert 1e-5 < error < 0.03


def test_what_a_backbone_gives_in_halves_is_kept_in_full(vit, monkeypatch):
    halves = PatchFeatures(torch.rand(4, 8, 2, 2).bfloat16(), torch.rand(4, 4, 9).bfloat16())
    monkeypatch.setattr(type(vit), "forward", lambda *_: halves)
    kept = GpuLike(vit, 4)(torch.rand(4, 3, 32, 32))
    assert kept.features.dtype == kept.affinities.dtype == torch.float32


def test_callers_autocasting_changes_nothing(vit):
    images = torch.rand(3, 3, 32, 32)
    plain = FrozenEncoder(vit, 4)(images)
    with torch.autocast("cpu", torch.bfloat16):
        inside = FrozenEncoder(vit, 4)(images)
    assert torch.equal(plain.features, inside.features)
    assert torch.equal(plain.affinities, inside.affinities)


def test_features_of_another_precision_are_others(vit):
    assert "products" not in FrozenEncoder(vit, 4).identity()
    assert GpuLike(vit, 4).identity()["products"] == "bfloat16"


def test_on_a_gpu_products_are_in_half_precision_unless_exact(vit, monkeypatch):
    monkeypatch.setattr(FrozenEncoder, "device", torch.device("cuda"))
    assert FrozenEncoder(vit, 4).half
    assert not FrozenEncoder(vit, 4, exact=True).half
    monkeypatch.setattr(FrozenEncoder, "device", torch.device("mps"))
    assert not FrozenEncoder(vit, 4).half


def test_features_reach_a_gpus_memory_without_a_wait(squares, monkeypatch):
    """Of shapes and devices alone."""
    need_pretended_tensors()
    images = squares(8)
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as waits:
        with torch.device("cuda"):
            backbone = Pooled(8, 16)
        source = FeatureSampler(images, backbone, batch_size=4)
        source.encode.normalise(torch.rand(1, 3, 32, 32))  # the first time, mean and deviation go there
        batch = {"image": torch.rand(4, 3, 32, 32), "mask": torch.zeros(4, 32, 32).long(), "index": [0, 1, 2, 3]}
        layout = FeatureLayout.of(source._rows(batch, "float16"))
        monkeypatch.setattr(sampler_module, "HostCopy", lambda _: SimpleNamespace(wait=lambda: True))
        waits.seen.clear()
        job = FeatureJob(
            8, 4, layout, source.device, dict, float, lambda _: source._all_rows([batch, batch], "float16")
        )
        for chunk in job.chunks([range(8)], no_progress, source.device):
            assert chunk["features"].is_cuda
            assert chunk["features"].dtype == torch.float16
        assert waits.seen == []


def test_a_batch_is_looked_at_when_the_next_one_is_on_its_way(squares, monkeypatch):
    monkeypatch.setattr(FeatureSampler, "_ahead", 1)
    source, read = FeatureSampler(squares(8), small_backbone(), batch_size=4), []

    def batches():
        for number in range(3):
            read.append(number)
            scale = float("nan") if number == 1 else 1.0
            yield {"image": scale * torch.rand(4, 3, 32, 32), "mask": torch.zeros(4, 32, 32).long(), "index": [0] * 4}

    rows = source._all_rows(batches(), "float32")
    assert torch.isfinite(next(rows)["features"]).all()
    assert read == [0, 1]
    with pytest.raises(DataError, match="not finite numbers"):
        next(rows)


def test_tensors_of_a_cpu_are_there_at_once():
    tensor = torch.tensor([True, False])
    copy = HostCopy(tensor)
    assert copy.arrived
    assert copy.wait() is tensor
