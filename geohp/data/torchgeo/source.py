"""TorchGeo's data sets as images to learn from and to be judged on."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from affine import Affine
from rasterio.crs import CRS
from torchgeo import datasets as torchgeo_datasets
from torchgeo.datasets import GeoDataset, NonGeoDataset

from geohp.classes import NODATA_LABEL
from geohp.config.data import AnyDataConfig, TorchGeoConfig
from geohp.data.base import DataSource, EvaluationProtocol
from geohp.data.class_table import ClassTable
from geohp.data.torchgeo.torchgeo_images import TorchGeoDataset, TorchGeoImages
from geohp.errors import DataError
from geohp.legend.features import natural
from geohp.progress import Progress, no_progress
from geohp.raster.grid import Grid
from geohp.raster.read.scaling import Scaling

Lazy = TorchGeoDataset | Callable[[], TorchGeoDataset]


class TorchGeoData(DataSource):
    """One or two TorchGeo data sets as a source.

    Args:
        train: to learn from, or what makes it when it is needed.
        test: to be judged on; where not given, ``train`` is, and its labels teach nothing.
        config: how to cut patches; its names of data sets are not looked at.
        seed: of the places of patches.
    """

    def __init__(self, train: Lazy, test: Lazy | None = None, *, config: TorchGeoConfig, seed: int = 0) -> None:
        self._lazy: dict[str, Lazy | None] = {"train": train, "test": test}
        self.config, self.seed = config, seed
        self._scaling: Scaling | None = None

    @classmethod
    def of_config(cls, config: TorchGeoConfig, seed: int = 0) -> TorchGeoData:
        """The data sets that a configuration names."""
        for name in (config.dataset, config.label_dataset):
            if name is not None:
                dataset_class(name)
        test = (lambda: _make(config, config.test_options)) if config.test_options else None
        return cls(lambda: _make(config, config.train_options), test, config=config, seed=seed)

    @classmethod
    def of_dataset(cls, dataset: TorchGeoDataset, config: AnyDataConfig, seed: int = 0) -> TorchGeoData:
        """A data set at hand, of which patches are cut as a configuration of any source says."""
        title = type(dataset).__name__
        if not isinstance(dataset, GeoDataset | NonGeoDataset):
            raise DataError(f"data: {title} is neither a data source of geohp's nor a data set of TorchGeo's")
        shared = config.model_dump(include=set(TorchGeoConfig.model_fields) - {"source", "options"})
        bands = config.read_bands if all(isinstance(band, int) for band in config.read_bands or ()) else None
        settings = {**shared, "source": "torchgeo", "dataset": title, "bands": list(bands) if bands else None}
        return cls(dataset, config=TorchGeoConfig.model_validate(settings), seed=seed)

    @property
    def labelled(self) -> bool:
        """Whether there are labels to evaluate against."""
        return _has_masks(self._dataset("test" if self._lazy["test"] is not None else "train"))

    def training(self, progress: Progress = no_progress) -> TorchGeoImages:
        """Patches at random places."""
        dataset = self._dataset("train")
        self.pixel_size_m = _ground_size(dataset)
        teaches = self._lazy["test"] is not None and _has_masks(dataset)
        return self._training_patches(self._table(progress) if teaches else None)

    def evaluation(self, progress: Progress = no_progress) -> TorchGeoImages:
        """Patches of a grid over all labelled images."""
        config = self.config
        dataset = self._dataset("test" if self._lazy["test"] is not None else "train")
        if not _has_masks(dataset):
            raise DataError(
                f"{type(dataset).__name__}: gives no masks to evaluate against",
                "name a data set of labels with data.label_dataset, or one that has masks",
            )
        table = self._table(progress)
        self.pixel_size_m = _ground_size(dataset)
        return TorchGeoImages(
            dataset,
            patch_px=max(1, round(config.evaluation_px * config.patch_px / config.model_input_px)),
            input_px=config.evaluation_px,
            bands=config.bands,
            # One range for both sides, that of what is learnt from.
            scaling=self._scaling or self._training_patches().scaling,
            table=table,
            progress=progress,
        )

    def _training_patches(self, table: ClassTable | None = None) -> TorchGeoImages:
        config = self.config
        images = TorchGeoImages(
            self._dataset("train"),
            patch_px=config.patch_px,
            input_px=config.model_input_px,
            patches=config.patches,
            bands=config.bands,
            scaling=self._scaling or config.scaling,
            table=table,
            seed=self.seed,
        )
        self._scaling = images.scaling
        return images

    def _dataset(self, side: str) -> TorchGeoDataset:
        lazy = self._lazy[side]
        assert lazy is not None
        if not isinstance(lazy, GeoDataset | NonGeoDataset):
            lazy = self._lazy[side] = lazy()
        title = type(lazy).__name__
        text = f"TorchGeo's {title}; evaluated on another split of it than trained on."
        if self._lazy["test"] is None:
            text = f"TorchGeo's {title}; evaluated on the images that were trained on, none of whose labels were used."
        self.protocol = EvaluationProtocol(None, same=False, text=text)
        return lazy

    def _table(self, progress: Progress) -> ClassTable:
        declared, colours = _declared(self._dataset("train"))
        names: Mapping[str, str | None] = self.config.label_classes or {str(i): name for i, name in enumerate(declared)}
        if not names:
            texts = [str(value) for value in self._label_values(progress) - {NODATA_LABEL, -1}]
            names = {text: text for text in sorted(texts, key=natural)}
        table = ClassTable.of_config(names, {names.get(text) or text: colour for text, colour in colours.items()})
        self.classes = table.classes
        return table

    def _label_values(self, progress: Progress) -> set[int]:
        """All labels that occur on either side."""
        values: set[int] = set()
        for side in (side for side, dataset in self._lazy.items() if dataset is not None):
            dataset = self._dataset(side)
            patches = TorchGeoImages(dataset, patch_px=self.config.patch_px, bands=self.config.bands, scaling="0,1")
            values |= patches.values(progress)
        return values


def dataset_class(name: str) -> type[TorchGeoDataset]:
    """A data set of TorchGeo's by the name of its class."""
    kinds = (GeoDataset, NonGeoDataset)
    candidate = getattr(torchgeo_datasets, name, None)
    if inspect.isclass(candidate) and issubclass(candidate, kinds):
        return candidate
    known = [n for n, c in vars(torchgeo_datasets).items() if inspect.isclass(c) and issubclass(c, kinds)]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    raise DataError(
        f"data.dataset = {name}: torchgeo.datasets has no such data set",
        f"did you mean {close[0]!r}?" if close else "see TorchGeo's documentation for those it has",
    )


def _make(config: TorchGeoConfig, further: Mapping[str, object]) -> TorchGeoDataset:
    images = _construct(config.dataset, {**config.options, **further})
    if config.label_dataset is None:
        return images
    labels = _construct(config.label_dataset, config.label_options)
    if not (isinstance(images, GeoDataset) and isinstance(labels, GeoDataset)):
        raise DataError(
            f"data.label_dataset = {config.label_dataset}: only GeoDatasets can be laid over one another",
            f"choose another one than {config.dataset}",
        )
    if config.label_dataset == "RasterDataset":
        cast(Any, labels).is_image = False  # of a plain raster nothing else says that it holds labels
    try:
        return images & labels
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"data.label_dataset = {config.label_dataset}: does not lie over {config.dataset} ({error})", "check both"
        ) from error


def _construct(name: str, options: Mapping[str, object]) -> TorchGeoDataset:
    try:
        return dataset_class(name)(**options)
    except DataError:
        raise
    except Exception as error:  # whatever a data set of others' raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data.dataset = {name}: cannot be opened: {reason}", "check data.options") from error


def _has_masks(dataset: TorchGeoDataset) -> bool:
    if isinstance(dataset, GeoDataset):
        parts = getattr(dataset, "datasets", [dataset])
        return any(not getattr(part, "is_image", True) or hasattr(part, "label_name") for part in parts) or (
            "mask" in dataset[_first_place(dataset)]
        )
    return "mask" in dataset[0]


def _first_place(dataset: Any) -> tuple[slice, slice, slice]:
    """The first pixel of the first image."""
    left, bottom, _, _ = dataset.index.geometry.iloc[0].bounds
    time = dataset.index.index[0]
    return slice(left, left + dataset.res[0]), slice(bottom, bottom + dataset.res[1]), slice(time.left, time.right)


def _declared(dataset: Any) -> tuple[list[str], dict[str, str]]:
    """Names of classes 0, 1, 2, ... and colours by value, as far as a data set tells."""
    parts = [dataset, *getattr(dataset, "datasets", ())]
    names: Any = next((c for p in parts if isinstance(c := getattr(p, "classes", None), list | tuple)), ())
    cmap: Any = next((c for p in parts if isinstance(c := getattr(p, "cmap", None), dict) and c), {})
    colours = {str(value): "#{:02x}{:02x}{:02x}".format(*rgb[:3]) for value, rgb in cmap.items() if len(rgb) >= 3}
    return [str(name) for name in names], colours


def _ground_size(dataset: Any) -> float | None:
    """Side of a pixel in metres, in the middle of a data set."""
    if not isinstance(dataset, GeoDataset):
        return None
    x, y, _ = dataset.bounds
    (across, down), middle = dataset.res, ((x.start + x.stop) / 2, (y.start + y.stop) / 2)
    crs = CRS.from_wkt(dataset.crs.to_wkt())
    return Grid(1, 1, Affine(across, 0, middle[0], 0, -down, middle[1]), crs).pixel_size_m
