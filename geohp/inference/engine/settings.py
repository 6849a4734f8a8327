"""How a scene is cut into windows, batches and blocks for a model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from geohp.errors import SceneError
from geohp.inference.engine.windows import WindowGrid
from geohp.options import LARGEST_PATCH_PX, WindowOptions
from geohp.raster.block import Block

if TYPE_CHECKING:
    from geohp.model.network import LandCoverModel
    from geohp.raster.read.scene import Scene

_INPUT_PX = 448
"""Smallest side of a default window as the backbone sees it: smaller ones spend too much on their overlap."""

BLOCK_PX = 1024
"""Side of an output block, about."""

_BLOCK_BYTES = 48 * 2**20
"""What a block may take: its own sums, and scores of the windows that touch it."""

_SAME_PIXEL_SIZE = 0.05
"""What logarithms of pixel sizes differ by where the same sensor is shown in another projection."""


@dataclass(frozen=True)
class CrfWindows:
    """The windows that a dense CRF with the published settings runs over, in pixels of the scene.

    Its kernel in space and colour is a Gaussian of 67 px: with the default overlap every pixel is decided, mostly or
    alone, by a window that shows about that much around it, but for the scene's rim.

    Attributes:
        window_px: side of a window.
        overlap_px: pixels shared by neighbouring windows.
    """

    window_px: int = 512
    overlap_px: int = 128

    def grid(self, height: int, width: int) -> WindowGrid:
        """The windows over a scene of that size, none of which reaches beyond it."""
        return WindowGrid(height, width, self.window_px, self.overlap_px, multiple=1)


@dataclass(frozen=True)
class EngineSettings:
    """How a scene is cut into windows, batches and blocks.

    Attributes:
        window_px: side of a window in scene pixels.
        overlap_px: pixels shared by neighbouring windows.
        batch_size: windows a forward pass.
        block_px: side of an output block, about; less where scores are large, see :meth:`blocks`.
        input_scale: backbone pixels a scene pixel.
        patch_px: the backbone's patch, of which its input is a whole number.
        scores_along: scores along a patch's side.
        tta: average over flips and rotations of each window.
        cluster_to_class: the class that each cluster belongs to, where a legend has named them.
        refine: fit the map to the outlines that the scene shows.
    """

    window_px: int
    overlap_px: int
    batch_size: int = 8
    block_px: int = BLOCK_PX
    input_scale: float = 1.0
    patch_px: int = 1
    scores_along: int = 1
    tta: bool = False
    cluster_to_class: tuple[int, ...] | None = None
    refine: CrfWindows | None = None

    @property
    def input_px(self) -> int:
        """Side of a window as the backbone sees it."""
        return round(self.window_px * self.input_scale)

    def grid(self, height: int, width: int) -> WindowGrid:
        """The windows over a scene of that size.

        Scenes smaller than a window get smaller ones, of whole patches.
        """
        # Scene pixels that are a whole number of patches, exactly.
        multiple = Fraction(self.patch_px * self.window_px, self.input_px).numerator
        return WindowGrid(height, width, self.window_px, self.overlap_px, multiple)

    def blocks(self, grid: WindowGrid, clusters: int) -> list[Block]:
        """The blocks to go through it in: their sums and the scores they need fit the memory set aside.

        Where patches are pixels, or classes many, blocks get smaller: down to one window's own pixels.
        """
        scores = clusters * (self.input_px * self.scores_along / self.patch_px) ** 2
        if self.refine is not None:
            # Blocks begin where the refinement's windows do: of what is stored for a block, theirs is most.
            grid = self.refine.grid(grid.height, grid.width)
            scores = clusters * grid.window**2
        stride = grid.window - grid.overlap
        strides = max(1, round(self.block_px / stride))
        while strides > 1:
            windows = strides + math.ceil(grid.overlap / stride)
            if 4 * (windows**2 * scores + clusters * (strides * stride) ** 2) <= _BLOCK_BYTES:
                break
            strides -= 1
        return grid.blocks(strides * stride)


def engine_settings(model: LandCoverModel, scene: Scene, options: WindowOptions) -> EngineSettings:
    """Windows of the side the model was trained at, but no smaller than about 448 px, the backbone's patches fitting.

    Args:
        model: which model will run.
        scene: what on.
        options: what is asked for; the side of a window is rounded to whole patches.

    Raises:
        ConfigError: there is no such refinement.
        ModelError: the overlap is not between 0 and 1, or the window or the pixel size is not positive.
        SceneError: a pixel size is asked for and the scene's own is not known, or so far from it that no window fits.
    """
    options.check_windows()
    patch_px = model.backbone.patch_size
    input_scale = model.input_scale * _resampling(model, scene, options.pixel_size_m)
    target_px = options.window_px * input_scale if options.window_px else max(model.card.input_px, _INPUT_PX)
    input_px = default_input_px(patch_px, target_px)
    if input_scale > input_px:
        raise SceneError(
            f"{scene.path}: a pixel of the scene would be shown to the model at {input_scale:,.0f} times its size, "
            "larger than a window",
            "choose a {option} nearer to the scene's own",
            option="pixel_size_m",
        )
    window_px = max(1, round(input_px / input_scale))
    settings = EngineSettings(
        window_px=window_px,
        overlap_px=min(round(window_px * options.overlap), window_px - 1),
        block_px=BLOCK_PX,
        input_scale=input_px / window_px,
        patch_px=patch_px,
        scores_along=model.scores_along,
        tta=options.tta or model.card.tta,
        cluster_to_class=model.card.cluster_to_class,
        refine=None if options.refine is None else CrfWindows(),
    )
    _check_size(settings, scene)
    return settings


def _check_size(settings: EngineSettings, scene: Scene) -> None:
    """Refuse windows that no memory holds: of models for quite other pixel sizes, or as asked for."""
    rows, cols = settings.grid(scene.height, scene.width).shape
    scale = max(1.0, settings.input_scale)
    if rows * scale * cols * scale > LARGEST_PATCH_PX**2:
        raise SceneError(
            f"{scene.path}: a window would be {rows:,} x {cols:,} px, shown to the model at {settings.input_scale:.3g} "
            "times that size, which no memory holds",
            "choose a smaller window, or a {option} nearer to the scene's own",
            option="pixel_size_m",
        )


def default_input_px(patch_size: int, target_px: float = _INPUT_PX) -> int:
    """The side nearest to a target that is a whole number of patches."""
    return max(1, round(target_px / patch_size)) * patch_size


def _resampling(model: LandCoverModel, scene: Scene, pixel_size_m: float | None) -> float:
    """Pixels that the model shall see for one pixel of the scene."""
    shown = model.card.pixel_size_m if pixel_size_m is None else pixel_size_m
    if not shown:
        return 1.0
    own = scene.grid.pixel_size_m
    if own is None and pixel_size_m is not None:
        raise SceneError(f"{scene.path}: its pixel size is not known without a CRS", "leave the pixel size out")
    return 1.0 if own is None or abs(math.log(own / shown)) < _SAME_PIXEL_SIZE else own / shown
