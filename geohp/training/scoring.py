"""Scores while training, where labels exist: written down, and the best state kept under its own name."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from geohp.data.base import ImageSet
from geohp.evaluation.coded_images import CodedImages
from geohp.evaluation.confusion import count_confusion
from geohp.evaluation.metrics import SegmentationScores
from geohp.evaluation.predict import Predictor
from geohp.features.sampler import FeatureSampler
from geohp.files.atomic import atomic_write
from geohp.methods.base import Method
from geohp.model.runs import BEST_NAME, SCORES_NAME, UNFINISHED
from geohp.progress import Progress, no_progress
from geohp.training.checkpoints import preserve_rng_state
from geohp.training.step_rows import read_step_rows

_PARTS = ("head.", "probe.", "linear_probe.")


class LabelScores(L.Callback):
    """Scores the method on labelled images, at the ends of epochs and within them; training does not learn of it.

    The best state is, by the rule of HP's authors, the one with the largest sum of all figures: accuracy and mean IoU
    of the clusters and of the linear probe. Of equal ones it is the latest.

    Args:
        images: labelled images to be judged on.
        classes: number of their classes.
        every: epochs between two scores at their ends.
        steps: of an epoch between two further scores; 0 for none.
        work: the run folder: ``scores.csv`` goes there.
        progress: told of the images judged.

    Attributes:
        last: the last scores, by probe.
    """

    def __init__(
        self, images: ImageSet, classes: int, *, every: int, steps: int, work: Path, progress: Progress = no_progress
    ) -> None:
        self.images, self.classes = images, classes
        self.every, self.steps, self.progress = every, steps, progress
        self._scored_at = 0
        self.last: dict[str, SegmentationScores] = {}
        self.out, self.best_file = work / SCORES_NAME, work / UNFINISHED / BEST_NAME

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the scores of steps that are made again."""
        task: Any = pl_module
        if trainer.is_global_zero and self.out.is_file():
            done = [row for row in read_step_rows(self.out) if int(row["step"]) <= task.steps_done]
            if done:
                with atomic_write(self.out) as draft:
                    for row in done:
                        _append(draft, row)
            else:
                self.out.unlink()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Score within an epoch, where that is asked for."""
        if self.steps and (batch_idx + 1) % self.steps == 0:
            self._score(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Score at an epoch's end, unless its last step has been scored."""
        task: Any = pl_module
        if (trainer.current_epoch + 1) % self.every == 0 and self._scored_at != task.steps_done:
            self._score(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The last scores, for a training that is resumed, and for where it was started from."""
        return {
            probe: {name: torch.as_tensor(np.asarray(value)) for name, value in scores.items()}
            for probe, scores in self.last.items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        plain: dict[str, Any] = {
            probe: {name: value.numpy() if value.ndim else value.item() for name, value in scores.items()}
            for probe, scores in state_dict.items()
        }
        self.last = plain

    def best(self, method: Method) -> Method | None:
        """The method as it was when it scored best, in eval mode; ``None`` where it was never scored."""
        if not self.best_file.is_file():
            return None
        method = copy.deepcopy(method)
        with safe_open(self.best_file, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        method.load_state_dict(weights, strict=False)
        return method.eval()

    def _score(self, trainer: L.Trainer, task: Any) -> None:
        """Write a row of scores, and remember the best state."""
        if not trainer.is_global_zero:
            return
        self._scored_at = task.steps_done
        with preserve_rng_state(task.features):
            scores = self._scores(task.method, task.features)
        _append(self.out, {"epoch": trainer.current_epoch + 1, "step": task.steps_done, **scores})
        if sum(scores.values()) >= self._best_sum():
            weights = {
                name: value.detach().cpu().contiguous()
                for name, value in task.method.state_dict().items()
                if name.startswith(_PARTS)
            }
            with atomic_write(self.best_file) as draft:
                save_file(weights, draft, {"scores": json.dumps(scores)})

    def _best_sum(self) -> float:
        if not self.best_file.is_file():
            return float("-inf")
        with safe_open(self.best_file, framework="pt") as file:
            return float(sum(json.loads(file.metadata()["scores"]).values()))

    def _scores(self, method: Method, features: FeatureSampler) -> dict[str, float]:
        """Of the method as it would be if it ended here."""
        method = copy.deepcopy(method).eval()
        method.finish(features.sample)

        def encoder(images: Tensor) -> Tensor:
            codes: Tensor = method.head(features.encode(images, affinities=False).features)
            return codes

        predictor = Predictor(encoder, method.probe, method.linear_probe, patch_px=features.backbone.patch_size)
        coded = CodedImages(
            images=self.images,
            predictor=predictor,
            batch_size=features.batch_size,
            workers=features.workers,
        )
        counts = count_confusion(coded, self.classes, stage="scoring", progress=self.progress)
        self.last = {mode.probe: scores for mode, scores in counts.scores().items()}
        return {f"{probe}_{name}": scores[name] for probe, scores in self.last.items() for name in ("accuracy", "miou")}


def _append(path: Path, row: Mapping[str, object]) -> None:
    """A row to a table that may not have been begun."""
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
