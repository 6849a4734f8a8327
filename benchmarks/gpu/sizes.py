"""How large the problems are: as published, or a few images for a dry run on a CPU."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Of all problems; the defaults are the step and the data set published for Potsdam-3.

    Attributes:
        images, side: of a batch, and patches along an image's side.
        channels, codes: widths C of features and D of codes.
        pool: rows R of a reference pool.
        backbone, small_backbone: by timm's names, weights drawn at random.
        image_px: side of a training image; its patches are ``side`` along it.
        set_images, epochs: of the whole job.
        scene_px, parity_px: sides of the scenes that are mapped, for the rate and for comparing labels.
        window_px, overlap_px, windows: of the engine, and how many of them a forward pass.
        crf_px, crf_classes, crf_images: of the dense CRF.
        repeat: timings of each kind.
        steps: of training that are timed.
    """

    images: int = 64
    side: int = 28
    channels: int = 768
    codes: int = 256
    pool: int = 1024
    backbone: str = "vit_base_patch8_224"
    small_backbone: str = "vit_small_patch8_224"
    image_px: int = 224
    set_images: int = 4545
    epochs: int = 10
    scene_px: int = 8192
    parity_px: int = 1024
    window_px: int = 448
    overlap_px: int = 112
    windows: int = 16
    crf_px: int = 320
    crf_classes: int = 27
    crf_images: int = 16
    repeat: int = 7
    steps: int = 60

    @property
    def rows(self) -> int:
        """n, of a batch."""
        return self.images * self.side**2

    @property
    def loss_operations(self) -> float:
        """Floating-point operations of the loss's products with both gradients: 2 n^2 (C + 7 D)."""
        return 2.0 * self.rows**2 * (self.channels + 7 * self.codes)


FULL = Sizes()
TINY = Sizes(
    images=4, side=4, channels=32, codes=16, pool=6, backbone="vit_tiny_patch16_224",
    small_backbone="vit_tiny_patch16_224", image_px=64, set_images=9, epochs=1, scene_px=112, parity_px=96,
    window_px=64, overlap_px=16, windows=2, crf_px=24, crf_classes=3, crf_images=2, repeat=1, steps=6,
)  # fmt: skip
