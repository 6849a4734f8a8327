"""From a configuration, or from data at hand, to a source of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from geohp.data.base import DataSource, GivenImages, ImageSet

if TYPE_CHECKING:
    from geohp.config.data import AnyDataConfig
    from geohp.data.torchgeo.torchgeo_images import TorchGeoDataset


def open_data(config: AnyDataConfig, seed: int = 0) -> DataSource:
    """The data that a configuration names; the seed is of whatever is drawn at random: places of patches, splits."""
    match config.source:
        case "orthophotos":
            from geohp.data.orthophotos.orthophoto_source import Orthophotos

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
        case "voc":
            from geohp.data.benchmarks.voc import Voc

            return Voc(config)
        case "torchgeo":
            from geohp.data.torchgeo.source import TorchGeoData

            return TorchGeoData.of_config(config, seed)


def source_of(data: DataSource | ImageSet | TorchGeoDataset, config: AnyDataConfig, seed: int = 0) -> DataSource:
    """Data that are given as objects, as a source.

    Args:
        data: a source, which is handed back; images of one size, to train on; or a data set of TorchGeo's, of which
            patches are cut as the configuration says.
        config: ``patches``, ``patch_px``, ``input_px``, ``bands``, ``scaling`` and ``label_classes`` are looked at.
        seed: of the places of patches.
    """
    if isinstance(data, DataSource):
        return data
    if isinstance(data, ImageSet):
        return GivenImages(data)
    from geohp.data.torchgeo.source import TorchGeoData

    return TorchGeoData.of_dataset(data, config, seed)
