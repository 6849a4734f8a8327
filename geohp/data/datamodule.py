"""geohp's data for other trainers: a Lightning data module whose batches are those of TorchGeo's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lightning import LightningDataModule
from torch import Generator
from torch.utils.data import DataLoader

from geohp.config.experiment import Config
from geohp.config.loading import load_config
from geohp.data.base import Item, reader_options
from geohp.data.factory import open_data

if TYPE_CHECKING:
    from geohp.classes import LandCoverClass
    from geohp.data.base import DataSource, ImageSet


class GeohpDataModule(LightningDataModule):
    """Any data that geohp reads, for any Lightning module that takes TorchGeo's batches.

    Batches are ``{"image": (B, bands, H, W) float32 in [0, 1], "mask": (B, H, W) int64}``; masks hold classes from 0
    and 255 where nothing is known (``ignore_index=255``). Batches to train on have a ``mask`` where labels are held
    out (``data.split``, ``data.test_images``) or the data set has a split of its own.

    There are two sides: validation and testing see the same images, so a model that is chosen by its validation score
    needs other data for its final figure.

    Args:
        config: an experiment's configuration, its file or the name of a packaged one; or a data source.
        batch_size: images a batch; ``train.batch_size`` where not given.
        num_workers: processes that read; ``train.workers`` where not given.
        seed: of the places of patches and of shuffling; ``train.seed`` where not given.
    """

    def __init__(
        self,
        config: Config | str | Path | DataSource,
        *,
        batch_size: int | None = None,
        num_workers: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if isinstance(config, str | Path):
            config = load_config(config)
        settings = config.train if isinstance(config, Config) else None
        self.batch_size = batch_size or (settings.batch_size if settings else 16)
        self.num_workers = num_workers if num_workers is not None else (settings.workers if settings else 0)
        self.seed = seed if seed is not None else (settings.seed if settings else 0)
        self.source: DataSource = open_data(config.data, self.seed) if isinstance(config, Config) else config
        self._sets: dict[str, ImageSet] = {}

    @property
    def classes(self) -> tuple[LandCoverClass, ...]:
        """What masks mean; known once a set has been made."""
        return self.source.classes

    def setup(self, stage: str | None = None) -> None:
        """Look at the images a stage needs.

        Args:
            stage: "fit", "validate", "test" or "predict"; all where not given.

        Raises:
            DataError, SceneError: what is missing or wrong; for all stages but "fit" also where there are no labels.
        """
        labelled = self.source.labelled
        if stage in ("fit", None) or not labelled:
            self._make("training")
        if stage in ("validate", "test") or labelled:
            self._make("evaluation")

    def train_dataloader(self) -> DataLoader[Item]:
        """Images to train on, shuffled."""
        images = self._make("training")
        return self._loader(images, shuffle=True)

    def val_dataloader(self) -> DataLoader[Item] | list[DataLoader[Item]]:
        """Labelled images to be judged on; none where there are no labels."""
        return self._loader(self._sets["evaluation"]) if "evaluation" in self._sets else []

    def test_dataloader(self) -> DataLoader[Item]:
        """Labelled images to be judged on."""
        return self._loader(self._make("evaluation"))

    def predict_dataloader(self) -> DataLoader[Item]:
        """The same images, or those to train on where there are no labels."""
        return self._loader(self._sets.get("evaluation") or self._make("training"))

    def teardown(self, stage: str | None = None) -> None:
        """Close what is open."""
        for images in self._sets.values():
            images.close()

    def _make(self, side: str) -> ImageSet:
        if side not in self._sets:
            self._sets[side] = self.source.training() if side == "training" else self.source.evaluation()
        return self._sets[side]

    def _loader(self, images: ImageSet, *, shuffle: bool = False) -> DataLoader[Item]:
        return DataLoader(
            images,
            batch_size=self.batch_size,
            shuffle=shuffle,
            **reader_options(self.num_workers),
            generator=Generator().manual_seed(self.seed) if shuffle else None,
            drop_last=shuffle and len(images) >= self.batch_size,
        )
