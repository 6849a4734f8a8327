"""The aerial backbone against its package's own forward pass, and against the network written out plainly."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import geohp
from geohp.backbones import aerial_weights
from geohp.backbones.aerial import STRIDES, WIDTHS, AerialNetwork
from geohp.backbones.aerial_weights import is_packaged
from geohp.backbones.factory import create_backbone, create_backbone_for_bands
from geohp.backbones.names import check_backbone
from geohp.backbones.weights import fingerprint
from geohp.errors import ConfigError, WeightsError
from geohp.inference.segmenter import Segmenter
from geohp.model.file import save_model
from geohp.options import FitOptions
from geohp.raster.read.scene import open_scene

# Recorded by geoembed 1.1.2 itself (netcl 0.4.4 on pocl 3.0) from its own weights: an image (64, 64, 3) uint8 of ramps
# and noise, and each stage's activations averaged over 16 x 16 px as (C, 4, 4) float32.
GOLDEN = Path(__file__).parents[1] / "golden" / "aerial.npz"


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_arrays(stages: int = 4) -> dict[str, np.ndarray]:
    """Random weights in the layout of the package's file."""
    random = np.random.default_rng(0)
    arrays = {"embed_dim": np.array([256], np.int32), "base_channels": np.array([64], np.int32)}

    def add(convolution: str, norm: str, *shape: int) -> None:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        arrays[f"{convolution}.weight"] = (random.standard_normal(shape) * scale).astype(np.float32)
        for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.5, 0.5), ("running_mean", -0.5, 0.5)):
            arrays[f"{norm}.{name}"] = random.uniform(low, high, shape[0]).astype(np.float32)
        arrays[f"{norm}.running_var"] = random.uniform(0.5, 2, shape[0]).astype(np.float32)

    add("bb.stem.0", "bb.stem.1", 64, 3, 3, 3)
    width_in = 64
    for number, width in enumerate(WIDTHS[:stages], 1):
        for index in range(2):
            block = f"bb.layer{number}.{index}"
            add(f"{block}.conv1", f"{block}.bn1", width, width_in, 3, 3)
            add(f"{block}.conv2", f"{block}.bn2", width, width, 3, 3)
            if width != width_in:
                add(f"{block}.short.0", f"{block}.short.1", width, width_in, 1, 1)
            width_in = width
    return arrays


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return random_arrays()


@pytest.fixture(scope="module")
def weights(arrays, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "v3.npz"
    np.savez(path, **arrays)
    return path


def plain_stages(images: torch.Tensor, arrays: dict[str, np.ndarray]) -> list[torch.Tensor]:
    """The network as its authors write it: convolutions, then batch normalisation at rest."""
    values = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def norm(maps: torch.Tensor, name: str) -> torch.Tensor:
        running = values[f"{name}.running_mean"], values[f"{name}.running_var"]
        return F.batch_norm(maps, *running, values[f"{name}.weight"], values[f"{name}.bias"])

    def block(maps: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        inner = F.relu(norm(F.conv2d(maps, values[f"{name}.conv1.weight"], None, stride, 1), f"{name}.bn1"))
        inner = norm(F.conv2d(inner, values[f"{name}.conv2.weight"], None, 1, 1), f"{name}.bn2")
        if f"{name}.short.0.weight" in values:
            maps = norm(F.conv2d(maps, values[f"{name}.short.0.weight"], None, stride), f"{name}.short.1")
        return F.relu(inner + maps)

    maps = F.relu(norm(F.conv2d(images, values["bb.stem.0.weight"], None, 1, 1), "bb.stem.1"))
    stages = []
    for number in range(1, 5):
        maps = block(maps, f"bb.layer{number}.0", 1 if number == 1 else 2)
        maps = block(maps, f"bb.layer{number}.1", 1)
        stages.append(maps)
    return stages


def patch_means(maps: torch.Tensor, stride: int, patch: int) -> torch.Tensor:
    side = patch // stride
    return maps.unflatten(2, (-1, side)).unflatten(4, (-1, side)).mean((3, 5))


@pytest.mark.parametrize(("stages", "patch"), [((1,), 5), ((2,), 8), ((1, 3), 4), ((1, 2, 3, 4), 16)])
def test_features_are_those_of_the_plain_network(stages, patch, weights, arrays):
    network = create_backbone("aerial", weights=weights, stages=stages, patch_size=patch)
    images = noise(2, 3, 3 * patch, 4 * patch)
    expected = plain_stages(images, arrays)
    expected = torch.cat([patch_means(expected[stage - 1], STRIDES[stage - 1], patch) for stage in stages], 1)
    features = network(images).features
    assert features.shape == (2, network.channels, 3, 4)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_patches_that_are_no_multiple_of_a_stride_share_what_lies_between_them(weights, arrays):
    network = create_backbone("aerial3", weights=weights, patch_size=14)
    images = noise(1, 3, 28, 28)
    stage = plain_stages(images, arrays)[2]  # of 7 x 7 steps of 4 px: the fourth belongs to two patches
    expected = torch.stack([stage[..., :4], stage[..., 3:]], -1).mean(3)
    expected = torch.stack([expected[:, :, :4], expected[:, :, 3:]], 2).mean(3)
    features = network(images).features
    assert (network.name, network.parts, network.channels) == ("aerial3", (64, 128, 256), 448)
    torch.testing.assert_close(features[:, 192:], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(find_spec("geoembed") is None, reason="needs the weights of the package geoembed")
def test_activations_are_those_that_the_package_computes():
    network = create_backbone("aerial", stages=(1, 2, 3, 4), patch_size=16)
    assert network.weights_source == "geoembed 1.1.2"
    assert not {"geoembed", "netcl"} & set(sys.modules)
    with np.load(GOLDEN) as golden:
        image = torch.from_numpy(golden["image"]).permute(2, 0, 1)[None] / 255
        expected = torch.from_numpy(np.concatenate([golden[f"stage{stage}"] for stage in (1, 2, 3, 4)]))
    mean, std = (torch.tensor(values)[:, None, None] for values in (network.mean, network.std))
    torch.testing.assert_close(network((image - mean) / std).features[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("stage", "reach"), [(1, 5), (2, 12), (3, 26), (4, 54)])
def test_a_patch_sees_so_far_and_no_farther(stage, reach, weights):
    network = create_backbone("aerial", weights=weights, stages=(stage,), patch_size=8)
    image = noise(1, 3, 160, 160)
    features = network(image).features[0, :, 10, 10]  # rows and columns 80 to 87
    changed = image.clone()
    changed[..., : 80 - reach] += 1
    changed[..., 88 + reach :] += 1
    torch.testing.assert_close(network(changed).features[0, :, 10, 10], features, rtol=1e-4, atol=1e-4)
    nearer = image.clone()
    nearer[..., 80 - reach] += 1
    assert not torch.allclose(network(nearer).features[0, :, 10, 10], features, rtol=1e-7, atol=1e-7)


def test_a_window_gives_what_the_whole_image_gives_away_from_its_rim(weights):
    network = create_backbone("aerial", weights=weights, stages=(1, 2))
    image = noise(1, 3, 80, 80)
    whole, window = network(image).features, network(image[..., 16:72, 8:64]).features
    torch.testing.assert_close(window[..., 2:-2, 2:-2], whole[..., 4:7, 3:6], rtol=1e-4, atol=1e-4)


def test_features_do_not_depend_on_company(weights):
    network = create_backbone("aerial", weights=weights)
    images = noise(3, 3, 16, 24)
    together = network(images).features
    assert torch.equal(together, torch.cat([network(image[None]).features for image in images]))


def test_affinities_tell_neighbours_apart(weights):
    network = create_backbone("aerial", weights=weights)
    images = noise(1, 3, 32, 64) * 0.05
    images[..., 32:] += noise(1, 3, 32, 32, seed=1)
    affinities = network(images).affinities.reshape(4, 8, 9)
    # On either side of the border between smooth and rough, the neighbour across it counts for less.
    assert bool((affinities[1:-1, 3, 3] > affinities[1:-1, 3, 5]).all())
    assert network(images, affinities=False).affinities is None


def test_only_what_is_needed_is_computed_and_kept(weights):
    shallow, deep = (create_backbone("aerial", weights=weights, stages=stages) for stages in ((1,), (1, 2)))
    assert sum(p.numel() for p in shallow.parameters()) == 3 * 64 * 9 + 4 * 64 * 64 * 9 + 5 * 64
    assert len(deep.stage_maps(noise(1, 3, 8, 8))) == 2
    assert not any(parameter.requires_grad for parameter in deep.parameters())
    assert not deep.train().training


def test_options_build_it_again(weights):
    network = create_backbone("aerial", weights=weights, stages=[3, 1, 1], patch_size=12)
    assert network.options() == {"stages": [1, 3], "patch_size": 12}
    again = create_backbone("aerial", weights="random", **network.options())
    again.load_state_dict(network.state_dict())
    assert fingerprint(again) == fingerprint(network)
    assert torch.equal(again(noise(1, 3, 12, 12)).features, network(noise(1, 3, 12, 12)).features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": ()}, "stages must be"),
        ({"stages": (0,)}, "stages must be"),
        ({"stages": (1, 5)}, "stages must be"),
        ({"stages": (3,), "patch_size": 3}, "at least 4, the stride of stage 3"),
        ({"patch_size": 0}, "patch_size"),
        ({"filters": 3}, "no option 'filters'"),
    ],
)
def test_impossible_options(options, message):
    with pytest.raises(ConfigError, match=message):
        create_backbone("aerial", weights="random", **options)


def test_images_that_do_not_fit():
    network = AerialNetwork(patch_size=8)
    with pytest.raises(ValueError, match="multiples of its patch size 8 px, not 8 x 10 px"):
        network(noise(1, 3, 8, 10))
    with pytest.raises(ValueError, match="3 bands, not 4"):
        network(noise(1, 4, 8, 8))
    with pytest.raises(ConfigError, match="4 band"):
        create_backbone_for_bands("aerial", 4, weights="random")


def test_weights_that_are_no_weights(tmp_path, arrays):
    file = tmp_path / "weights.npz"
    with pytest.raises(WeightsError, match="holds no weights of the aerial"):
        create_backbone("aerial", weights=file)
    file.write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(WeightsError, match="holds no weights of the aerial"):
        create_backbone("aerial", weights=file)
    few = {name: array for name, array in arrays.items() if "layer" not in name}
    np.savez(file, **few)
    with pytest.raises(WeightsError, match=r"layer1\.0\.conv1"):
        create_backbone("aerial", weights=file)
    np.savez(file, **{**few, "bb.stem.0.weight": np.zeros((32, 3, 3, 3), np.float32)})
    with pytest.raises(WeightsError, match="32, 3, 3, 3"):
        create_backbone("aerial", weights=file)
    np.savez(file, **{**arrays, "bb.stem.0.weight": arrays["bb.stem.0.weight"] * np.nan})
    with pytest.raises(WeightsError, match=r"bb\.stem\.0 is not finite"):
        create_backbone("aerial", weights=file)
    np.savez(file, **{**few, "bb.stem.0.weight": np.array([print], dtype=object)})
    with pytest.raises(WeightsError, match="allow_pickle"):
        create_backbone("aerial", weights=file)


def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path | None) -> None:
    """A package of that name which must not be imported, alone on the path."""
    package = tmp_path / "geoembed"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    if weights is not None:
        (package / "weights" / "v3.npz").write_bytes(weights.read_bytes())
    monkeypatch.setattr(sys, "path", [str(tmp_path)])


def test_weights_come_from_the_installed_package_by_path(tmp_path, monkeypatch, weights):
    install(tmp_path, monkeypatch, weights)
    with pytest.raises(WeightsError, match=r"not the weights of geoembed 1\.1\.2, by its SHA-256"):
        create_backbone("aerial")
    monkeypatch.setattr(aerial_weights, "WEIGHTS_SHA256", hashlib.sha256(weights.read_bytes()).hexdigest())
    network = create_backbone("aerial", weights="hub")
    assert fingerprint(network) == fingerprint(create_backbone("aerial", weights=weights))
    assert "geoembed" not in sys.modules


@pytest.mark.parametrize("package", [False, True])
def test_without_the_weights_the_command_that_brings_them_is_named(package, tmp_path, monkeypatch):
    if package:
        install(tmp_path, monkeypatch, None)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(WeightsError, match="not installed") as raised:
        create_backbone("aerial")
    assert 'pip install "geoembed==1.1.2"' in str(raised.value)
    with pytest.raises(WeightsError, match="not installed"):
        check_backbone("aerial", None)  # as commands do before torch is imported


def test_a_model_stands_without_the_package(tmp_path, weights, write_scene, three_fields, monkeypatch):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(weights.read_bytes())
    scene = write_scene(three_fields)
    options = FitOptions(classes=3, backbone="aerial", weights=copy)
    with open_scene(scene) as opened:
        segmenter = Segmenter.fit(opened, options, device="cpu")
        labels = segmenter.segment(opened).to_numpy()
    copy.unlink()
    monkeypatch.setattr(aerial_weights, "PACKAGE", "no_such_package")
    again = Segmenter.load(save_model(segmenter.model, tmp_path / "model.safetensors"), device="cpu")
    with again.open(scene) as opened:
        np.testing.assert_array_equal(again.segment(opened).to_numpy(), labels)
    for column, stripe in enumerate((slice(8, 58), slice(75, 125), slice(142, 192))):
        classes, counts = np.unique(labels[8:-8, stripe], return_counts=True)
        assert counts.max() > 0.9 * counts.sum(), f"stripe {column} holds {classes}"


def test_blocks_are_refused_where_there_are_stages(write_scene, three_fields, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is no run
    with pytest.raises(ConfigError, match="block: the backbone aerial has stages"):
        geohp.segment(write_scene(three_fields), classes=3, backbone="aerial", block=2)


@pytest.mark.parametrize("found", ["1.1.1", None])
def test_another_version_of_the_package_is_not_the_weights(monkeypatch, found):
    def version(package):
        if found is None:
            raise PackageNotFoundError(package)
        return found

    monkeypatch.setattr("geohp.backbones.aerial_weights.version", version)
    assert not is_packaged()


@pytest.mark.skipif(find_spec("geoembed") is None, reason="needs the weights of the package geoembed")
def test_the_package_is_found_where_it_is_installed():
    assert is_packaged()
