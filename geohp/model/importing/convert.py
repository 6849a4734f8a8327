"""A checkpoint that another project released becomes a model file, a released backbone a weight file of timm's names.

What a file is, is told by the names of its tensors; which transformer it has, by their shapes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from geohp.backbones.architecture import recognise
from geohp.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from geohp.backbones.factory import create_backbone
from geohp.backbones.rcf import RandomConvolutionalFeatures
from geohp.backbones.vit import VisionTransformer
from geohp.backbones.weight_files import read_state
from geohp.backbones.weight_paths import RANDOM
from geohp.backbones.weights import load_state, unwrap
from geohp.classes import NODATA_LABEL, LandCoverClass, class_mistake, default_classes
from geohp.errors import ConfigError, ModelError
from geohp.methods.hp.head import SegmentationHead
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.model.card import PROBES, BackboneCard, ModelCard
from geohp.model.file import save_backbone, save_model
from geohp.model.importing.checks import check_import
from geohp.model.importing.layouts import CheckpointLayout, layout_of
from geohp.model.importing.tensors import CheckpointTensors
from geohp.model.network import LandCoverModel
from geohp.options import keywords
from geohp.version import __version__

_EVALUATED_PX = 320
"""Side of the images that HP and STEGO are evaluated on."""
_LAYER = ("weight", "bias")


@dataclass(frozen=True)
class ImportedCheckpoint:
    """What was recognised and written.

    Attributes:
        path: the file written.
        kind: what the checkpoint is, in words.
        backbone: timm's name of its vision transformer.
        clusters: how many clusters it tells apart; 0 for a backbone.
        linear_classes: how many classes its linear probe tells apart; 0 where it has none.
        probe: the probe that predicts; ``None`` for a backbone.
    """

    path: Path
    kind: str
    backbone: str
    clusters: int = 0
    linear_classes: int = 0
    probe: str | None = None

    def report(self) -> str:
        """All of it in one line."""
        facts = [self.kind, self.backbone]
        if self.probe is not None:
            facts.append(f"{self.clusters} clusters")
        if self.linear_classes:
            facts.append(f"linear probe with {self.linear_classes} classes")
        if self.probe == "linear":
            facts.append("which predicts")
        return f"{', '.join(facts)}: wrote {self.path}"


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """All that :func:`import_checkpoint` takes besides the files; described there."""

    backbone: str | None = None
    probe: str | None = None
    classes: Sequence[str] | None = None
    pixel_size_m: float | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError: no such probe, or an impossible pixel size."""
        if self.probe is not None and self.probe not in PROBES:
            raise ConfigError(f"probe {self.probe}: must be {' or '.join(PROBES)}")
        if self.pixel_size_m is not None and not 0 < self.pixel_size_m < math.inf:
            raise ConfigError(f"pixel size {self.pixel_size_m}: must be a positive number of metres")


@keywords(ImportOptions)
def import_checkpoint(path: str | Path, out: str | Path, options: ImportOptions) -> ImportedCheckpoint:
    """Make a geohp file of a checkpoint that another project released.

    - HP's ``ckpt.pth`` and STEGO's Lightning checkpoints become a model file with the backbone in it. Images are
      normalised by ImageNet's mean and deviation, as both projects do.
    - DINO's and DINOv2's weights and training checkpoints become a weight file for ``backbone.weights``.

    Args:
        path: the checkpoint: ``.pth``, ``.pt``, ``.bin``, ``.ckpt`` or ``.safetensors``. Nothing in it is executed.
        out: the ``.safetensors`` file to write.
        backbone: timm's name of its vision transformer, where the tensors do not tell it.
        probe: what predicts, ``"cluster"`` (default) or ``"linear"``, which has learned from labels.
        classes: names of the predicting probe's classes, in its order; "class 0" and so on by default.
        pixel_size_m: ground sampling distance of the imagery it was trained on, where that is known.
        overwrite: replace ``out`` where it exists.

    Returns:
        What was recognised and written.

    Raises:
        WeightsError: when the file cannot be read, or holds objects that could run code.
        ModelError: when it is of no known kind, lacks parts, or its parts do not fit each other.
        ConfigError: when backbone, probe, classes or pixel size do not go with it.
        OutputError: when ``out`` exists or cannot be written; then nothing is left behind.
    """
    path, out = Path(path), check_import(path, out, overwrite=options.overwrite)
    checkpoint = CheckpointTensors(path, read_state(path))
    layout = layout_of(checkpoint.tensors)
    if layout is None:
        return _import_backbone(checkpoint, options, out)
    model = _model(checkpoint, layout, options)
    save_model(model, out, embed_backbone=True)
    linear_probe = model.linear_probe
    return ImportedCheckpoint(
        path=out,
        kind=f"{layout.title} checkpoint",
        backbone=model.backbone.name,
        clusters=len(model.probe.clusters),
        linear_classes=linear_probe.classifier.out_channels if linear_probe is not None else 0,
        probe=model.card.probe,
    )


def _import_backbone(checkpoint: CheckpointTensors, options: ImportOptions, out: Path) -> ImportedCheckpoint:
    path, tensors = checkpoint.path, checkpoint.tensors
    if options.probe is not None or options.classes is not None or options.pixel_size_m is not None:
        raise ConfigError(
            f"{path}: no HP or STEGO checkpoint, and a backbone alone has neither probe nor classes nor pixel size",
            "leave these options out",
        )
    if {"probe.clusters", "head.linear.weight"} & tensors.keys():
        raise ModelError(f"{path}: is a geohp model already", "use it as it is, as {option}", option="model")
    if not any(tensor_name.endswith("patch_embed.proj.weight") for tensor_name in tensors):
        problem = f"{path}: neither a checkpoint of HP or STEGO nor the weights of a vision transformer"
        raise ModelError(problem, "give one of these")
    transformer = _transformer(path, unwrap(tensors, path), options.backbone)
    save_backbone(transformer, out)
    return ImportedCheckpoint(out, "backbone", transformer.name)


def _model(checkpoint: CheckpointTensors, layout: CheckpointLayout, options: ImportOptions) -> LandCoverModel:
    """The model that a checkpoint of HP or STEGO holds."""
    transformer = _backbone(checkpoint, layout, options.backbone)
    head = _head(checkpoint, layout, transformer.channels)
    code_channels = head.linear.out_channels
    cluster_probe = ClusterProbe(code_channels, checkpoint.rows(layout.clusters, code_channels))
    checkpoint.fill(cluster_probe, {"clusters": layout.clusters})
    linear_probe = _linear_probe(checkpoint, layout, code_channels)
    count = len(cluster_probe.clusters)
    if options.probe == "linear":
        if linear_probe is None:
            remedy = "leave {option} out to predict by its clusters"
            raise ConfigError(f"{checkpoint.path}: holds no linear probe", remedy, option="probe", value="linear")
        count = linear_probe.classifier.out_channels
    side_px = max(1, round(_EVALUATED_PX / transformer.patch_size)) * transformer.patch_size
    card = ModelCard(
        method=layout.method,
        backbone=BackboneCard.of(transformer),
        in_channels=transformer.channels,
        code_channels=code_channels,
        classes=_classes(checkpoint.path, count, options.classes),
        scaling="type",
        patch_px=side_px,
        input_px=side_px,
        pixel_size_m=options.pixel_size_m,
        geohp_version=__version__,
        probe=options.probe or PROBES[0],
    )
    return LandCoverModel(transformer, head, cluster_probe, card, linear_probe)


def _backbone(checkpoint: CheckpointTensors, layout: CheckpointLayout, name: str | None) -> VisionTransformer:
    prefix = f"{layout.net}model."
    tensors = checkpoint.below(prefix)
    if "patch_embed.proj.weight" not in tensors:
        raise ModelError(
            f"{checkpoint.path}: lacks {prefix}patch_embed.proj.weight, so its backbone is no vision transformer "
            "or missing",
            "give a checkpoint with one",
        )
    # HP and STEGO normalise by ImageNet's figures and resize positions as DINO does, whatever timm would do for
    # weights of that name.
    positions = "antialias" if {"register_tokens", "reg_token"} & tensors.keys() else "offset"
    return _transformer(checkpoint.path, tensors, name, mean=IMAGENET_MEAN, std=IMAGENET_STD, positions=positions)


def _transformer(path: Path, tensors: Mapping[str, Tensor], name: str | None, **options: Any) -> VisionTransformer:
    """The vision transformer that these weights belong to, filled with them."""
    name = name or recognise(tensors)
    if name is None:
        problem = f"{path}: its vision transformer has no shape known here"
        raise ModelError(problem, "name it as timm does by {option}", option="backbone")
    transformer = None
    if name != RandomConvolutionalFeatures.name:
        transformer = create_backbone(name, weights=RANDOM, **options)
    if not isinstance(transformer, VisionTransformer):
        raise ConfigError(f"backbone {name}: no vision transformer", "name the checkpoint's own as timm does")
    load_state(transformer, tensors, path)
    transformer.weights_source = path.name
    return transformer


def _head(checkpoint: CheckpointTensors, layout: CheckpointLayout, in_channels: int) -> SegmentationHead:
    linear, nonlinear = f"{layout.net}cluster1.0", f"{layout.net}cluster2"
    code_channels = checkpoint.rows(f"{linear}.weight", in_channels)
    has_both = not layout.linear_head or bool(checkpoint.below(f"{nonlinear}."))
    branches = {"linear": linear} | ({f"nonlinear.{i}": f"{nonlinear}.{i}" for i in (0, 2)} if has_both else {})
    head = SegmentationHead(in_channels, code_channels, nonlinear=has_both)
    checkpoint.fill(head, {f"{own}.{kind}": f"{name}.{kind}" for own, name in branches.items() for kind in _LAYER})
    return head


def _linear_probe(checkpoint: CheckpointTensors, layout: CheckpointLayout, code_channels: int) -> LinearProbe | None:
    if not checkpoint.below(layout.linear_probe):
        return None
    probe = LinearProbe(code_channels, checkpoint.rows(f"{layout.linear_probe}weight", code_channels))
    checkpoint.fill(probe, {f"classifier.{kind}": f"{layout.linear_probe}{kind}" for kind in _LAYER})
    return probe


def _classes(path: Path, count: int, names: Sequence[str] | None) -> tuple[LandCoverClass, ...]:
    if count >= NODATA_LABEL:
        problem = f"{path}: tells {count} classes apart, a label map {NODATA_LABEL - 1}"
        raise ModelError(problem, "import one with fewer")
    defaults = default_classes(count)
    if names is None:
        return defaults
    names = [name.strip() for name in names]
    if len(names) != count or not all(names):
        raise ConfigError(f"classes: {sum(map(bool, names))} names for {count} classes", "give as many as there are")
    classes = tuple(replace(default, name=name) for default, name in zip(defaults, names, strict=True))
    if mistake := class_mistake(classes):
        raise ConfigError(f"classes: {mistake}", "give others")
    return classes
