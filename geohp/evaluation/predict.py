"""From codes to labels at full resolution, by the protocol of STEGO and HP: upsample, probe, CRF where asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from geohp.crf.mean_field import dense_crf, guide_image
from geohp.methods.probes import ClusterProbe, LinearProbe
from geohp.model.network import LandCoverModel, class_scores
from geohp.model.smoothing import average_neighbours

CRF_SHARPNESS = 2.0
"""The CRF takes softmax(2 cosine) for a cluster's probability, as the reference does."""

Encoder = Callable[[Tensor], Tensor]
"""Images (B, bands, H, W) in [0, 1] to codes (B, D, h, w)."""


@dataclass(frozen=True)
class PredictionMode:
    """One way of reading classes off the codes.

    Attributes:
        probe: ``"cluster"``, found without labels, or ``"linear"``, which has learned from the training labels; or
            ``"masks"``, clusters of masks that come with the images.
        crf: refined by the dense CRF.
    """

    probe: str
    crf: bool = False

    def __str__(self) -> str:
        return f"{self.probe} + CRF" if self.crf else self.probe


MASKS = PredictionMode("masks")
"""See :mod:`geohp.evaluation.mask_clusters`."""


class Predictor:
    """Reads labels of whole images off codes.

    Args:
        encoder: images to codes.
        probe: the clusters.
        linear_probe: the classifier that was trained on labels, where there is one.
        patch_px: side of the backbone's patches; images are resized to the nearest multiple where they are none.
        crf: read every probe a second time through the dense CRF.
        tta: average the codes with those of the mirrored image.
        linear_classes: (K,) int64, which of the labels' classes each of the linear probe's is, 255 for none of them; by
            default they are the same.
        smooth_probe: ``"cluster"`` or ``"linear"``: that of which neighbours and like colours have a say in a patch's
            class, see :meth:`.LandCoverModel.forward`.
    """

    def __init__(
        self,
        encoder: Encoder,
        probe: ClusterProbe,
        linear_probe: LinearProbe | None = None,
        *,
        patch_px: int = 1,
        crf: bool = False,
        tta: bool = False,
        linear_classes: Tensor | None = None,
        smooth_probe: str | None = None,
    ) -> None:
        self.encoder, self.probe, self.linear_probe = encoder, probe, linear_probe
        self.patch_px, self.crf, self.tta, self.smooth_probe = patch_px, crf, tta, smooth_probe
        self.linear_classes = linear_classes

    @classmethod
    def of_model(cls, model: LandCoverModel, *, crf: bool = False, tta: bool = False) -> Predictor:
        """What reads labels as the model says: neighbours and colours have a say where they have one in its maps."""
        return cls(
            model.codes,
            model.probe,
            model.linear_probe,
            patch_px=model.backbone.patch_size,
            crf=crf,
            tta=tta,
            smooth_probe=model.card.probe if model.card.smooth_scores else None,
        )

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.probe.clusters.device

    @property
    def looks_at_images(self) -> bool:
        """Codes do not suffice to read labels: colours have a say."""
        return self.crf or self.smooth_probe is not None

    @property
    def modes(self) -> tuple[PredictionMode, ...]:
        """All ways of reading that :meth:`__call__` gives; of raw features that a probe was taught on, not clusters."""
        probes = [] if self.linear_probe is None else ["linear"]
        if self.probe.classes > 1 or not probes:
            probes = ["cluster", *probes]
        return tuple(
            PredictionMode(probe, crf) for crf in ((False, True) if self.crf else (False,)) for probe in probes
        )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[PredictionMode, Tensor]:
        """Labels (B, H, W) int64 of images (B, bands, H, W) in [0, 1], on their device, for every mode."""
        return self.read(self.codes(images), images.shape[-2:], images)

    @torch.no_grad()
    def read(self, codes: Tensor, size: torch.Size, images: Tensor | None = None) -> dict[PredictionMode, Tensor]:
        """Labels (B, H, W) int64 for every mode, read off codes.

        Args:
            codes: (B, D, h, w).
            size: H and W.
            images: (B, bands, H, W) in [0, 1], where :attr:`looks_at_images`.
        """
        assert images is not None or not self.looks_at_images
        labels: dict[PredictionMode, Tensor] = {}
        for mode in self.modes:
            if mode.crf:
                assert images is not None
                refined = [self._refined(mode, image, code) for image, code in zip(images, codes, strict=True)]
                labels[mode] = torch.stack(refined)
            else:
                # Scores are linear in the code, nearly so where classes have several centroids: interpolating
                # them is interpolating the codes, at K channels instead of D. Cosines have the same order: they divide
                # all scores of a pixel by one number.
                scores = class_scores(self._probe(mode), codes, images if mode.probe == self.smooth_probe else None)
                labels[mode] = _upsampled(scores, size).argmax(1)
            if mode.probe == "linear" and self.linear_classes is not None:
                labels[mode] = self.linear_classes.to(labels[mode].device)[labels[mode]]
        return labels

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Codes (B, D, h, w) of images (B, bands, H, W) in [0, 1], resized to whole patches where they are none."""
        images = in_whole_patches(images, self.patch_px)
        codes = self.encoder(images).float()
        if self.tta:
            codes = (codes + self.encoder(images.flip(3)).float().flip(3)) / 2
        return codes

    def _probe(self, mode: PredictionMode) -> ClusterProbe | LinearProbe:
        return self.linear_probe if mode.probe == "linear" and self.linear_probe is not None else self.probe

    def _refined(self, mode: PredictionMode, image: Tensor, code: Tensor) -> Tensor:
        """Labels (H, W) of one image (bands, H, W) through the CRF, one at a time: full-size codes are large."""
        codes = code[None] if mode.probe != self.smooth_probe else average_neighbours(code[None])
        codes, probe = _upsampled(codes, image.shape[-2:]), self._probe(mode)
        logits = CRF_SHARPNESS * probe.cosines(codes) if isinstance(probe, ClusterProbe) else probe(codes)
        return dense_crf(guide_image(image), logits[0].log_softmax(0)).argmax(0)


def whole_patches_px(side: int, patch_px: int) -> int:
    """Side at which a backbone sees images of this side: the nearest multiple of its patches'."""
    return max(1, round(side / patch_px)) * patch_px


def in_whole_patches(images: Tensor, patch_px: int) -> Tensor:
    """Images (B, bands, H, W) as the backbone sees them, resized where their sides are no multiples of a patch's."""
    size = tuple(whole_patches_px(side, patch_px) for side in images.shape[-2:])
    if size == tuple(images.shape[-2:]):
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def _upsampled(maps: Tensor, size: torch.Size) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
