"""Other engines for windowed inference, each as its documentation shows it, from a file to a label GeoTIFF.

All take a scene of three uint8 bands, a module from (B, 3, H, W) in [0, 1] to (B, K, H, W), and a device; labels are
written with the source's profile, as in rasterio's README. See ``inference.py``, which compares them with geohp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import nn

WINDOW, OVERLAP, BATCH = 512, 128, 4

Engine = Callable[[Path, Path, nn.Module, str], None]


def run_monai(scene_path: Path, out_path: Path, module: nn.Module, device: str) -> None:
    """MONAI: the whole array at once, gaussian weights."""
    from monai.inferers import sliding_window_inference

    with rasterio.open(scene_path) as source:
        profile = label_profile(source)
        image = torch.from_numpy(source.read()).to(device).float().div_(255)
    with inference(device):
        scores = sliding_window_inference(
            image[None], (WINDOW, WINDOW), BATCH, module, overlap=OVERLAP / WINDOW, mode="gaussian"
        )
        labels = scores[0].argmax(0).to(torch.uint8).cpu().numpy()
    with rasterio.open(out_path, "w", **profile) as out:
        out.write(labels, 1)


def run_toolbelt(scene_path: Path, out_path: Path, module: nn.Module, device: str) -> None:
    """pytorch-toolbelt: tiles of the whole array, pyramid weights, accumulated where the module runs."""
    from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger
    from rasterio.plot import reshape_as_image

    with rasterio.open(scene_path) as source:
        profile = label_profile(source)
        image = np.ascontiguousarray(reshape_as_image(source.read()))
    slicer = ImageSlicer(image.shape, tile_size=WINDOW, tile_step=WINDOW - OVERLAP, weight="pyramid")
    split, merger = slicer.iter_split(image), None
    with inference(device):
        while batch := list(islice(split, BATCH)):
            tiles = np.stack([tile for tile, _ in batch])
            images = torch.from_numpy(tiles).to(device).permute(0, 3, 1, 2).float().div_(255)
            scores = module(images)
            merger = merger or TileMerger(slicer.target_shape, scores.shape[1], slicer.weight, device=device)
            merger.integrate_batch(scores, [coords for _, coords in batch])
        labels = slicer.crop_to_orignal_size(merger.merge_().argmax(0).to(torch.uint8).cpu().numpy())
    with rasterio.open(out_path, "w", **profile) as out:
        out.write(labels, 1)


def run_torchgeo(scene_path: Path, out_path: Path, module: nn.Module, device: str) -> None:
    """torchgeo: a grid of samples, of which the centres are written as they come; nothing is blended."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    def to_unit(sample: dict[str, Any]) -> dict[str, Any]:
        sample["image"] = sample["image"] / 255
        return sample

    dataset = RasterDataset([scene_path], transforms=to_unit)
    sampler = GridGeoSampler(dataset, size=WINDOW, stride=WINDOW - OVERLAP)
    loader = DataLoader(dataset, batch_size=BATCH, sampler=sampler, collate_fn=stack_samples)
    with rasterio.open(scene_path) as source:
        profile, bounds, res = label_profile(source), source.bounds, source.res
    with rasterio.open(out_path, "w", **profile) as out, inference(device):
        for batch in loader:
            labels = module(batch["image"].to(device)).argmax(1).to(torch.uint8).cpu().numpy()
            for tile, (x, y, _) in zip(labels, batch["bounds"], strict=True):
                row, col = round((bounds.top - y.stop) / res[1]), round((x.start - bounds.left) / res[0])
                top, bottom = centre(row, out.height)
                left, right = centre(col, out.width)
                window = Window(left, top, right - left, bottom - top)
                out.write(tile[top - row : bottom - row, left - col : right - col], 1, window=window)


def centre(start: int, length: int) -> tuple[int, int]:
    """The stretch of a scene that a tile is written to: half the overlap off, except at the scene's border."""
    stop = start + WINDOW
    return (start + OVERLAP // 2 if start > 0 else 0), (stop - OVERLAP // 2 if stop < length else length)


def label_profile(source: Any) -> dict[str, Any]:
    profile = source.profile
    profile.update(driver="GTiff", dtype=rasterio.uint8, count=1, compress="deflate", photometric=None)
    return {key: value for key, value in profile.items() if value is not None}


@contextmanager
def inference(device: str) -> Iterator[None]:
    """Inference mode, in bfloat16 on a GPU."""
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=device != "cpu"):
        yield
