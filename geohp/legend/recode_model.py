"""A model with the classes of a legend."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from geohp.files.checks import MODELS, check_output, check_suffix
from geohp.legend.file import Legend, LegendSource
from geohp.model.card import check_backbone_weights, read_card
from geohp.model.digest import model_sha256
from geohp.model.runs import find_model

if TYPE_CHECKING:
    from geohp.model.network import LandCoverModel


def recode_model(model: LandCoverModel, legend: Legend, name: str = "the model") -> LandCoverModel:
    """The same model, its clusters named, and those of one name one class.

    Args:
        model: of which only the card changes; all else is shared.
        legend: names for its classes, which are its clusters unless a legend has named them before.
        name: the model in messages.

    Raises:
        ConfigError: the legend names a class that the model does not have, or is that of another model.
    """
    card = model.card
    if legend.model_sha256 is not None:
        legend.check_model(model_sha256(model), name)
    legend.check([entry.id for entry in card.classes], name)
    lookup = legend.lookup(card.classes)
    before = [entry.id for entry in card.classes] if card.cluster_to_class is None else card.cluster_to_class
    cluster_to_class = tuple(lookup[number] for number in before)
    classes = tuple(entry for entry in legend.all_classes(card.classes) if entry.id in cluster_to_class)
    return model.with_card(replace(card, classes=classes, cluster_to_class=cluster_to_class))


def recode_model_file(
    model: str | Path, out: str | Path, legend: LegendSource, *, weights: str | Path | None = None,
    overwrite: bool = False,
) -> LandCoverModel:  # fmt: skip
    """Write a model file with the classes of a legend: what it maps from then on has their names and colours.

    Args:
        model: a model file or a run folder.
        out: the model file to write, ending in ``.safetensors``.
        legend: the names, as a mapping too, or the file that has them.
        weights: of the backbone, where they are no longer where the training found them.
        overwrite: replace an existing file.

    Raises:
        ModelError: no model, or a damaged one.
        WeightsError: the backbone's weights cannot be found.
        ConfigError: no legend, that of another model, or one that names a class that the model does not have.
        OutputError: the file has another suffix, exists already, is the model itself, or cannot be written.
    """
    out = check_suffix(out, MODELS, "models")
    source = find_model(model)
    check_output(out, overwrite=overwrite, inputs=[source] if weights is None else [source, weights])
    names, card = Legend.of(legend), read_card(source)
    if names.model_sha256 is None:  # of others the model itself is asked first
        names.check([entry.id for entry in card.classes], str(source))
    check_backbone_weights(source, card.backbone, weights)
    # Not before: whatever is wrong with the files is found without torch, which takes seconds.
    from geohp.model.file import load_model, save_model

    recoded = recode_model(load_model(source, weights=weights), names, str(source))
    save_model(recoded, out)
    return recoded
