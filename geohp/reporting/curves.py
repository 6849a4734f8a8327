"""The curves of a training: what was logged at every step, in figures that tell what to see in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from geohp.reporting.pages import Picture
from geohp.reporting.plots import Series, draw_curve

LOSS_TERMS = ("contrastive", "consistency", "cluster", "linear")


@dataclass(frozen=True)
class _Group:
    """Columns of a log that share a figure.

    Attributes:
        title: of the figure.
        columns: names in the log, and as shown.
        meaning: what to see in it.
        shares: values lie between 0 and 1.
    """

    title: str
    columns: Mapping[str, str]
    meaning: str = ""
    shares: bool = False


_GROUPS = (
    _Group(
        "Contrastive loss",
        {"contrastive": "contrastive"},
        "What the head learns from. It falls, steeply at first, and levels off; as λ grows it may rise, because "
        "task-specific positives join in.",
    ),
    _Group(
        "Consistency",
        {"consistency": "consistency"},
        "Distance between the codes of an image and of its photometrically changed copy, times its weight. It falls.",
    ),
    _Group(
        "Cluster probe",
        {"cluster": "cluster"},
        "Minus the mean cosine of patches with their centroid: it falls towards −1. Its gradient does not reach the "
        "head.",
    ),
    _Group(
        "Linear probe",
        {"linear": "linear"},
        "Cross-entropy on the labels. Its gradient does not reach the head: it only tells what the codes hold.",
    ),
    _Group(
        "λ, weight of task-specific positives",
        {"task_specific_weight": "λ"},
        "0 during the warm-up, then in a straight line towards 1.",
        shares=True,
    ),
    _Group(
        "Gradient norm of the head",
        {"gradient_norm": "gradient norm"},
        "Before clipping, whose bound is dashed where it comes near. Peaks are harmless as long as they pass.",
    ),
    _Group(
        "Positives per anchor",
        {"positives_agnostic": "task-agnostic", "positives_specific": "task-specific"},
        "Neither close to 0, where nothing is learned, nor to the number of patches of a batch, where everything is "
        "alike.",
    ),
    _Group(
        "Share of anchors",
        {"anchor_share": "share"},
        "Patches that found a task-agnostic positive, of all; the others are left out of the loss. Close to 1.",
        shares=True,
    ),
)
_NEVER_SPECIFIC = (
    " It stayed 0: the warm-up (method.warmup_steps) is longer than the training, and task-specific positives took no "
    "part in it."
)


def training_curves(logged: Mapping[str, Series], clip_norm: float | None = None) -> Iterator[Picture]:
    """A figure for each group of columns that were logged, and for each column that belongs to none.

    Args:
        logged: values over the steps.
        clip_norm: the norm that gradients are clipped to.
    """
    known = {"loss"}.union(*(group.columns for group in _GROUPS))
    others = (_Group(name.replace("_", " "), {name: name}) for name in logged if name not in known)
    for group in (*_GROUPS, *others):
        lines = {shown: logged[name] for name, shown in group.columns.items() if name in logged}
        if not lines:
            continue
        bound = clip_norm if "gradient_norm" in group.columns else None
        png = draw_curve(group.title, lines, legend=len(group.columns) > 1, bound=bound, shares=group.shares)
        specific = lines.get("λ")
        never = specific is not None and not specific[1].any()
        yield Picture(png, group.title, group.meaning + (_NEVER_SPECIFIC if never else ""))
