"""What frozen features tell apart: a linear probe and k-means from some places to others, without any training.

    OMP_NUM_THREADS=1 python benchmarks/backbone_quality.py ../shared/data --data czech --features rgb rcf aerial:1
    python benchmarks/backbone_quality.py ../shared/data --data dubai --weights FILE --features NAME:5 aerial:1,2

A feature is ``rgb`` (mean and deviation of a patch of 8 px), ``rcf``, ``aerial:STAGES`` or ``TRANSFORMER:BLOCK``.
Images (NAME.jpg) of a place lie with NAME_labels.png (255 ignored) in a folder; places are split, never images. Prints
accuracy and mean IoU in percent: the mean over both directions, and the deviation of three seeds. Minutes a feature.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from geohp.backbones.base import Backbone
from geohp.backbones.factory import create_backbone
from geohp.evaluation.metrics import SegmentationMetrics
from geohp.methods.kmeans.clustering import spherical_kmeans

DATA = {  # classes, side of a window, both sides of the split
    "czech": (6, 448, (("czech/BOS", "czech/MKRU", "czech/VYSK"), ("czech/KROM", "czech/PROS"))),
    "dubai": (5, 448, (("dubai/tile1", "dubai/tile3", "dubai/tile5"), ("dubai/tile2", "dubai/tile7"))),
    "drone": (6, 280, (("drone/site:first",), ("drone/site:second",))),
}
SCORED_EVERY_PX = 7
ROWS = 12_000
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--data", choices=DATA, required=True)
    parser.add_argument("--features", nargs="+", default=["rgb", "rcf", "aerial:1"])
    parser.add_argument("--weights", type=Path, help="of the transformer")
    parser.add_argument("--every", type=int, default=2, help="take every so many windows of a place")
    args = parser.parse_args()
    classes, side, places = DATA[args.data]
    sides = [load(args.root, names, side, args.every) for names in places]
    for name in args.features:
        scores: dict[str, list[list[tuple[float, float]]]] = {}
        for (images, labels), (unseen, truth) in (sides, sides[::-1]):
            known, new = features_of(name, images, unseen, args.weights)
            for kind, values in evaluate(known, labels, new, truth, classes):
                scores.setdefault(kind, []).append(values)
        line = [f"{kind} {summary(np.array(values))}" for kind, values in scores.items()]
        print(f"{args.data} {name}: {'; '.join(line)}", flush=True)


def summary(values: np.ndarray) -> str:
    """Of (directions, seeds, 2): mean accuracy, mean IoU and its deviation between seeds."""
    return f"{values[..., 0].mean():.1f} / {values[..., 1].mean():.1f} +- {values[..., 1].mean(0).std():.1f}"


def load(root: Path, places: tuple[str, ...], side: int, every: int) -> tuple[Tensor, Tensor]:
    """Windows (n, 3, side, side) uint8 of the labelled images of some places, and their labels (n, side, side)."""
    images, labels = [], []
    for place in places:
        folder, _, half = place.partition(":")
        files = sorted(path for path in (root / folder).glob("*.jpg") if label_file(path).is_file())
        middle = len(files) // 2
        files = {"": files, "first": files[:middle], "second": files[middle:]}[half]
        for number, (image, label) in enumerate(pair for file in files for pair in windows(file, side)):
            if number % every == 0:
                images.append(image)
                labels.append(label)
    return torch.stack(images), torch.stack(labels)


def label_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}_labels.png")


def windows(path: Path, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows of an image beside each other, and of its labels."""
    image = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    label = torch.from_numpy(np.array(Image.open(label_file(path))))
    for row in range(0, label.shape[0] - side + 1, side):
        for col in range(0, label.shape[1] - side + 1, side):
            yield image[:, row : row + side, col : col + side], label[row : row + side, col : col + side]


def features_of(name: str, images: Tensor, unseen: Tensor, weights: Path | None) -> tuple[Tensor, Tensor]:
    """Patch features (n, C, h, w) of both sides; ``rcf`` is fitted to the first."""
    kind, _, part = name.partition(":")
    if kind == "rgb":
        return colours(images), colours(unseen)
    if kind == "aerial":
        backbone = create_backbone("aerial", stages=[int(stage) for stage in part.split(",")])
    elif kind == "rcf":
        backbone = create_backbone("rcf")
        backbone.fit(normalised(backbone, batch) for batch in images[:: max(1, len(images) // 60)].split(1))
    else:
        backbone = create_backbone(kind, weights=weights, block=int(part), norm=False)
    return encoded(backbone, images), encoded(backbone, unseen)


def colours(images: Tensor) -> Tensor:
    values = images.float() / 255
    mean = F.avg_pool2d(values, 8)
    return torch.cat([mean, (F.avg_pool2d(values**2, 8) - mean**2).clamp_min(0).sqrt()], 1)


def normalised(backbone: Backbone, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    return (images.float() / 255 - mean) / std


def encoded(backbone: Backbone, images: Tensor) -> Tensor:
    batches = (backbone(normalised(backbone, batch), affinities=False).features for batch in images.split(BATCH))
    return torch.cat([features.half() for features in batches])


def evaluate(
    known: Tensor, labels: Tensor, unseen: Tensor, truth: Tensor, classes: int
) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Accuracy and mean IoU on the other side, by kind and seed."""
    rows, targets = labelled_rows(known, labels)
    mean, deviation = rows.mean(0), rows.std(0).clamp_min(1e-6)
    standardised = ((unseen.float() - mean[:, None, None]) / deviation[:, None, None]).half()
    unit, results = F.normalize(standardised.float(), dim=1).half(), {}
    for seed in range(3):
        chosen = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:ROWS]
        sample = (rows[chosen] - mean) / deviation
        classified = targets[chosen] < classes
        weight, bias = linear_probe(sample[classified], targets[chosen][classified], classes)
        metrics = SegmentationMetrics(classes, matching="identity")
        results.setdefault("linear", []).append(score(standardised, weight, bias, truth, metrics))
        for clusters in (classes, 3 * classes):
            centroids, _ = spherical_kmeans(sample, clusters, restarts=2, seed=seed)
            values = score(unit, centroids, torch.zeros(clusters), truth, SegmentationMetrics(classes, clusters))
            results.setdefault(f"k-means {clusters}", []).append(values)
    yield from results.items()


def labelled_rows(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Every patch's features (N, C), and the label at its centre."""
    centres = ((torch.arange(features.shape[-1]) + 0.5) * labels.shape[-1] / features.shape[-1]).long()
    return features.permute(0, 2, 3, 1).flatten(0, 2).float(), labels[:, centres][:, :, centres].flatten().long()


def linear_probe(rows: Tensor, targets: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Logistic regression."""
    weight = torch.zeros(classes, rows.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(rows @ weight.T + bias, targets) + 1e-4 * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return weight.detach(), bias.detach()


def score(
    features: Tensor, weight: Tensor, bias: Tensor, truth: Tensor, metrics: SegmentationMetrics
) -> tuple[float, float]:
    """Accuracy and mean IoU in percent of linear scores at every seventh pixel, of the classes that are there."""
    half = SCORED_EVERY_PX // 2
    places = truth[:, half::SCORED_EVERY_PX, half::SCORED_EVERY_PX].long()
    for batch, target in zip(features.split(BATCH), places.split(BATCH), strict=True):
        scores = torch.einsum("nchw,kc->nkhw", batch.float(), weight) + bias[:, None, None]
        metrics.update(F.interpolate(scores, size=target.shape[-2:], mode="bilinear").argmax(1), target)
    found = metrics.compute()
    return found["accuracy"], float(found["class_iou"][found["confusion"].sum(0) > 0].mean())


if __name__ == "__main__":
    main()
