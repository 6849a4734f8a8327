"""The dense CRF of the published figures: images a second, and the CPU's labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.measurement import Measurement, waits_counted
from geohp.crf.mean_field import dense_crf

_COMPARED = 2


def measure(m: Measurement) -> None:
    """A batch of pictures with large shapes and noise."""
    images, log_p = pictures(m)
    few = min(_COMPARED, len(images))
    wanted = dense_crf(images[:few], log_p[:few]).argmax(1)
    images, log_p = images.to(m.device), log_p.to(m.device)
    got = dense_crf(images, log_p)[:few].argmax(1).cpu()
    m.report("labels as on the CPU", 100 * float((got == wanted).float().mean()), "% of pixels", least=99.9)
    seconds = m.seconds(lambda: dense_crf(images, log_p), 3)
    m.report(f"{len(images)} images of {m.sizes.crf_px} px, {m.sizes.crf_classes} classes", 1e3 * seconds, "ms")
    m.report("images a second", len(images) / seconds, "1/s")
    if m.on_card:
        busy = m.profile("crf", lambda: dense_crf(images, log_p))
        m.report("card busy", 100 * busy, "%")
        with waits_counted() as places:
            dense_crf(images, log_p)
        m.report("waits for the card", sum(places.values()))
        for place, count in places.most_common(8):
            m.note(f"waits for the card: {place} ({count} times)")


def pictures(m: Measurement) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) uint8 and log-probabilities (B, K, H, W), on the CPU."""
    torch.manual_seed(0)
    count, side, classes = m.sizes.crf_images, m.sizes.crf_px, m.sizes.crf_classes
    colours = F.interpolate(200 * torch.rand(count, 3, 6, 6), size=(side, side), mode="nearest")
    images = (colours + 20 * torch.rand(count, 3, side, side)).to(torch.uint8)
    coarse = 1.5 * torch.randn(count, classes, side // 8, side // 8)
    return images, F.interpolate(coarse, size=(side, side), mode="bilinear").log_softmax(1)
