"""Whether a training is well: numbers that are not finite end it, a collapsed solution is told in a sentence.

Nothing here draws from a generator or changes the method, so a watched training is the one that was not watched.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geohp.backbones.base import patch_rows
from geohp.errors import TrainingError
from geohp.methods.base import Method, SampleFeatures
from geohp.methods.kmeans.clustering import gather_rows
from geohp.methods.probes import ClusterProbe

logger = logging.getLogger(__name__)

DOMINANT_SHARE = 0.95
"""Beyond this share of the patches, one cluster has taken everything."""
COINCIDING = 0.99
"""Cosine above which two directions are one, where codes lie all around; those that share much of theirs lie nearer."""
_NOISE = 1e-4
"""What rounding leaves between codes that are the same."""
_IMAGES, _PATCHES = 256, 20_000
"""What a result is judged on, at most."""
_ROWS_A_STEP, _STEPS_KEPT = 256, 32
"""Patches that an epoch is judged on: so many of each of its last steps."""
_SKIPPED = 16
"""Steps one after another that a loss scaler may pass over; each halves its scale, which begins with 65,536."""
_NAMED = 5
"""Clusters named in a sentence before it only counts them."""

Numbers = Mapping[str, Tensor | float]


def check_finite(
    terms: Numbers, step: int, *, features: Tensor | None = None, rate: float | None = None, precision: str = "32"
) -> None:
    """Stop a training whose numbers are no longer finite.

    Args:
        terms: losses and gradient norms of a step by name.
        step: its number from 0; the message counts from 1.
        features: what the step saw, looked at only to tell the cause; any shape.
        rate: learning rate of the head, to be named in the remedy.
        precision: of the training, ``"32"`` or a half precision.

    Raises:
        TrainingError: naming the step, the terms, the likely cause and what to do.
    """
    broken = not_finite(terms)
    if not broken:
        return
    shown = " and ".join(f"{name} = {float(terms[name]):g}" for name in broken)
    if features is not None and not bool(torch.isfinite(features).all()):
        cause = (
            "the backbone's features are not finite, so its weights or the images are damaged (NaN or infinite "
            "pixels); name the pixels without data as nodata, or check the weights"
        )
    else:
        lower = f"learning rates (method.learning_rates.head = {rate:g})" if rate else "learning rates"
        cause = f"the training has most likely diverged; set lower {lower}"
        if precision != "32":
            cause += ", or train.precision=32"
    raise TrainingError(f"step {step + 1}: {shown}: {cause}")


def not_finite(terms: Numbers) -> list[str]:
    """Names of the terms that are NaN or infinite, in their order."""
    tensors = {name: value for name, value in terms.items() if isinstance(value, Tensor)}
    broken = {name for name, value in terms.items() if not isinstance(value, Tensor) and not math.isfinite(value)}
    # The whole first: one wait for a GPU, not one a term.
    if tensors and not math.isfinite(float(torch.stack([v.detach().float().sum() for v in tensors.values()]).sum())):
        broken |= {name for name, value in tensors.items() if not bool(torch.isfinite(value).all())}
    return [name for name in terms if name in broken]


def code_warnings(codes: Tensor) -> list[str]:
    """What is wrong with codes (n, D), in sentences: whether all of them point in one direction.

    Judged by what they have in common: 1 where all are parallel, about 0 where they spread.
    """
    common = _common(codes)
    if common <= COINCIDING:
        return []
    return [
        f"the codes have collapsed to one direction (length of their mean {common:.3f} of 1): clusters would split "
        "noise; look whether the images differ at all, and try a lower temperature or learning rate"
    ]


def _common(codes: Tensor) -> float:
    """The length of the mean of the unit rows (n, D)."""
    return float(F.normalize(codes.float(), dim=1).mean(0).norm())


def cluster_warnings(codes: Tensor, probe: ClusterProbe, *, by_gradient: bool = True) -> list[str]:
    """What is wrong with clusters, in sentences: one takes everything, some stay empty, some coincide.

    Args:
        codes: (n, D) a sample of patches.
        probe: its clusters.
        by_gradient: they followed the codes step by step; otherwise k-means has settled them.
    """
    directions, clusters = probe.directions().to(codes.device), probe.classes
    counts = torch.bincount(probe.classes_of(codes), minlength=clusters).cpu()
    sentences = []
    share = float(counts.max() / counts.sum().clamp_min(1))
    if share > DOMINANT_SHARE:
        sentences.append(
            f"cluster {int(counts.argmax())} takes {100 * share:.1f} % of the patches: the solution has collapsed to "
            "one class; give imagery with more variety, or a backbone or block with stronger features"
        )
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        refit = "method.refit_probe=true, where the method has it, or " if by_gradient else ""
        sentences.append(
            f"{_numbered(empty)} of {clusters} {'has' if len(empty) == 1 else 'have'} no patches: classes are missing "
            f"from the map; set {refit}classes.count lower"
        )
    cosines = directions @ directions.T
    everywhere = 1 - _common(codes) ** 2  # 1 - cosine of two codes, in the mean
    coinciding = (1 - cosines < (1 - COINCIDING) * max(everywhere, _NOISE)).triu(1)
    pairs = coinciding.nonzero().tolist()
    if pairs:
        named = ", ".join(f"{a} and {b}" for a, b in pairs[:_NAMED]) + (", ..." if len(pairs) > _NAMED else "")
        most = float(cosines[coinciding].max())
        sentences.append(
            f"clusters {named} coincide (cosine up to {most:.3f}): they split one class at random; "
            "set classes.count lower"
        )
    return sentences


@torch.no_grad()
def examine(method: Method, sample: SampleFeatures) -> list[str]:
    """Everything wrong with a trained method's codes and clusters, in sentences; empty where it is well.

    Args:
        method: finished; put into eval mode for the look and back.
        sample: of the backbone's features.

    Raises:
        TrainingError: when its codes are not finite.
    """
    maps = list(sample(_IMAGES))
    with _evaluating(method):
        rows = gather_rows(lambda _: (method.head(each) for each in maps), _PATCHES, seed=0)
    if not len(rows):
        return []
    if not bool(torch.isfinite(rows).all()):
        raise TrainingError(
            "the trained head gives codes that are not finite: its weights or the backbone's features are",
            "set lower learning rates, or look for NaN among the pixels",
        )
    return [*code_warnings(rows), *cluster_warnings(rows, method.probe, by_gradient=method.probe_is_final)]


class Health(L.Callback):
    """Watches a training: every step for numbers that are not finite, every epoch for a collapse.

    An epoch is judged on patches that its last steps have seen, so nothing is drawn or read for it. Clusters are
    judged only where the probe they have now is the one to be kept: one that k-means settles at the end lags behind
    till then, and is judged by :meth:`check_result`.

    What is wrong is logged as a warning when it is noticed, each kind of it once a training.

    Attributes:
        warnings: what was logged.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._kinds: set[str] = set()
        self._seen: deque[Tensor] = deque(maxlen=_STEPS_KEPT)
        self._hook: Any = None
        self._skipped = 0

    def check_result(self, method: Method, sample: SampleFeatures) -> None:
        """Warn of what is wrong with the result, see :func:`examine`."""
        self.warn(examine(method, sample))

    def warn(self, sentences: Iterable[str], when: str = "") -> None:
        """Log each that is of a kind that was not before, and remember it.

        Args:
            sentences: each ``what is so with numbers: what it means``; the latter is its kind.
            when: what they begin with.
        """
        for sentence in sentences:
            kind = sentence.partition(": ")[2]
            if kind not in self._kinds:
                self._kinds.add(kind)
                self.warnings.append(when + sentence)
                logger.warning(self.warnings[-1])

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep an eye on what goes into the head."""
        self._hook = _method(pl_module).head.register_forward_pre_hook(self._see)

    def on_figures(
        self, trainer: L.Trainer, pl_module: L.LightningModule, step: int, figures: Mapping[str, float]
    ) -> None:
        """Check a step's numbers, before any checkpoint is written.

        In fp16 losses are scaled up until the gradient overflows now and then: steps that the scaler passes over.
        """
        broken, precision = not_finite(figures), str(trainer.precision).split("-")[0]
        self._skipped = self._skipped + 1 if precision == "16" and broken == ["gradient_norm"] else 0
        if not broken or 0 < self._skipped <= _SKIPPED:
            return
        rate = _method(pl_module).head_learning_rate
        # Later steps may have been made meanwhile; features that spoil this one are among the last ones seen.
        seen = torch.cat(list(self._seen)) if self._seen else None
        check_finite(figures, step, features=seen, rate=rate, precision=precision)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look for a collapse; of several processes, which share the method, one does."""
        if not trainer.is_global_zero:
            return
        method = _method(pl_module)
        sentences = method.warnings()
        if self._seen:
            with _evaluating(method), torch.no_grad():
                # A row of pixels: a head looks at each patch by itself.
                codes = method.head(torch.cat(list(self._seen)).T[None, :, None])[0, :, 0].T
            sentences += code_warnings(codes)
            if method.probe_is_final:
                sentences += cluster_warnings(codes, method.probe)
        self.warn(sentences, f"epoch {trainer.current_epoch + 1}: ")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look no more."""
        if self._hook is not None:
            self._hook.remove()
        self._hook = None
        self._seen.clear()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Look no more."""
        self.on_fit_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What has been seen so far, for a training that is resumed."""
        return {"kinds": sorted(self._kinds), "warnings": list(self.warnings)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self._kinds = set(state_dict["kinds"])
        self.warnings = list(state_dict["warnings"])

    def _see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = patch_rows(inputs[0].detach())
        # A copy, or the whole batch would be held.
        self._seen.append(rows[:: max(1, len(rows) // _ROWS_A_STEP)].clone())


@contextmanager
def _evaluating(method: Method) -> Iterator[None]:
    """A method in eval mode, and back in the mode it was in."""
    was_training = method.training
    method.eval()
    try:
        yield
    finally:
        method.train(was_training)


def _method(module: L.LightningModule) -> Method:
    method: Method = module.method  # type: ignore[assignment]
    return method


def _numbered(clusters: list[int]) -> str:
    if len(clusters) == 1:
        return f"cluster {clusters[0]}"
    if len(clusters) <= _NAMED:
        return f"clusters {', '.join(map(str, clusters))}"
    return f"{len(clusters)} clusters"
