"""Draw docs/images/hidden-positives.png: one patch, what its features resemble, and the positives that HP finds for it.

Trains HP for some steps on real imagery and reads positives off its own pools, averaged head and affinities:

    python docs/hidden_positives.py --images '../shared/data/dubai/tile*/*.jpg' --weights ../shared/weights/FILE

With these images and the weights of a ViT-S/14 in DINOv2's style it gives the picture of the site; other images want
another ``--anchor``. Without weights the features are ``rcf``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from geohp.config.loading import load_config
from geohp.data.factory import open_data
from geohp.methods.hp.positives import PositivePairs, ReferencePool
from geohp.reporting.figures import AGNOSTIC, ANCHOR, BOTH, SPECIFIC, as_rgb
from geohp.reporting.plots import as_png, new_figure
from geohp.training.defaults import resolve
from geohp.training.fit import Trained, TrainingData, fit
from geohp.training.sample_images import SampleImages, load_sample_images

OUT = Path(__file__).parent / "images" / "hidden-positives.png"
_NEAREST = 40
Mark = tuple[NDArray[np.bool_], str]
"""Patches (h, w), and the colour to mark them in."""
_COLOURS = 256
_AROUND = 3
"""Patches shown to each side of the anchor where its neighbourhood is drawn."""


@dataclass(frozen=True)
class Discovery:
    """What HP finds for one patch.

    Attributes:
        images: (bands, H, W) each.
        image, row, col: the anchor's.
        cosines: (B, h, w) of the frozen features with the anchor's.
        pool_cosines: (R,) of the anchor with the task-agnostic pool.
        agnostic, specific: (B, h, w) bool, A and E.
        weights: (3, 3) shares of the anchor's neighbourhood in its mixed code.
    """

    images: tuple[Tensor, ...]
    image: int
    row: int
    col: int
    cosines: Tensor
    pool_cosines: Tensor
    agnostic: Tensor
    specific: Tensor
    weights: Tensor


def train(arguments: argparse.Namespace) -> tuple[Trained, SampleImages]:
    """HP after some steps, and the images of one."""
    vit = ["backbone.name=vit_small_patch14_dinov2", f"backbone.weights={arguments.weights}", "backbone.block=5"]
    config = load_config(
        "orthophotos-hp",
        [
            f"data.images={arguments.images}",
            f"data.patches={arguments.patches}",
            f"train.max_steps={arguments.steps}",
            "train.cache=memory",
            "method.local_positives=true",
            *(vit if arguments.weights else []),
        ],
    )
    with tempfile.TemporaryDirectory() as work:
        source = open_data(config.data, config.train.seed)
        images = source.training()
        config, _ = resolve(config, len(images))
        trained = fit(config, TrainingData(images, source.classes, None, source.pixel_size_m), Path(work))
        return trained, load_sample_images(trained.features, trained.model, config.train.batch_size)


@torch.no_grad()
def discover(trained: Trained, samples: SampleImages, image: int, row: int, col: int) -> Discovery:
    """The positives of a patch, by the rule of the loss, without channel dropout."""
    method: Any = trained.method
    features = samples.patches.features
    _, _, height, width = features.shape
    anchor = (image * height + row) * width + col
    rows, codes = _unit_rows(features), _unit_rows(method.averaged(features))
    shape = (len(features), height, width)
    shares = samples.patches.affinities[image, row * width + col]
    return Discovery(
        samples.images,
        image,
        row,
        col,
        (rows @ rows[anchor]).view(shape),
        method.pool_agnostic.rows @ rows[anchor],
        _positives(anchor, rows, method.pool_agnostic).view(shape),
        _positives(anchor, codes, method.pool_specific).view(shape),
        (shares / shares.sum()).view(3, 3),
    )


def _unit_rows(maps: Tensor) -> Tensor:
    return F.normalize(maps.flatten(2).transpose(1, 2).reshape(-1, maps.shape[1]), dim=1)


def _positives(anchor: int, rows: Tensor, pool: ReferencePool) -> Tensor:
    """Whether each of the rows is a positive of the anchor."""
    order = torch.cat([torch.tensor([anchor]), torch.arange(len(rows))])  # blocks are rows one after another
    pairs = PositivePairs(rows[order], pool.rows, remember=False)
    positives = pairs.block(slice(0, 1), slice(1, len(order))).of_rows[0].bool()
    positives[anchor] = False
    return positives


def draw(discovery: Discovery) -> Figure:
    """The picture: three rows of images, and beside them the bound and the neighbourhood."""
    count = len(discovery.images)
    figure = new_figure(2.55 * count + 3.6, 8.4)
    pictures, beside = figure.subfigures(1, 2, width_ratios=[2.55 * count, 3.6])
    order = [discovery.image, *(image for image in range(count) if image != discovery.image)]
    for row, (kinds, axes_of_row) in enumerate(zip(_kinds(discovery), pictures.subplots(3, count), strict=True)):
        title, *masks = kinds
        axes_of_row[0].set_ylabel(title, fontsize=11)
        for image, axes in zip(order, axes_of_row, strict=True):
            shown = [(mask[image].numpy(), colour) for mask, colour in masks]
            _show(axes, as_rgb(discovery.images[image].numpy()), shown, pale=row > 0)
            if image == discovery.image:
                _frame(axes, discovery)
            if row == 0:
                axes.set_title("the anchor's image" if image == discovery.image else "of the same batch", fontsize=11)
    upper, lower = beside.subplots(2, 1, height_ratios=[1.25, 1])
    _draw_bound(upper, discovery)
    _draw_neighbourhood(lower, discovery)
    return figure


def _kinds(discovery: Discovery) -> list[tuple[Any, ...]]:
    """Of each row its title, and which patches it marks in which colour."""
    nearest = torch.zeros(discovery.cosines.numel(), dtype=torch.bool)
    nearest[discovery.cosines.flatten().argsort(descending=True)[1 : _NEAREST + 1]] = True
    a, e = discovery.agnostic, discovery.specific
    return [
        (f"the {_NEAREST} nearest patches", (nearest.view(a.shape), "#ffffff")),
        ("A: task-agnostic positives", (a, AGNOSTIC)),
        ("E: task-specific (wine: both)", (e & ~a, SPECIFIC), (e & a, BOTH)),
    ]


def _show(axes: Axes, photo: NDArray[np.float32], marks: Sequence[Mark], *, pale: bool) -> None:
    """A photograph, darker or pale and grey, with patches (h, w) in colour over it."""
    shown = 0.45 + 0.55 * photo.mean(2, keepdims=True).repeat(3, 2) if pale else 0.6 * photo
    high, wide = marks[0][0].shape
    axes.imshow(shown, extent=(0, wide, high, 0))
    for mask, colour in marks:
        only = np.ma.masked_equal(mask.astype(np.uint8), 0)
        axes.imshow(only, cmap=ListedColormap([colour]), alpha=0.85, extent=(0, wide, high, 0), interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def _frame(axes: Axes, discovery: Discovery) -> None:
    """Yellow around the anchor, black around that, so that it shows on anything."""
    for width, colour in ((5.5, "black"), (3, ANCHOR)):
        axes.add_patch(_square(discovery.col, discovery.row, colour, width))


def _square(col: float, row: float, colour: str, width: float) -> Rectangle:
    return Rectangle((col, row), 1, 1, fill=False, edgecolor=colour, linewidth=width)


def _draw_bound(axes: Axes, discovery: Discovery) -> None:
    """Where the bound lies: the largest cosine of the anchor with the pool."""
    bound = float(discovery.pool_cosines.max())
    others = discovery.cosines.flatten().numpy()
    bins = np.linspace(min(others.min(), float(discovery.pool_cosines.min())), 1, 60)
    axes.hist(others, bins, color="#9aa5a1", label="all patches of the batch")
    axes.hist(others[others > bound], bins, color=AGNOSTIC, label="above the bound: hidden positives")
    axes.plot(discovery.pool_cosines, np.full(len(discovery.pool_cosines), 0.6), "|", color="#cc3311", markersize=14)
    axes.plot([], [], "|", color="#cc3311", label=f"the {len(discovery.pool_cosines)} patches of the pool")
    axes.axvline(bound, color="#cc3311", linewidth=1.4)
    axes.set(xlabel="cosine with the anchor's features", yscale="log", yticks=[])
    axes.set_title("The bound: what counts as similar", fontsize=11)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_neighbourhood(axes: Axes, discovery: Discovery) -> None:
    """The nine weights over what lies around the anchor."""
    photo = as_rgb(discovery.images[discovery.image].numpy())
    patches = discovery.agnostic.shape[1]
    axes.imshow(photo, extent=(0, patches, patches, 0), interpolation="nearest")
    row, col = discovery.row, discovery.col
    axes.set(xlim=(col - _AROUND, col + _AROUND + 1), ylim=(row + _AROUND + 1, row - _AROUND), xticks=[], yticks=[])
    for (y, x), share in np.ndenumerate(discovery.weights.numpy()):
        place = (col + x - 1, row + y - 1)
        axes.add_patch(_square(*place, "white", 1))
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "edgecolor": "none"}
        axes.text(place[0] + 0.5, place[1] + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=9, bbox=box)
    axes.add_patch(_square(col, row, ANCHOR, 2.4))
    axes.set_title("Local: shares of neighbours, %", fontsize=11)


def main() -> None:
    """Train, look, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--patches", type=int, default=96)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--anchor", type=int, nargs=3, metavar=("IMAGE", "ROW", "COL"), default=(1, 16, 8))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    trained, samples = train(arguments)
    png = as_png(draw(discover(trained, samples, *arguments.anchor)), dpi=100)
    few_colours = (
        Image.open(BytesIO(png)).convert("RGB").quantize(_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    )
    few_colours.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
