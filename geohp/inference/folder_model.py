"""One model and one scaling for all maps of a folder, also those that later calls add."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from geohp.errors import OutputError
from geohp.files import check_output
from geohp.inference.folder_record import FolderRecord
from geohp.inference.identity import model_sha256
from geohp.inference.segment import DEFAULT_CLASSES, resolve_segmenter
from geohp.inference.segmenter import Segmenter
from geohp.model.file import load_model, save_model
from geohp.model.runs import MODEL_NAME
from geohp.raster.read.collection import SceneCollection
from geohp.raster.read.scaling import Scaling


class FolderModel:
    """What the maps of a folder have in common: the model and the scaling, as the folder remembers them or new."""

    def __init__(self, record: FolderRecord, fit: Mapping[str, Any], *, restart: bool) -> None:
        """Look at what the folder remembers.

        Args:
            record: of the folder.
            fit: how classes are to be found: the arguments of :func:`geohp.inference.segment.resolve_segmenter`.
            restart: forget what the folder remembers.
        """
        self._record = record
        self._fit = json.loads(json.dumps(fit, default=str))
        self._model = record.folder / MODEL_NAME
        self._remembered: dict[str, Any] = {} if restart else dict(record.notes)

    def refuse_foreign(self, paths: Iterable[Path], *, fitting: bool) -> None:
        """Refuse what can be known to be in the way before scenes are looked at, and classes found.

        Args:
            paths: the files to be written.
            fitting: whether classes are to be found on the scenes.

        Raises:
            OutputError: a map is there that this folder's record does not know, or a model of other classes.
        """
        anew = fitting and not self._found()
        if anew and self._model.exists():
            raise OutputError(
                f"{self._model}: exists already and is not what this command makes; "
                "choose another folder or replace it with --overwrite"
            )
        for path in paths:
            check_output(path, overwrite=not anew and self._record.kept(path))

    def of_given(self, segmenter: Segmenter, paths: Sequence[str]) -> tuple[Segmenter, SceneCollection]:
        """With a model from elsewhere."""
        return segmenter, self._alike(segmenter, paths)

    def of_fit(self, paths: Sequence[str], device: str) -> tuple[Segmenter, SceneCollection]:
        """With classes found on all scenes together, or those that an earlier call has found and left in the folder."""
        fit = dict(self._fit)
        if self._found():
            model = load_model(self._model, weights=fit["weights"])
            segmenter = Segmenter(model, device, self._remembered["origin"])
            return segmenter, self._alike(segmenter, paths)
        rule, seed = fit.pop("scaling") or "auto", fit.pop("seed")
        alike = SceneCollection(paths, bands=fit["bands"], scaling=rule)
        fit["classes"] = fit["classes"] or DEFAULT_CLASSES
        segmenter = resolve_segmenter(alike, device=device, seed=seed, **fit)
        self._record.notes["origin"] = segmenter.origin
        self._remember(segmenter, alike)
        self._record.begin([self._model], digest(self._fit))
        save_model(segmenter.model, self._model)
        self._record.end([self._model])
        return segmenter, alike

    def _found(self) -> bool:
        return bool(self._remembered) and self._record.made(self._model, digest(self._fit))

    def _alike(self, segmenter: Segmenter, paths: Sequence[str]) -> SceneCollection:
        card = segmenter.model.card
        known = {}
        if self._remembered.get("model") == model_sha256(segmenter.model):
            known = {
                kind: Scaling(rule, tuple(low), tuple(high))
                for kind, (rule, low, high) in self._remembered["scalings"].items()
            }
        alike = SceneCollection(paths, bands=card.bands, scaling=card.scaling, known=known)
        self._remember(segmenter, alike, known)
        return alike

    def _remember(self, segmenter: Segmenter, alike: SceneCollection, known: dict[str, Scaling] | None = None) -> None:
        self._record.notes["model"] = model_sha256(segmenter.model)
        self._record.notes["scalings"] = {
            kind: [one.rule, one.low, one.high] for kind, one in {**(known or {}), **alike.scalings}.items()
        }


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of what JSON says of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
