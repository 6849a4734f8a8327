"""Where images come from: one's own, and the published benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geohp.config.data import AnyDataConfig
    from geohp.data.base import DataSource


def open_data(config: AnyDataConfig, seed: int = 0) -> DataSource:
    """The data that a configuration names.

    Args:
        config: its data section.
        seed: of whatever is drawn at random: places of patches, splits of one's own.

    Raises:
        DataError: what is missing, where, and the remedy.
    """
    match config.source:
        case "orthophotos":
            from geohp.data.orthophotos.source import Orthophotos

            return Orthophotos(config, seed)
        case "potsdam":
            from geohp.data.benchmarks.potsdam import Potsdam

            return Potsdam(config)
        case "cocostuff":
            from geohp.data.benchmarks.cocostuff import CocoStuff

            return CocoStuff(config)
        case "cityscapes":
            from geohp.data.benchmarks.cityscapes import Cityscapes

            return Cityscapes(config)
        case "torchgeo":
            from geohp.data.torchgeo.source import TorchGeoData

            return TorchGeoData.of_config(config, seed)
