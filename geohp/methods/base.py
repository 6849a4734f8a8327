"""What a method is: a head from features to codes, a cluster probe over the codes, and a loss over a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from geohp.backbones.base import PatchFeatures
from geohp.methods.probes import ClusterProbe, LinearProbe

SampleFeatures = Callable[[int], Iterable[Tensor]]
"""Given a number of images, yields feature maps (B, C, h, w) of that many images, freshly shuffled."""


@dataclass(frozen=True)
class Batch:
    """What one training step sees.

    Attributes:
        patches: features and affinities of the images as they are.
        augmented: the same images' features after photometric augmentation, where the method asks for them.
        masks: (B, h, w) int64, the mask proposal of every patch within its image, negative where there is none; where
            the method asks for them.
        neighbours: the features of one similar image for each of them, where the method asks for them.
        labels: (B, H, W) integer, 255 ignored; only ever read by probes that cannot influence the head.
        share: of a step's images: less than 1 where there is not the memory for all of them at once.
    """

    patches: PatchFeatures
    augmented: PatchFeatures | None = None
    masks: Tensor | None = None
    neighbours: PatchFeatures | None = None
    labels: Tensor | None = None
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.patches.features)

    def parts(self, count: int) -> Iterator[Batch]:
        """The images in so many parts of about equal size, none empty."""
        size = math.ceil(len(self) / count)
        for start in range(0, len(self), size):
            images = slice(start, start + size)
            part = Batch(*(_pick(getattr(self, entry.name), images) for entry in fields(self)[:-1]))
            yield replace(part, share=len(part) / len(self))


class Method(nn.Module, ABC):
    """A way of learning land-cover classes without labels.

    Attributes:
        name: its name in configurations.
        head: features (B, C, h, w) to codes (B, D, h, w).
        probe: clusters of the codes: one class each.
        iterative: it learns by gradient steps; otherwise :meth:`finish` does all the work.
        wants_augmented: batches must carry features of a photometrically augmented view.
        wants_masks: batches must carry the images' mask proposals.
        nearest_images: batches must carry, for each image, the features of one drawn from its so many nearest ones;
            0 where the method looks at each image alone.
        probe_is_final: the clusters of training are those to be kept; otherwise :meth:`finish` settles others.
        head_learning_rate: what to lower where a training diverges.
        gradient_bound: largest norm of the head's gradient, where :meth:`clip_gradients` sees to it.
        linear_probe: trained on labels along with the head, where there are any and the method does that.
    """

    name: str
    head: nn.Module
    probe: ClusterProbe
    iterative: bool = True
    wants_augmented: bool = False
    wants_masks: bool = False
    nearest_images: int = 0
    probe_is_final: bool = True
    head_learning_rate: float | None = None
    gradient_bound: float | None = None
    linear_probe: LinearProbe | None

    def __init__(self) -> None:
        super().__init__()
        self.linear_probe = None
        self._figures: dict[str, Tensor | float] = {}

    @classmethod
    @abstractmethod
    def build_head(cls, in_channels: int, code_channels: int, tensors: Collection[str]) -> nn.Module:
        """A head as it trains them, still without its weights; ``tensors`` names those of a model's file."""

    @abstractmethod
    def prepare(self, sample: SampleFeatures) -> None:
        """Look at the data once before the first step."""

    def before_step(self, step_of_epoch: int, sample: SampleFeatures) -> None:
        """What has to be renewed every so many steps of an epoch."""

    @abstractmethod
    def losses(self, batch: Batch, *, step: int, total_steps: int) -> dict[str, Tensor]:
        """Loss terms of one step by name; their sum is minimised. ``step`` counts from 0."""

    def finish(self, sample: SampleFeatures) -> None:
        """What is left to do after the last step, in eval mode."""

    @abstractmethod
    def optimizers(self) -> list[Optimizer]:
        """The optimisers to step after every backward pass; empty where the method is not iterative."""

    def probe_losses(self, codes: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """The probes' own losses on detached codes: nothing of them, and no label, reaches the head.

        Args:
            codes: (B, D, h, w).
            labels: (B, H, W) integer, for the linear probe where there is one.
        """
        codes = codes.detach()
        losses = {"cluster": self.probe.loss(codes)}
        if self.linear_probe is not None and labels is not None:
            losses["linear"] = self.linear_probe.loss(codes, labels)
        return losses

    def probe_optimizers(self, cluster_rate: float, linear_rate: float) -> list[Optimizer]:
        """Adam for the cluster probe, and for the linear one where there is one, for :meth:`optimizers`."""
        optimizers: list[Optimizer] = [Adam(self.probe.parameters(), lr=cluster_rate)]
        if self.linear_probe is not None:
            optimizers.append(Adam(self.linear_probe.parameters(), lr=linear_rate))
        return optimizers

    def clip_gradients(self) -> None:
        """Bound gradients between the backward pass and the optimisers."""

    def random_state(self) -> dict[str, Tensor]:
        """The states of generators of its own, for checkpoints."""
        return {}

    def restore_random_state(self, state: dict[str, Tensor]) -> None:
        """Go on where :meth:`random_state` was asked."""

    def step_figures(self) -> Mapping[str, Tensor | float]:
        """Further figures of the last step worth logging, where they were computed: nothing waits for a GPU."""
        return self._figures

    def figures(self) -> dict[str, float]:
        """Those as numbers; on a GPU this waits for the step."""
        return {name: float(value) for name, value in self.step_figures().items()}

    def describe(self, figures: Mapping[str, float]) -> str:
        """The losses and figures of a step in a line."""
        return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures.items())

    def warnings(self) -> list[str]:
        """What is wrong with the last step, in sentences that name a remedy."""
        return []


def _pick(values: Any, images: slice) -> Any:
    """Some images' of an entry of a batch."""
    if isinstance(values, PatchFeatures):
        return PatchFeatures(values.features[images], _pick(values.affinities, images))
    return None if values is None else values[images]
