"""The card of a model: what has to be known to use it on other imagery."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from safetensors import SafetensorError, safe_open

from geohp.backbones.names import AERIAL
from geohp.backbones.weight_paths import HUB, RANDOM, check_weight_file
from geohp.classes import LandCoverClass, class_mistake
from geohp.errors import ModelError, WeightsError
from geohp.files.reading import failure_reason
from geohp.methods.settings import Bounds
from geohp.model.runs import find_model
from geohp.options import LARGEST_PATCH_PX

if TYPE_CHECKING:
    from geohp.backbones.base import Backbone

FORMAT_VERSION = 1

CARD_ENTRY, BACKBONE_ENTRY = "geohp", "geohp_backbone"
"""Entries of a file's header: the card of a model, and the name of a backbone that lies in a file alone."""

PROBES = ("cluster", "linear")

_Width = Annotated[int, Bounds(ge=1, le=1 << 16)]
_Side = Annotated[int, Bounds(ge=1, le=LARGEST_PATCH_PX)]


@dataclass(frozen=True)
class BackboneCard:
    """Enough to build a backbone again, and to notice another one in its place.

    Attributes:
        name, block: as :func:`geohp.backbones.factory.create_backbone` takes them.
        options: its further arguments.
        weights: where they came from; ``None`` where the backbone has none of its own.
        fingerprint: of the weights.
        mean, std: what images are normalised by, one number a band.
    """

    name: str
    block: int
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    fingerprint: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, backbone: Backbone) -> BackboneCard:
        """The description of a backbone."""
        from geohp.backbones.weights import fingerprint  # torch: whoever has a backbone has it loaded

        return cls(
            name=backbone.name,
            block=backbone.block,
            options=backbone.options(),
            weights=getattr(backbone, "weights_source", None),
            fingerprint=fingerprint(backbone),
            mean=tuple(backbone.mean),
            std=tuple(backbone.std),
        )


@dataclass(frozen=True)
class ModelCard:
    """What has to be known to use a model on other imagery.

    Attributes:
        method: name of the method that trained it.
        backbone: which one, and with which weights.
        in_channels: width C of the features; code_channels: width D of the codes.
        classes: the classes; without ``cluster_to_class`` in the order of the predicting probe's clusters.
        bands: bands as the training configuration asked for them; ``None`` is red, green, blue.
        scaling: rule that brings values to [0, 1], measured on each scene anew where it measures.
        patch_px: side of training patches in scene pixels; input_px: side they were resized to.
        pixel_size_m: ground sampling distance of the training imagery, ``None`` where it had none.
        config: the whole configuration as resolved; empty where there was none.
        geohp_version: version that wrote it.
        probe: which probe predicts, ``"cluster"`` or ``"linear"``; the linear one has learned from labels.
        cluster_to_class: the number of the class that each cluster belongs to, where a legend has named them.
        smooth_scores: neighbours and colour have a say in a patch's class, see :meth:`.LandCoverModel.forward`.
        tta: always average over flips and rotations of each window: its probe has learnt from such codes.
    """

    method: str
    backbone: BackboneCard
    in_channels: _Width
    code_channels: _Width
    classes: tuple[LandCoverClass, ...]
    bands: tuple[int | str, ...] | None = None
    scaling: str = "auto"
    patch_px: _Side = 224
    input_px: _Side = 224
    pixel_size_m: Annotated[float, Bounds(gt=0, finite=True)] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    geohp_version: str = ""
    probe: str = "cluster"
    cluster_to_class: tuple[int, ...] | None = None
    smooth_scores: bool = False
    tta: bool = False

    @property
    def unmerged(self) -> str:
        """That there are more clusters than classes were asked for, and what merges them; empty where it is not so."""
        asked = self.config.get("classes")
        extra = asked.get("extra_clusters") if isinstance(asked, dict) else None
        if not isinstance(extra, int) or not extra or self.cluster_to_class is not None or self.probe != "cluster":
            return ""
        clusters = len(self.classes)
        return (
            f"{clusters} clusters for {clusters - extra} classes: geohp view shows them, and geohp legend merges them"
        )

    def to_json(self) -> str:
        """The card as it stands in a model file."""
        document = {"format_version": FORMAT_VERSION, **asdict(self)}
        document["members"] = document.pop("cluster_to_class")  # what files have called it from the beginning
        return json.dumps(document, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, name: str) -> ModelCard:
        """Read what :meth:`to_json` of this or an earlier version wrote.

        Args:
            text: the JSON.
            name: the model in messages.

        Raises:
            ModelError: it is no such card, or one of a later version.
        """
        from pydantic import TypeAdapter  # whoever has a card has not read one

        try:
            document: dict[str, Any] = json.loads(text)
            version = int(document["format_version"])
            document["cluster_to_class"] = document.pop("members", None)
            card = TypeAdapter(cls).validate_python(document) if version <= FORMAT_VERSION else None
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise cls._illegible(name, _reason(error)) from error
        if card is None:
            raise ModelError(f"{name}: written by a newer geohp (format {version})", "update geohp to use it")
        if card.probe not in PROBES:
            raise ModelError(f"{name}: predicts with a {card.probe!r} probe, unknown here", "update geohp to use it")
        if mistake := class_mistake(card.classes):
            raise cls._illegible(name, mistake)
        return card

    @staticmethod
    def _illegible(name: str, reason: str) -> ModelError:
        return ModelError(f"{name}: its model card cannot be read ({reason})", "train or copy the model again")


def _reason(error: Exception) -> str:
    """What is wrong with a card, in a line."""
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def read_card(path: str | Path) -> ModelCard:
    """The card of a model file (or of the model in a run folder), without its weights, and without torch.

    Raises:
        ModelError: when there is no model file, or it is none of geohp's.
    """
    path = find_model(path)
    try:
        # Of a file that may not be read safetensors says that there is none.
        with path.open("rb"), safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        problem = f"{path}: not a readable safetensors file ({failure_reason(error)})"
        raise ModelError(problem, "train or copy the model again") from error
    if CARD_ENTRY not in metadata:
        raise ModelError(
            f"{path}: holds weights but no geohp model card",
            "it may be a backbone, which goes with {option} and this file as its weights",
            option="backbone",
            value=metadata.get(BACKBONE_ENTRY),
        )
    return ModelCard.from_json(metadata[CARD_ENTRY], str(path))


def check_backbone_weights(path: Path, card: BackboneCard, weights: str | Path | None) -> None:
    """Refuse a model whose backbone's weights are nowhere to be had, without loading them.

    Args:
        path: the model file.
        card: of its backbone.
        weights: the file that is given in place of the one it was trained with.

    Raises:
        WeightsError: the file is missing, or no file of weights.
    """
    with safe_open(path, framework="np") as file:
        if any(name.startswith("backbone.") for name in file.keys()):  # noqa: SIM118 - not a mapping
            return
    source = backbone_weights(card, path, weights)
    if source is not None and source not in (HUB, RANDOM) and card.name not in AERIAL:  # whose file is of another kind
        check_weight_file(source)


def backbone_weights(card: BackboneCard, path: Path, weights: str | Path | None) -> str | None:
    """Where the backbone's weights are to be found now: as told, else as trained, else beside the model file."""
    if weights is not None:
        return str(weights)
    if card.weights in (None, HUB):
        return None
    if card.weights == RANDOM or Path(card.weights).is_file():
        return card.weights
    beside = path.parent / Path(card.weights).name
    if beside.is_file():
        return str(beside)
    problem = f"{path}: its backbone weights are no longer at {card.weights}"
    raise WeightsError(problem, "give their file as {option} or put it beside the model", option="weights")
