"""The linear probe over finished codes: converged, and honest about classes without labels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import geohp
from geohp.features.sampler import FeatureSampler
from geohp.model.file import load_model
from geohp.model.runs import BEST_NAME
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


def test_a_single_class_is_said(caplog):
    source = sampler([3])
    probe = fit_linear_probe(nn.Identity(), source, source.backbone.channels, 4)
    assert "the labels hold one class" in caplog.text
    batch = next(iter(source.batches()))
    assert set(probe(source.patches(batch).features).argmax(1).unique().tolist()) == {3}


@pytest.mark.parametrize("method", ["hp", "kmeans"])
@pytest.mark.parametrize("cache", ["memory", "off"])
def test_labels_of_none_of_the_images_to_train_on_make_no_probe(tmp_path, cache, method):
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        labels = np.full((96, 96), 255) if name == "train" else np.arange(96 * 96).reshape(96, 96) // 48 % 2
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / f"{name}_labels.png")
    files = [f"data.images={tmp_path}/train.png", f"data.test_images={tmp_path}/test.png"]
    settings = [*files, f"data.labels={tmp_path}/{{stem}}_labels.png", "data.patches=4", "data.patch_px=48"]
    settings += [f"method.name={method}", "classes.count=2", "backbone.name=rcf", f"train.cache={cache}"]
    settings += ["train.device=cpu"] + (["train.epochs=1", "train.score_every=1"] if method == "hp" else [])
    run = geohp.train("orthophotos", settings, out=tmp_path / "run")
    assert any("no patch to train on is labelled" in warning for warning in run.warnings)
    assert load_model(run.folder).linear_probe is None
    if method == "hp":
        scored = (run.folder / "scores.csv").read_text().splitlines()
        assert scored[0] == "epoch,step,cluster_accuracy,cluster_miou"


def test_the_best_on_labels_has_a_probe_that_has_converged_as_the_last_has(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        Image.fromarray(rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.uint8(np.indices((96, 96))[0] // 48)).save(tmp_path / f"{name}_labels.png")
    files = [f"data.images={tmp_path}/train.png", f"data.test_images={tmp_path}/test.png"]
    settings = [*files, f"data.labels={tmp_path}/{{stem}}_labels.png", "data.patches=4", "data.patch_px=48"]
    settings += ["method.name=hp", "classes.count=2", "backbone.name=rcf", "train.device=cpu"]
    run = geohp.train("orthophotos", [*settings, "train.epochs=1", "train.score_every=1"], out=tmp_path / "run")
    last, best = (load_model(run.folder / name).linear_probe for name in ("model.safetensors", BEST_NAME))
    # Scored once, at the end: the two are the same.
    torch.testing.assert_close(best.classifier.weight, last.classifier.weight, atol=1e-3, rtol=1e-3)


def test_patches_without_a_label_make_no_probe():
    source = sampler([])
    assert fit_linear_probe(nn.Identity(), source, source.backbone.channels, 4) is None
    assert not source.is_labelled(4)
    assert sampler([3]).is_labelled(4)
    assert not sampler([3]).is_labelled(3)
