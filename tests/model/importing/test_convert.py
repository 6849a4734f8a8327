"""Released checkpoints become models whose maps equal, pixel for pixel, what the checkpoint's own network computes."""

from __future__ import annotations

import json
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import timm
import torch
import torch.nn.functional as F
from rasterio.crs import CRS
from rasterio.transform import from_origin
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import geohp
from geohp.backbones.factory import create_backbone
from geohp.cli import app as cli
from geohp.errors import ConfigError, GeohpError, ModelError, OutputError
from geohp.legend.file import Legend
from geohp.legend.recode_model import recode_model_file
from geohp.methods.hp.method import HP
from geohp.model import file as model_file
from geohp.model.card import read_card
from geohp.model.file import load_model

TINY, WIDTH, PATCH = "vit_tiny_patch16_224", 192, 16
CODE, CLUSTERS, LABELLED = 24, 7, 5
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
GOLDEN = Path(__file__).parents[2] / "golden" / "vit_tiny_p16_96x160.npz"


def drawn_weight(name, shape):
    """The recorded features were made with weights drawn by their names."""
    scale, base = 0.04, 0.0
    if name.endswith(("norm1.weight", "norm2.weight")) or name == "norm.weight":
        scale, base = 0.1, 1.0
    elif name.endswith("bias"):
        scale = 0.05
    elif name in ("pos_embed", "cls_token"):
        scale = 0.2
    elif name.endswith("qkv.weight"):
        scale = 0.08
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return torch.from_numpy((base + scale * rng.standard_normal(shape)).astype(np.float32))


@pytest.fixture(scope="module")
def vit():
    """DINO's state dict of a tiny transformer."""
    shapes = timm.create_model(TINY, num_classes=0).state_dict()
    return {name: drawn_weight(name, tensor.shape) for name, tensor in shapes.items()}


@pytest.fixture(scope="module")
def parts():
    """Head and probes by short names; drawn so that no pixel of the maps below is torn between two classes."""
    generator = torch.Generator().manual_seed(158)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.1

    return {
        "cluster1.0.weight": draw(CODE, WIDTH, 1, 1),
        "cluster1.0.bias": draw(CODE),
        "cluster2.0.weight": draw(WIDTH, WIDTH, 1, 1),
        "cluster2.0.bias": draw(WIDTH),
        "cluster2.2.weight": draw(CODE, WIDTH, 1, 1),
        "cluster2.2.bias": draw(CODE),
        "clusters": draw(CLUSTERS, CODE) * torch.rand(CLUSTERS, 1, generator=generator).mul(9).add(1),
        "weight": draw(LABELLED, CODE, 1, 1),
        "bias": draw(LABELLED),
    }


def head_of(parts):
    return {name: tensor for name, tensor in parts.items() if name.startswith(("cluster1", "cluster2"))}


def hp_checkpoint(vit, parts):
    """As HP's training saves it."""
    head = head_of(parts)
    net = {f"model.{name}": tensor for name, tensor in vit.items()} | head
    for name, tensor in head.items():  # the averaged head is no use for prediction
        net[name.replace("cluster1.", "ema_model1.").replace("cluster2.", "ema_model2.")] = torch.zeros_like(tensor)
    return {
        "net_model_state_dict": net,
        "linear_model_state_dict": {"weight": parts["weight"], "bias": parts["bias"]},
        "cluster_model_state_dict": {"clusters": parts["clusters"]},
        "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
        "best": np.float64(51.5),
    }


def stego_checkpoint(vit, parts):
    """As Lightning saves STEGO."""
    state = {f"net.model.{name}": tensor for name, tensor in vit.items()}
    state |= {f"net.{name}": tensor for name, tensor in head_of(parts).items()}
    state |= {"cluster_probe.clusters": parts["clusters"], "train_cluster_probe.clusters": torch.zeros(3, CODE)}
    state |= {"linear_probe.weight": parts["weight"], "linear_probe.bias": parts["bias"]}
    state |= {"decoder.weight": torch.zeros(WIDTH, CODE, 1, 1), "decoder.bias": torch.zeros(WIDTH)}
    return {"state_dict": state, "epoch": 3, "pytorch-lightning_version": "1.5.10", "hyper_parameters": {"n": 27}}


def wrapped(checkpoint):
    """The same, trained with DataParallel."""
    keys = ("net_model_state_dict", "linear_model_state_dict", "cluster_model_state_dict")
    return checkpoint | {key: {f"module.{n}": t for n, t in checkpoint[key].items()} for key in keys}


def as_matrices(checkpoint):
    """The same with the linear probe's 1x1 convolution stored as a matrix."""
    probe = checkpoint["linear_model_state_dict"]
    return checkpoint | {"linear_model_state_dict": {"weight": probe["weight"][:, :, 0, 0], "bias": probe["bias"]}}


def features_of(vit, images):
    """DINO's forward pass of normalised images, with the positions brought to their grid as DINO does."""
    model = timm.create_model(TINY, num_classes=0).eval()
    model.load_state_dict(vit)
    rows, cols = images.shape[-2] // PATCH, images.shape[-1] // PATCH
    tokens = F.conv2d(images, vit["patch_embed.proj.weight"], vit["patch_embed.proj.bias"], stride=PATCH)
    maps = vit["pos_embed"][:, 1:].reshape(1, 14, 14, WIDTH).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, scale_factor=((rows + 0.1) / 14, (cols + 0.1) / 14), mode="bicubic")
    first = (vit["cls_token"] + vit["pos_embed"][:, :1]).expand(len(images), -1, -1)
    tokens = torch.cat([first, (tokens + maps).flatten(2).transpose(1, 2)], 1)
    for block in model.blocks:
        tokens = block(tokens)
    return model.norm(tokens)[:, 1:].transpose(1, 2).reshape(len(images), WIDTH, rows, cols)


def scores_of(parts, features, size, probe, nonlinear=True):
    """What the reference computes of features: codes, brought to the size of the labels, and their scores."""
    codes = F.conv2d(features, parts["cluster1.0.weight"], parts["cluster1.0.bias"])
    if nonlinear:
        hidden = F.conv2d(features, parts["cluster2.0.weight"], parts["cluster2.0.bias"]).relu()
        codes = codes + F.conv2d(hidden, parts["cluster2.2.weight"], parts["cluster2.2.bias"])
    codes = F.interpolate(codes, size, mode="bilinear", align_corners=False)
    if probe == "linear":
        return F.conv2d(codes, parts["weight"], parts["bias"])
    return F.cosine_similarity(codes[:, None], parts["clusters"][None, :, :, None, None], dim=2)


@torch.no_grad()
def reference_scores(vit, parts, data, probe="cluster", nonlinear=True):
    """Scores (K, H, W) of an 8-bit image (3, H, W), written down as directly as can be."""
    images = ((torch.from_numpy(data).float() / 255 - MEAN) / STD)[None]
    return scores_of(parts, features_of(vit, images), data.shape[1:], probe, nonlinear)[0]


@pytest.fixture(scope="module")
def image():
    """(3, 96, 96) uint8 of coarse colour and fine noise."""
    rng = np.random.default_rng(11)
    coarse = rng.integers(20, 236, (3, 6, 6)).repeat(16, axis=1).repeat(16, axis=2)
    return (coarse + rng.integers(-20, 20, (3, 96, 96))).astype(np.uint8)


@pytest.fixture
def geohp_command(monkeypatch, capsys):
    """Run the command line in this process: exit code, what it printed, and what it complained of."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["geohp", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as left:
            code = left.code
        else:
            code = 0
        said = capsys.readouterr()
        return types.SimpleNamespace(code=code or 0, out=said.out.strip(), err=said.err.strip())

    return run


@pytest.fixture
def labels_of(geohp_command, image, tmp_path):
    """The label map, and confidence, that ``geohp segment`` writes of the image in one window."""

    def run(model):
        profile = {"crs": CRS.from_epsg(32633), "transform": from_origin(380000, 5800000, 0.5, 0.5)}
        settings = {"driver": "GTiff", "count": 3, "height": 96, "width": 96, "dtype": "uint8", **profile}
        with rasterio.open(tmp_path / "scene.tif", "w", **settings) as dataset:
            dataset.write(image)
        labels, confidence = tmp_path / "labels.tif", tmp_path / "confidence.tif"
        outputs = ["--out", labels, "--confidence", confidence, "--overwrite"]
        done = geohp_command(
            "segment", tmp_path / "scene.tif", "--model", model, *outputs, "--window", 96, "--device", "cpu"
        )
        assert done.code == 0, done.err
        with rasterio.open(labels) as written, rasterio.open(confidence) as shares:
            return written.read(1), shares.read(1) / 254

    return run


def save(content, path):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("probe", ["cluster", "linear"])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (hp_checkpoint, "ckpt.pth"),
        (lambda vit, parts: wrapped(hp_checkpoint(vit, parts)), "ckpt.pth"),
        (lambda vit, parts: as_matrices(hp_checkpoint(vit, parts)), "ckpt.pth"),
        (stego_checkpoint, "stego.ckpt"),
    ],
    ids=["hp", "hp-parallel", "hp-matrices", "stego"],
)
def test_maps_equal_the_checkpoint_s_own(
    make, name, probe, vit, parts, image, geohp_command, labels_of, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    save(make(vit, parts), name)
    done = geohp_command("import-checkpoint", name, "--out", "model.safetensors", "--probe", probe)
    assert done.code == 0, done.err
    title = "HP" if name == "ckpt.pth" else "STEGO"
    predicts = ", which predicts" if probe == "linear" else ""
    assert done.out == (
        f"{title} checkpoint, {TINY}, 7 clusters, linear probe with 5 classes{predicts}: wrote model.safetensors"
    )
    Path(name).unlink()  # the model stands alone
    found, confidence = labels_of("model.safetensors")
    scores = reference_scores(vit, parts, image, probe)
    np.testing.assert_array_equal(found, scores.argmax(0))
    assert len(np.unique(found)) >= 3
    if probe == "linear":
        np.testing.assert_allclose(confidence, scores.softmax(0).amax(0), atol=0.6 / 254)


def test_stego_with_a_linear_head(vit, parts, image, labels_of, tmp_path):
    checkpoint = stego_checkpoint(vit, {n: t for n, t in parts.items() if not n.startswith("cluster2")})
    geohp.import_checkpoint(save(checkpoint, tmp_path / "stego.ckpt"), tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").head.nonlinear is None
    found, _ = labels_of(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(found, reference_scores(vit, parts, image, nonlinear=False).argmax(0))


def test_stego_s_settings_are_passed_over(vit, parts, tmp_path, monkeypatch):
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": module.__name__})
    with monkeypatch.context() as saving:
        saving.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
        saving.setitem(sys.modules, module.__name__, module)
        settings = module.DictConfig()
        settings.content = {"dim": CODE, "nested": module.DictConfig()}
        checkpoint = stego_checkpoint(vit, parts) | {"hyper_parameters": {"n_classes": LABELLED, "cfg": settings}}
        save(checkpoint, tmp_path / "stego.ckpt")
    imported = geohp.import_checkpoint(tmp_path / "stego.ckpt", tmp_path / "m.safetensors")
    assert (imported.clusters, imported.linear_classes, imported.probe) == (CLUSTERS, LABELLED, "cluster")


class _Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harm"),))


def test_a_malicious_checkpoint_runs_nothing(vit, parts, tmp_path, monkeypatch, geohp_command):
    monkeypatch.chdir(tmp_path)
    save(hp_checkpoint(vit, parts) | {"epoch": {"deep": [_Harmful()]}}, "ckpt.pth")
    done = geohp_command("import-checkpoint", "ckpt.pth", "--out", "m.safetensors")
    assert done.code == 2
    assert done.err.startswith("geohp: error: ckpt.pth: holds builtins.getattr, which could run code")
    assert {each.name for each in tmp_path.iterdir()} == {"ckpt.pth"}


def test_golden_features_are_mapped_as_the_reference_does(vit, parts, tmp_path):
    """The recorded features of DINO's own network on a grid that is not square, through head and probes by hand."""
    golden = np.load(GOLDEN)
    images = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(96160))
    if not np.allclose(images[0, 0, 0, :8], golden["img_first"]):
        pytest.skip("this torch draws other random numbers than the recording")
    features = torch.from_numpy(golden["features"]).transpose(1, 2).reshape(1, WIDTH, 6, 10)
    save(hp_checkpoint(vit, parts), tmp_path / "ckpt.pth")
    for probe in ("cluster", "linear"):
        out = tmp_path / f"{probe}.safetensors"
        geohp.import_checkpoint(tmp_path / "ckpt.pth", out, probe=probe)
        model = load_model(out)
        found = F.interpolate(model(images * STD + MEAN), (96, 160), mode="bilinear", align_corners=False)
        expected = scores_of(parts, features, (96, 160), probe)
        assert torch.equal(found[:, :-1].argmax(1), expected.argmax(1))
        assert len(expected.argmax(1).unique()) >= 3


def test_the_card_says_how_the_checkpoint_is_used(vit, parts, tmp_path):
    save(hp_checkpoint(vit, parts), tmp_path / "ckpt.pth")
    out = tmp_path / "m.safetensors"
    names = [f"kind {i}" for i in range(CLUSTERS)]
    written = [f" {name} " for name in names]  # as between commas
    imported = geohp.import_checkpoint(tmp_path / "ckpt.pth", out, classes=written, pixel_size_m=0.05)
    assert (imported.path, imported.backbone, imported.clusters) == (out, TINY, CLUSTERS)
    card = read_card(out)
    assert (card.method, card.probe, card.scaling, card.bands) == ("hp", "cluster", "type", None)
    assert (card.patch_px, card.input_px, card.pixel_size_m) == (320, 320, 0.05)
    assert [c.name for c in card.classes] == names
    assert [c.colour for c in card.classes] == [c.colour for c in geohp.classes.default_classes(CLUSTERS)]
    assert card.backbone.weights == "ckpt.pth"
    # timm normalises for this name otherwise; what was trained with ImageNet's figures keeps them.
    model = load_model(out)
    assert model.backbone.mean == pytest.approx((0.485, 0.456, 0.406))
    assert model.backbone.options()["std"] == [0.229, 0.224, 0.225]
    assert create_backbone(TINY, weights="random").mean == (0.5, 0.5, 0.5)


def test_extra_clusters_are_classes_and_a_linear_probe_need_not_be(vit, parts, tmp_path):
    checkpoint = hp_checkpoint(vit, parts | {"clusters": torch.randn(CLUSTERS + 4, CODE)})
    del checkpoint["linear_model_state_dict"]
    save(checkpoint, tmp_path / "ckpt.pth")
    imported = geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "m.safetensors")
    assert imported.report() == f"HP checkpoint, {TINY}, 11 clusters: wrote {tmp_path / 'm.safetensors'}"
    model = load_model(tmp_path / "m.safetensors")
    assert len(model.card.classes) == model.clusters == CLUSTERS + 4
    assert model.linear_probe is None
    with pytest.raises(ConfigError, match="holds no linear probe; leave probe='linear' out"):
        geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "n.safetensors", probe="linear")


def rewritten_card(path, change):
    """The same model file with its card changed."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    card = json.loads(metadata["geohp"])
    change(card)
    metadata.pop("geohp_sha256", None)  # which files of before have not
    save_file(load_file(path), path, metadata=metadata | {"geohp": json.dumps(card)})


def test_model_files_of_before_still_load(vit, parts, tmp_path):
    save(hp_checkpoint(vit, parts), tmp_path / "ckpt.pth")
    out = tmp_path / "m.safetensors"
    geohp.import_checkpoint(tmp_path / "ckpt.pth", out)
    images = torch.rand(1, 3, 64, 64)
    expected = load_model(out)(images)
    rewritten_card(out, lambda card: card.pop("probe"))
    assert read_card(out).probe == "cluster"
    assert torch.equal(load_model(out)(images), expected)
    rewritten_card(out, lambda card: card.update(probe="linear"))
    with pytest.raises(ModelError, match="its linear probe has 5 classes, its card 7"):
        load_model(out)
    rewritten_card(out, lambda card: card.update(probe="oracle"))
    with pytest.raises(ModelError, match="predicts with a 'oracle' probe, unknown here"):
        load_model(out)


def test_training_keeps_its_linear_probe(write_scene, three_fields, tmp_path, monkeypatch):

    made = []

    def with_labels(settings, channels, clusters, *, label_classes, seed):
        made.append(HP(channels, clusters, settings, label_classes=4, seed=seed))
        return made[0]

    monkeypatch.setattr("geohp.training.fit.create_method", with_labels)
    overrides = [f"data.images={write_scene(three_fields)}", "data.patches=8", "data.patch_px=64", "train.epochs=1"]
    overrides += ["train.device=cpu", "method.pool_size=8", "method.code_channels=8", "classes.count=3"]
    model = load_model(geohp.train("orthophotos-hp", overrides, out=tmp_path / "run").model)
    assert torch.equal(model.linear_probe.classifier.weight, made[0].linear_probe.classifier.weight)
    assert model.clusters == 3


def test_dino_s_checkpoints_become_weight_files(vit, tmp_path, geohp_command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student = {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in vit.items()}
    teacher = {f"backbone.{name}": tensor for name, tensor in vit.items()} | {"head.last.weight": torch.ones(2, 2)}
    for name, content in (("bare.pth", vit), ("full.pth", {"student": student, "teacher": teacher, "epoch": 9})):
        save(content, name)
        done = geohp_command("import-checkpoint", name, "--out", "w.safetensors", "--overwrite")
        assert (done.code, done.out) == (0, f"backbone, {TINY}: wrote w.safetensors")
        with safe_open("w.safetensors", framework="pt") as file:
            assert file.metadata()["geohp_backbone"] == TINY
        images = torch.randn(1, 3, 64, 96)
        expected = features_of(vit, images)
        torch.testing.assert_close(create_backbone(TINY, weights="w.safetensors")(images).features, expected)
    done = geohp_command("segment", "scene.tif", "--out", "x.tif", "--model", "w.safetensors")
    assert "it may be a backbone, which goes with" in done.err
    assert TINY in done.err


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_s_weights_become_weight_files(registers, tmp_path):
    name = f"vit_small_patch14{'_reg4' if registers else ''}_dinov2.lvd142m"
    shapes = create_backbone(name, weights="random").model.state_dict()
    published = {n: torch.randn(t.shape) * 0.05 for n, t in shapes.items()} | {"mask_token": torch.zeros(1, 384)}
    if registers:  # published with a position for the class token, which timm's layout has none for
        published["register_tokens"] = published.pop("reg_token")
        published["pos_embed"] = torch.cat([torch.randn(1, 1, 384), published["pos_embed"]], 1)
    save(published, tmp_path / "dinov2.pth")
    imported = geohp.import_checkpoint(tmp_path / "dinov2.pth", tmp_path / "w.safetensors")
    assert (imported.kind, imported.backbone, imported.probe) == ("backbone", name, None)
    original = create_backbone(name, weights=tmp_path / "dinov2.pth")
    again = create_backbone(name, weights=tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 42, 56)
    assert torch.equal(again(images).features, original(images).features)


def test_a_shape_that_is_not_known_is_named_by_the_user(vit, parts, tmp_path):
    nine = {n: t for n, t in vit.items() if not n.startswith("blocks.") or int(n.split(".")[1]) < 9}
    save(hp_checkpoint(nine, parts), tmp_path / "ckpt.pth")
    with pytest.raises(ModelError, match="has no shape known here; name it as timm does by backbone="):
        geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "m.safetensors")
    with pytest.raises(ModelError, match="holds 9 of the 12 blocks"):
        geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "m.safetensors", backbone=TINY)
    save(hp_checkpoint(vit, parts), tmp_path / "ckpt.pth")
    for backbone, said in (("rcf", "no vision transformer"), ("vit_tinny_patch16_224", f"did you mean {TINY}")):
        with pytest.raises(ConfigError, match=said):
            geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "m.safetensors", backbone=backbone)
    other = f"{TINY}.augreg_in21k"  # whose positions timm resizes another way: they stay as the training had them
    geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "m.safetensors", backbone=other)
    model = load_model(tmp_path / "m.safetensors")
    assert (model.backbone.name, model.backbone.positions) == (other, "offset")


def without(*names):
    """Take names (their ends) out of a checkpoint."""

    def change(checkpoint):
        return {
            key: {n: t for n, t in part.items() if not n.endswith(names)} if isinstance(part, dict) else part
            for key, part in checkpoint.items()
        }

    return change


def reshaped(part, name, *shape):
    return lambda checkpoint: checkpoint | {part: checkpoint[part] | {name: torch.ones(*shape)}}


NET, LINEAR, CLUSTER = "net_model_state_dict", "linear_model_state_dict", "cluster_model_state_dict"


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (hp_checkpoint, without("model.patch_embed.proj.weight"), "its backbone is no vision transformer or missing"),
        (hp_checkpoint, without("model.blocks.3.mlp.fc1.bias"), r"lacks blocks\.3\.mlp\.fc1\.bias"),
        (hp_checkpoint, without("cluster1.0.weight"), r"lacks net_model_state_dict\.cluster1\.0\.weight; give"),
        (hp_checkpoint, without("cluster2.0.bias"), r"lacks net_model_state_dict\.cluster2\.0\.bias"),
        (hp_checkpoint, without("cluster2.2.weight", "cluster2.0.weight"), r"lacks .*cluster2\.0\.weight"),
        (hp_checkpoint, without("clusters"), r"lacks cluster_model_state_dict\.clusters"),
        (
            hp_checkpoint,
            lambda c: c | {LINEAR: {"weight": c[LINEAR]["weight"]}},
            r"lacks linear_model_state_dict\.bias",
        ),
        (hp_checkpoint, reshaped(NET, "cluster1.0.weight", 24, 384, 1, 1), "is 24 x 384 x 1 x 1, where N x 192 fits"),
        (hp_checkpoint, reshaped(NET, "cluster2.0.weight", 192, 384, 1, 1), "where 192 x 192 x 1 x 1 fits its other"),
        (hp_checkpoint, reshaped(NET, "cluster1.0.bias", 5), "is 5, where 24 fits its other parts"),
        (hp_checkpoint, reshaped(CLUSTER, "clusters", 7, 25), "clusters is 7 x 25, where N x 24 fits"),
        (hp_checkpoint, reshaped(CLUSTER, "clusters", 0, 24), "clusters is 0 x 24, where N x 24 fits"),
        (hp_checkpoint, lambda c: c | {CLUSTER: {"clusters": torch.tensor(1.0)}}, "clusters is a number, where N x 24"),
        (hp_checkpoint, reshaped(CLUSTER, "clusters", 255, 24), "tells 255 classes apart, a label map 254"),
        (hp_checkpoint, reshaped(LINEAR, "weight", 5, 23, 1, 1), "weight is 5 x 23 x 1 x 1, where N x 24 fits"),
        (hp_checkpoint, reshaped(LINEAR, "bias", 4), "bias is 4, where 5 fits"),
        (hp_checkpoint, lambda c: c | {CLUSTER: {"clusters": c[CLUSTER]["clusters"] / 0}}, "clusters is not finite"),
        (stego_checkpoint, without("net.cluster1.0.weight"), r"lacks net\.cluster1\.0\.weight"),
        (stego_checkpoint, without("net.cluster2.0.weight"), r"lacks net\.cluster2\.0\.weight"),
        (stego_checkpoint, without(".clusters"), r"lacks cluster_probe\.clusters"),
        (stego_checkpoint, lambda c: {"state_dict": {"net.conv1.weight": torch.ones(3)}}, "neither a checkpoint of HP"),
        (stego_checkpoint, lambda c: [1, 2], "neither a checkpoint of HP or STEGO nor"),
    ],
)
def test_parts_that_are_missing_or_do_not_fit(make, change, said, vit, parts, tmp_path):
    save(change(make(vit, parts)), tmp_path / "ckpt.pth")
    with pytest.raises(ModelError, match=said) as caught:
        geohp.import_checkpoint(tmp_path / "ckpt.pth", tmp_path / "m.safetensors")
    assert str(caught.value).startswith(str(tmp_path / "ckpt.pth"))
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["ckpt.pth"]


@pytest.fixture
def checkpoint(vit, parts, tmp_path):
    return save(hp_checkpoint(vit, parts), tmp_path / "ckpt.pth")


def test_files_that_are_damaged_or_missing(checkpoint, tmp_path):
    content = checkpoint.read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "noise.ckpt").write_bytes(b"no checkpoint at all")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "text.txt").touch()
    for name, said in (
        ("cut.pth", "damaged"),
        ("noise.ckpt", "damaged"),
        ("empty.pth", "damaged"),
        ("text.txt", "not a kind of weight file"),
        ("nothere.pth", "no such checkpoint"),
        (".", "no such checkpoint"),
    ):
        with pytest.raises(ModelError, match=said):
            geohp.import_checkpoint(tmp_path / name, tmp_path / "m.safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--probe", "oracle"], "probe oracle: must be cluster or linear"),
        (["--class-names", "a,b,c"], "classes: 3 names for 7 classes"),
        (["--classes", "a,b,c,,e,f,g"], "classes: 6 names for 7 classes"),
        (["--classes", "a\tb,b,c,d,e,f,g"], "classes: class 0 has a line break or control character in its name; give"),
        (["--probe", "linear", "--classes", "a,b,c,d,e,f,g"], "classes: 7 names for 5 classes"),
        (["--pixel-size", "0"], "must be a positive number of metres"),
        (["--out", "model.pth"], "models are written to .safetensors"),
        (["--out", "no/m.safetensors"], "does not exist; create it"),
    ],
)
def test_options_that_do_not_go_with_it(options, said, checkpoint, geohp_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = options if "--out" in options else ["--out", "m.safetensors", *options]
    done = geohp_command("import-checkpoint", "ckpt.pth", *arguments)
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["ckpt.pth"]


def test_outputs_that_exist_or_cannot_be_written(checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "m.safetensors"
    out.write_text("precious")
    with pytest.raises(OutputError, match=r"exists already; .*overwrite=True"):
        geohp.import_checkpoint(checkpoint, out)
    assert out.read_text() == "precious"

    def fill_the_disk(tensors, path, metadata):
        Path(path).write_bytes(b"half of it")
        raise OSError("no space left")

    with monkeypatch.context() as full:
        full.setattr(model_file, "save_file", fill_the_disk)
        with pytest.raises(OutputError, match="no space left"):
            geohp.import_checkpoint(checkpoint, out, overwrite=True)
    assert out.read_text() == "precious"
    assert {each.name for each in tmp_path.iterdir()} == {"ckpt.pth", "m.safetensors"}
    geohp.import_checkpoint(checkpoint, out, overwrite=True)
    assert load_model(out).clusters == CLUSTERS
    with pytest.raises(OutputError, match="is the input itself"):
        geohp.import_checkpoint(out, out, overwrite=True)
    with pytest.raises(ModelError, match="is a geohp model already"):
        geohp.import_checkpoint(out, tmp_path / "n.safetensors")


def test_an_imported_model_keeps_its_backbone_when_a_legend_names_its_classes(checkpoint, tmp_path):
    geohp.import_checkpoint(checkpoint, tmp_path / "m.safetensors")
    checkpoint.unlink()
    recode_model_file(tmp_path / "m.safetensors", tmp_path / "named.safetensors", Legend.named({0: "water"}))
    images = torch.rand(1, 3, 64, 64)
    named = load_model(tmp_path / "named.safetensors")
    assert torch.equal(named(images), load_model(tmp_path / "m.safetensors")(images))


def test_a_backbone_alone_has_no_probe(vit, tmp_path):
    save(vit, tmp_path / "dino.pth")
    for options in ({"probe": "cluster"}, {"classes": ["a"]}, {"pixel_size_m": 0.1}):
        with pytest.raises(GeohpError, match="a backbone alone has neither probe nor classes nor pixel size"):
            geohp.import_checkpoint(tmp_path / "dino.pth", tmp_path / "m.safetensors", **options)
    save({"a": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="neither a checkpoint of HP or STEGO nor the weights"):
        geohp.import_checkpoint(tmp_path / "other.pth", tmp_path / "m.safetensors")
