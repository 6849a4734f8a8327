"""One model and one scaling for all maps of a folder, also those that later calls add."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from geohp.classes import printable
from geohp.errors import OutputError
from geohp.files.checks import check_output
from geohp.inference.folder_record import FolderRecord
from geohp.inference.map_options import MapOptions
from geohp.inference.segmenter import Segmenter
from geohp.model.digest import model_sha256
from geohp.model.file import load_model, save_model
from geohp.model.runs import MODEL_NAME
from geohp.options import FitOptions
from geohp.raster.area_of_interest import asked_area
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.scaling import Scaling

logger = logging.getLogger(__name__)


class FolderModel:
    """What the maps of a folder have in common: the model and the scaling, as the folder remembers them or new."""

    def __init__(self, record: FolderRecord, options: MapOptions, *, apart: bool = False) -> None:
        """Look at what the folder remembers; with ``restart`` it is forgotten.

        Args:
            record: of the folder.
            options: which model, and how it reads.
            apart: the scaling is each scene's own.
        """
        self._record, self._options, self._apart = record, options, apart
        asked = {field.name: getattr(options, field.name) for field in fields(FitOptions)}
        if not options.split_covers:  # nobody could ask for it once: folders of then stay known
            del asked["split_covers"]
        self._fit = digest({**asked, "apart": True} if apart else asked)
        self._path = record.folder / MODEL_NAME
        self._notes: dict[str, Any] = {} if options.restart else dict(record.notes)
        try:
            self._origin = printable(str(self._notes.get("origin", "")))
            self._scalings = {kind: _scaling(*stored) for kind, stored in self._notes.get("scalings", {}).items()}
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise record.illegible(error) from error

    def refuse_foreign(self, paths: Iterable[Path], *, fitting: bool) -> None:
        """Refuse what can be known to be in the way before scenes are opened, and classes found.

        Args:
            paths: the files to be written.
            fitting: whether classes are to be found on the scenes.

        Raises:
            OutputError: a map is there that this folder's record does not know, or a model of other classes.
        """
        anew = fitting and not self._is_remembered()
        if anew and self._path.exists():
            raise foreign_output(f"{self._path}: exists already and is not what this command makes")
        for path in paths:
            check_output(path, overwrite=not anew and self._record.holds(path))

    def resolve(self, segmenter: Segmenter | None, paths: Sequence[str]) -> tuple[Segmenter, SceneCollection]:
        """The model, and the scenes as it sees them.

        Args:
            segmenter: a model from elsewhere; without one classes are found on all scenes together, once a folder.
            paths: of the scenes.
        """
        options = self._options
        if segmenter is None and self._is_remembered():
            segmenter = Segmenter(load_model(self._path, weights=options.weights), options.device, self._origin)
            logger.info("using %s", segmenter.origin)
        if segmenter is not None:
            return segmenter, self._alike(segmenter, paths)
        scenes = SceneCollection(paths, bands=options.bands, scaling=options.scaling or "auto", apart=self._apart)
        segmenter = Segmenter.fit(
            scenes, options, device=options.device, area=asked_area(options), progress=options.progress
        )
        logger.info("using %s", segmenter.origin)
        self._record.notes["origin"] = segmenter.origin
        self._remember(segmenter, scenes.scalings)
        with self._record.making({self._path: self._fit}):
            save_model(segmenter.model, self._path)
        return segmenter, scenes

    def _is_remembered(self) -> bool:
        return bool(self._notes) and self._record.holds(self._path, self._fit)

    def _alike(self, segmenter: Segmenter, paths: Sequence[str]) -> SceneCollection:
        card = segmenter.model.card
        known: dict[str, Scaling] = {}
        if self._notes.get("model") == model_sha256(segmenter.model) and self._reads_alike(segmenter):
            known = self._scalings
            if any(len(scaling.low) != segmenter.model.backbone.in_channels for scaling in known.values()):
                raise self._record.illegible(ValueError("a scaling of another number of bands"))
        scenes = SceneCollection(paths, bands=card.bands, scaling=card.scaling, known=known, apart=self._apart)
        self._remember(segmenter, {**known, **scenes.scalings})
        return scenes

    def _reads_alike(self, segmenter: Segmenter) -> bool:
        """Whether the scalings that the folder remembers were measured by this rule on these bands."""
        before = self._notes.get("reading")
        if before is None:  # of a folder made when nobody could choose
            chosen = self._options.bands is not None or self._options.scaling is not None
            return self._is_remembered() or not chosen
        return bool(before == _reading(segmenter))

    def _remember(self, segmenter: Segmenter, scalings: Mapping[str, Scaling]) -> None:
        self._record.notes["model"] = model_sha256(segmenter.model)
        self._record.notes["reading"] = _reading(segmenter)
        self._record.notes["scalings"] = {kind: [s.rule, s.low, s.high] for kind, s in scalings.items()}


def _scaling(rule: str, low: Sequence[float], high: Sequence[float]) -> Scaling:
    """A scaling as the folder remembers it.

    Raises:
        TypeError, ValueError, OverflowError: it is none.
    """
    scaling = Scaling(printable(str(rule)), tuple(map(float, low)), tuple(map(float, high)))
    if not all(map(math.isfinite, (*scaling.low, *scaling.high))):
        raise ValueError(f"a scaling from {scaling.low} to {scaling.high}")
    return scaling


def _reading(segmenter: Segmenter) -> list[Any]:
    """What scalings that are measured depend on, as JSON has it."""
    card = segmenter.model.card
    return [None if card.bands is None else list(card.bands), card.scaling]


def foreign_output(problem: str) -> OutputError:
    """Something else has made a file that is in the way."""
    return OutputError(problem, "choose another folder or replace it with {option}", option="overwrite", value=True)


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of what JSON says of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
