"""How the projects whose checkpoints are understood name the parts of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class CheckpointLayout:
    """Names in a project's checkpoints.

    Attributes:
        method: the project's method, as model cards name it.
        title: the same for readers.
        told_by: beginnings of names that only its checkpoints have.
        net: what stands before the backbone's names (``model.``) and the head's (``cluster1.0.`` for the linear
            branch, ``cluster2.0.`` and ``cluster2.2.`` for the nonlinear one).
        clusters: the centroids.
        linear_probe: what stands before the linear probe's ``weight`` and ``bias``.
        linear_head: the head may be the linear branch alone.
    """

    method: str
    title: str
    told_by: tuple[str, ...]
    net: str
    clusters: str
    linear_probe: str
    linear_head: bool = False


HP = CheckpointLayout(
    method="hp",
    title="HP",
    told_by=("net_model_state_dict.",),
    net="net_model_state_dict.",
    clusters="cluster_model_state_dict.clusters",
    linear_probe="linear_model_state_dict.",
)

STEGO = CheckpointLayout(
    method="stego",
    title="STEGO",
    told_by=("net.model.", "net.cluster1.", "net.cluster2.", "cluster_probe."),
    net="net.",
    clusters="cluster_probe.clusters",
    linear_probe="linear_probe.",
    linear_head=True,
)


def layout_of(names: Iterable[str]) -> CheckpointLayout | None:
    """The layout that a checkpoint with tensors of these names has; ``None`` for any other file."""
    names = list(names)
    return next((layout for layout in (HP, STEGO) if any(name.startswith(layout.told_by) for name in names)), None)
