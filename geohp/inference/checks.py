"""What can be known to be wrong with a mapping before torch is imported, which takes seconds: plain data only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from geohp.backbones.names import AERIAL, check_backbone
from geohp.errors import ConfigError, SceneError
from geohp.files.checks import refuse_parts
from geohp.inference.band_counts import check_band_count, check_channels
from geohp.inference.extent import Extent
from geohp.legend.file import Legend
from geohp.model.card import ModelCard, check_backbone_weights, read_card
from geohp.model.device import check_device
from geohp.model.runs import find_model, newest_run
from geohp.options import OnReadError
from geohp.raster.read.scaling import parse_rule, resolve_scaling
from geohp.raster.read.scene import Scene, open_scene

if TYPE_CHECKING:
    from geohp.inference.map_options import MapOptions, ModelOptions

_ONLY_FOR_A_FIT = ("classes", "backbone", "block", "split_covers")
"""Options that ask for classes to be found on the scene itself."""

_UNMEASURED = "0,1"  # opens any scene without reading a pixel


def check_scene_mapping(scene: str | Path | Scene, options: MapOptions, outputs: Iterable[Path] = ()) -> None:
    """Refuse model, options and scene where they cannot be used, or do not go together.

    Args:
        scene: what to map.
        options: how.
        outputs: files to be written, none of which the scene may be made of.

    Raises:
        GeohpError: one sentence and its remedy.
    """
    card = check_mapping(options)
    if isinstance(scene, Scene):
        Extent.of(scene.grid, scene.path, options)
        refuse_parts(outputs, scene.files)
        return
    bands = options.bands if options.bands is not None or card is None else card.bands
    with open_scene(scene, bands=bands, scaling=_UNMEASURED) as opened:
        Extent.of(opened.grid, str(scene), options)
        if card is not None:
            check_channels(opened, len(card.backbone.mean) or len(opened.bands))
        rule = parse_rule(options.scaling or (card.scaling if card is not None else "auto"))
        if rule.kind in ("fixed", "type"):
            resolve_scaling(rule, opened.stored_types, opened.sample, str(scene))
        if options.pixel_size_m and opened.grid.pixel_size_m is None:
            raise SceneError(f"{scene}: its pixel size is not known without a CRS", "leave the pixel size out")
        refuse_parts(outputs, opened.files)


def check_mapping(options: MapOptions) -> ModelCard | None:
    """Refuse a model and options that cannot be used for any scene.

    Returns:
        The card of the model file that will be used; ``None`` without one.
    """
    options.check_windows()
    if options.on_read_error not in get_args(OnReadError):
        raise ConfigError(f"on_read_error {options.on_read_error!r}: must be one of {', '.join(get_args(OnReadError))}")
    check_device(options.device)
    if options.scaling is not None:
        parse_rule(options.scaling)
    legend = None if options.legend is None else Legend.of(options.legend)
    path = model_path(options)
    if path is None:
        return None
    path = find_model(path)
    card = read_card(path)
    if legend is not None and legend.model_sha256 is None:  # of others the model itself is asked first
        legend.check([entry.id for entry in card.classes], f"model {path}")
    if options.bands is not None and card.backbone.mean:
        check_band_count(options.bands, len(card.backbone.mean), f"model {path}")
    check_backbone_weights(path, card.backbone, options.weights)
    return card


def model_path(options: ModelOptions) -> str | Path | None:
    """The model file or run folder to use: the one asked for, or the newest run.

    Returns:
        ``None`` where a :class:`.Segmenter` is at hand, or classes are to be found on the scene.

    Raises:
        ConfigError: a model together with what only a new fit can heed, or weights without a backbone.
        WeightsError: a file of weights that is missing, or none.
    """
    values = {name: getattr(options, name) for name in _ONLY_FOR_A_FIT}
    asked = [name for name, value in values.items() if value is not None and value is not False]
    if options.model is not None and asked:
        remedy = "leave it out, or leave the model out to find classes anew"
        raise ConfigError("{option}: the model has its own", remedy, option=asked[0])
    if isinstance(options.model, (str, Path)):
        return options.model
    if options.model is not None:
        return None
    newest = None if asked else newest_run()
    if newest is None:
        _check_fit(options)
    return newest


def _check_fit(options: ModelOptions) -> None:
    """Refuse features that there are not to find classes on."""
    options.check_fit()
    backbone = options.backbone or "rcf"
    if backbone == "rcf":
        for name in ("weights", "block"):
            if getattr(options, name) is not None:
                problem = f"{name}: random convolutional features (rcf), used where no backbone is named, have none"
                raise ConfigError(problem, "name the backbone with {option}", option="backbone")
    if backbone in AERIAL and options.block is not None:
        raise ConfigError(
            f"block: the backbone {backbone} has stages in its place", "leave it out; training takes stages"
        )
    check_backbone(backbone, options.weights)
