"""What an evaluation has measured, and its summary over models of several seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.markup import escape

from geohp.classes import LandCoverClass
from geohp.data.base import EvaluationProtocol
from geohp.evaluation.metrics import SegmentationScores
from geohp.evaluation.predict import MASKS, PredictionMode
from geohp.evaluation.published import PublishedRow, published_rows
from geohp.evaluation.tables import ScoreRow, class_table, mean_and_deviation, percent, scores_table
from geohp.reporting.pages import as_text
from geohp.reporting.summaries import preformatted

LAST, BEST = "last checkpoint", "best on labels"
"""Names of checkpoints: the result, and the one whose choice looked at the labels it is scored on."""

_CHOSEN = "the checkpoint was chosen by these very labels"


@dataclass(frozen=True)
class Result:
    """How one model does, read one way.

    Attributes:
        model: the model's file.
        checkpoint: ``"last checkpoint"``, which is the result, or ``"best on labels"``, whose choice looked at the
            labels it is scored on.
        mode: how its classes were read.
        scores: accuracy, mean IoU, IoU by class, assignment, confusion.
    """

    model: Path
    checkpoint: str
    mode: PredictionMode
    scores: SegmentationScores

    def as_dict(self) -> dict[str, object]:
        """All figures in plain lists and numbers, an undefined one as ``None``."""
        return {
            "model": str(self.model),
            "checkpoint": self.checkpoint,
            **asdict(self.mode),
            **{name: _plain(figures) for name, figures in self.scores.items()},
        }


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured.

    Attributes:
        results: one for each model, checkpoint and mode.
        classes: of the labels.
        protocol: how the data are evaluated, and what differs from what was published.
        images: how many were judged.
        side_px: their side.
        notes: what a reader of the figures should know.
        settings: crf, tta and what else was asked for.
    """

    results: tuple[Result, ...]
    classes: tuple[LandCoverClass, ...]
    protocol: EvaluationProtocol
    images: int
    side_px: int
    notes: tuple[str, ...]
    settings: Mapping[str, object]

    def of(self, checkpoint: str, mode: PredictionMode) -> list[Result]:
        """The results of every model for one checkpoint and mode: one for each seed."""
        return [result for result in self.results if (result.checkpoint, result.mode) == (checkpoint, mode)]

    @property
    def rows(self) -> list[tuple[str, PredictionMode]]:
        """Checkpoints and modes there are, the last checkpoint first."""
        return list(dict.fromkeys((result.checkpoint, result.mode) for result in self.results))

    @property
    def class_pixels(self) -> NDArray[np.int64]:
        """(classes,) labelled pixels of each class."""
        scores = self.results[0].scores
        pixels: NDArray[np.int64] = scores["counts"].sum(0) + scores["unlabelled"]
        return pixels

    @property
    def class_shares(self) -> NDArray[np.float64]:
        """(classes,) share of each class in the labelled pixels."""
        return self.class_pixels / max(1, self.labelled_px)

    @property
    def labelled_px(self) -> int:
        """How many labelled pixels there are."""
        return int(self.class_pixels.sum())

    @property
    def summary(self) -> str:
        """What was judged, in words."""
        return f"{self.images:,} images of {self.side_px} px, {self.labelled_px:,} labelled pixels"

    @property
    def published(self) -> tuple[PublishedRow, ...]:
        """What others have published for the same benchmark."""
        return published_rows(self.protocol.benchmark) if self.protocol.benchmark else ()

    def class_ious(self) -> dict[tuple[str, PredictionMode], list[NDArray[np.float64]]]:
        """IoU of the classes in percent, an array (classes,) for each model, by checkpoint and mode."""
        return {row: [result.scores["class_iou"] for result in self.of(*row)] for row in self.rows}

    def score_rows(self) -> list[ScoreRow]:
        """The figures of every checkpoint, with and without CRF, and below them those that others have published."""
        own = dict.fromkeys((checkpoint, mode.crf) for checkpoint, mode in self.rows)
        published = [ScoreRow(row.title, row.figures, row.remark, published=True) for row in self.published]
        masks = [row for row in self.rows if row[1] == MASKS]
        rows = [self._score_row(checkpoint, crf) for checkpoint, crf in own]
        return [*rows, *(self._masks_row(checkpoint) for checkpoint, _ in masks), *published]

    def _score_row(self, checkpoint: str, crf: bool) -> ScoreRow:
        figures: list[str] = []
        models = 0
        for probe in ("cluster", "linear"):
            scores = [result.scores for result in self.of(checkpoint, PredictionMode(probe, crf))]
            models = max(models, len(scores))
            figures += [percent([each["accuracy"] for each in scores]), percent([each["miou"] for each in scores])]
        name = f"{checkpoint}{' + CRF' if crf else ''}{f' ({models} models)' if models > 1 else ''}"
        return ScoreRow(name, tuple(figures), _CHOSEN if checkpoint == BEST else "")

    def _masks_row(self, checkpoint: str) -> ScoreRow:
        scores = [result.scores for result in self.of(checkpoint, MASKS)]
        figures = percent([each["accuracy"] for each in scores]), percent([each["miou"] for each in scores])
        return ScoreRow(f"{checkpoint}, masks clustered", (*figures, "", ""), _CHOSEN if checkpoint == BEST else "")

    def __repr__(self) -> str:
        return f"<Evaluation: {self.protocol.benchmark or 'own data'}, {self.summary}>"

    def _repr_html_(self) -> str:
        return preformatted(self.report())

    def report(self, width: int = 100) -> str:
        """All figures as tables of text, beside those published for the same benchmark."""
        return as_text(self._parts(), width)

    def _parts(self) -> Iterator[RenderableType]:
        yield f"{self.protocol.benchmark or 'own data'}: {self.summary}"
        yield escape(self.protocol.text)
        yield scores_table(self.score_rows())
        ious = {str(mode): ious for (checkpoint, mode), ious in self.class_ious().items() if checkpoint == LAST}
        yield class_table([entry.name for entry in self.classes], self.class_shares, ious)
        yield from (f"Note: {escape(note)}." for note in self.notes)

    def as_dict(self) -> dict[str, object]:
        """All figures in plain lists and numbers, for JSON; an undefined one is ``None``."""
        return {
            "benchmark": self.protocol.benchmark,
            "protocol": {"same_data": self.protocol.same, "text": self.protocol.text},
            "images": self.images,
            "side_px": self.side_px,
            "labelled_px": self.labelled_px,
            "classes": [{"id": entry.id, "name": entry.name, "colour": entry.colour} for entry in self.classes],
            "settings": self.settings,
            "notes": list(self.notes),
            "summary": [self._summary(*row) for row in self.rows],
            "results": [result.as_dict() for result in self.results],
            "published": [row.as_dict() for row in self.published],
        }

    def _summary(self, checkpoint: str, mode: PredictionMode) -> dict[str, object]:
        results = self.of(checkpoint, mode)
        summary = {"checkpoint": checkpoint, **asdict(mode), "models": len(results)}
        for key in ("accuracy", "miou"):
            mean, deviation = mean_and_deviation([result.scores[key] for result in results])
            summary |= {key: _plain(mean), f"{key}_deviation": deviation}
        return summary


def _plain(figures: object) -> object:
    """Arrays as lists, NaN as ``None``."""
    if isinstance(figures, np.ndarray):
        return [_plain(figure) for figure in figures.tolist()] if figures.ndim == 1 else figures.tolist()
    return None if figures != figures else figures
