"""What a few labelled points buy: mIoU on places that nothing was learnt from, by their number and by the features.

    python -m benchmarks.few_labels ../shared/data/czech --weights FILE
    python -m benchmarks.few_labels ../shared/data/czech --weights FILE --hp-steps 250

Windows of 448 px of the labelled images are encoded once and kept in the folder. Then, for each direction of a split
by place: so many pixels of each class are drawn from one side, ``geohp probe``'s classifier is taught on them with the
strength that it chooses by itself, and every labelled pixel of the other side (each seventh in row and column) is
classified from the interpolated logits. Nothing of the other side is looked at but the score. HP is trained on the
images of the first side alone, without labels. Kinds of features joined by a + are taken side by side, each stage of
the network for aerial images a part that counts like any other. With --views features are means over so many flips and
rotations of each window, as ``geohp probe --tta`` takes all eight.

Prints a table in Markdown: mean and deviation over the seeds, of each direction and of both.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.measuring import optimise
from benchmarks.places import PLACES, images_of
from geohp.backbones.aerial import WIDTHS
from geohp.backbones.base import Backbone, PatchFeatures
from geohp.backbones.factory import create_backbone
from geohp.evaluation.metrics import SegmentationMetrics, SegmentationScores
from geohp.inference.engine.forward import symmetries
from geohp.inference.probe.discriminant import Conditioning, choose_shrinkage, fit_classifier
from geohp.inference.probe.labelled_codes import interpolate
from geohp.methods.base import Batch
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings

WINDOW_PX, LABEL_STEP = 448, 7
HP_BATCH, HP_PATCHES = 8, 16
SPLITS = {
    "czech": (("BOS", "MKRU", "VYSK"), ("KROM", "PROS")),
    "dubai": (("tile1", "tile3", "tile5"), ("tile2", "tile7")),
}


@dataclass(frozen=True)
class Windows:
    """Windows of some places: features (n, C, h, w), affinities (n, N, 9) or none, labels (n, 64, 64).

    ``parts`` are the channels of the features that belong together, in their order.
    """

    features: Tensor
    affinities: Tensor | None
    labels: NDArray[np.uint8]
    parts: tuple[int, ...]

    @classmethod
    def of(cls, parts: list[Windows]) -> Windows:
        """All of several places."""
        affinities = [part.affinities for part in parts if part.affinities is not None]
        return cls(
            torch.cat([part.features for part in parts]),
            torch.cat(affinities) if affinities else None,
            np.concatenate([part.labels for part in parts]),
            parts[0].parts,
        )


def windows_of(place: Path) -> Iterator[tuple[Tensor, NDArray[np.uint8]]]:
    """Windows (3, 448, 448) in [0, 1] of a place's labelled images, and their labels at every seventh pixel."""
    for path in images_of(place):
        truth = path.with_name(f"{path.stem}_labels.png")
        if not truth.exists():
            continue
        image, labels = np.asarray(Image.open(path).convert("RGB")), np.asarray(Image.open(truth))
        if min(labels.shape) < WINDOW_PX:
            continue
        for row, col in itertools.product(*map(starts, labels.shape)):
            frame = slice(row, row + WINDOW_PX), slice(col, col + WINDOW_PX)
            pixels = torch.from_numpy(image[frame].copy()).permute(2, 0, 1).float() / 255
            yield pixels, labels[frame][LABEL_STEP // 2 :: LABEL_STEP, LABEL_STEP // 2 :: LABEL_STEP]


def starts(side: int) -> list[int]:
    """Where windows begin along a side; what is left over gets one of its own where it is over half a window."""
    regular = list(range(0, side - WINDOW_PX + 1, WINDOW_PX))
    rest = side - WINDOW_PX - regular[-1]
    return [*regular, side - WINDOW_PX] if rest > WINDOW_PX // 2 else regular


def colour(image: Tensor) -> PatchFeatures:
    """Mean and deviation of the colours of patches of 14 px."""
    mean = F.avg_pool2d(image[None], 14)
    deviation = (F.avg_pool2d(image[None] ** 2, 14) - mean**2).clamp_min(0).sqrt()
    return PatchFeatures(torch.cat([mean, deviation], 1))


def encoder(backbone: Backbone) -> Callable[[Tensor], PatchFeatures]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    return lambda image: backbone(((image - mean) / std)[None])


def over_views(encode: Callable[[Tensor], PatchFeatures], views: int) -> Callable[[Tensor], PatchFeatures]:
    """Means over the first so many of the eight flips and rotations of an image; affinities are the image's own."""
    chosen = list(itertools.islice(symmetries(), views))

    def run(image: Tensor) -> PatchFeatures:
        outputs = [encode(turn(image[None])[0]) for turn, _ in chosen]
        features = [back(out.features) for (_, back), out in zip(chosen, outputs, strict=True)]
        return PatchFeatures(torch.stack(features).mean(0), outputs[0].affinities)

    return run


def encode(
    place: Path, folder: Path, kind: str, create: Callable[[], Callable[[Tensor], PatchFeatures]], views: int
) -> Windows:
    """The windows of a place, from the folder where they are there."""
    path = folder / f"{place.parent.name}_{place.name}_{kind}{'' if views == 1 else f'_{views}views'}.pt"
    if not path.exists():
        run = over_views(create(), views)
        windows = list(windows_of(place))
        outputs = [run(image) for image, _ in windows]
        affinities = [out.affinities.half() for out in outputs if out.affinities is not None]
        content = {"features": torch.cat([out.features.half() for out in outputs])}
        content |= {"affinities": torch.cat(affinities)} if affinities else {}
        content["labels"] = torch.from_numpy(np.stack([labels for _, labels in windows]))
        torch.save(content, path)
        print(f"encoded {path.name}", flush=True)
    content = torch.load(path, weights_only=True)
    affinities, features = content.get("affinities"), content["features"].float()
    parts = WIDTHS[:3] if kind == "aerial3" else (features.shape[1],)
    return Windows(features, None if affinities is None else affinities.float(), content["labels"].numpy(), parts)


def side_by_side(windows: list[Windows]) -> Windows:
    """The same windows with features of all kinds, and the affinities of the first."""
    parts = tuple(itertools.chain.from_iterable(kind.parts for kind in windows))
    return Windows(torch.cat([kind.features for kind in windows], 1), windows[0].affinities, windows[0].labels, parts)


def draw(labels: NDArray[np.uint8], classes: int, points: int, seed: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """(3, n) window, row and column of points, as many of each class as there are up to a number; and their classes."""
    rng = np.random.default_rng(seed)
    drawn = []
    for number in range(classes):
        places = np.flatnonzero(labels == number)
        drawn.append(rng.choice(places, min(points, len(places)), replace=False))
    flat = np.concatenate(drawn)
    return np.stack(np.unravel_index(flat, labels.shape)), labels.ravel()[flat].astype(np.int64)


def codes_at(codes: Tensor, points: NDArray[Any]) -> NDArray[np.float32]:
    side = (WINDOW_PX // LABEL_STEP,) * 2
    rows = [interpolate(codes[w], np.array([r]), np.array([c]), side)[0] for w, r, c in points.T]
    return np.stack(rows)


def scores_of(codes: Tensor, labels: NDArray[np.uint8], weight: Tensor, bias: Tensor) -> SegmentationScores:
    """Of the classes that interpolated logits give."""
    metrics = SegmentationMetrics(len(bias), matching="identity")
    for part, truth in zip(torch.split(codes, 16), np.split(labels, range(16, len(labels), 16)), strict=True):
        logits = torch.einsum("nchw,kc->nkhw", part, weight) + bias[:, None, None]
        logits = F.avg_pool2d(logits, 3, 1, 1, count_include_pad=False)  # as models of the probe smooth their scores
        metrics.update(F.interpolate(logits, size=truth.shape[-2:], mode="bilinear").argmax(1), truth)
    scores: SegmentationScores = metrics.compute()
    return scores


def score(train: Windows, test: Windows, classes: int, points: int, seed: int) -> float:
    """Mean IoU in per cent over the classes that the unseen places have."""
    places, numbers = draw(train.labels, classes, points, seed)
    rows = codes_at(train.features, places)
    # Points of one window see one another: they are on one side where the strength is chosen.
    # Of every other patch in row and column: of all, a copy in double precision takes gigabytes.
    everything = train.features[:, :, ::2, ::2].permute(0, 2, 3, 1).flatten(0, 2).double()
    moments = everything.mean(0).numpy(), torch.cov(everything.T, correction=0).numpy()
    conditioning = Conditioning.of(*moments, train.parts)
    conditioned = conditioning(rows)
    shrinkage = choose_shrinkage(conditioned, numbers, places[0].astype(np.int64), classes, seed=seed)
    classifier = conditioning.undo(fit_classifier(conditioned, numbers, classes, shrinkage))
    weight, bias = torch.from_numpy(classifier.weight).float(), torch.from_numpy(classifier.bias).float()
    scores = scores_of(test.features, test.labels, weight, bias)
    return float(scores["class_iou"][scores["confusion"].sum(0) > 0].mean())


def train_hp(windows: Windows, clusters: int, steps: int, seed: int) -> nn.Module:
    """HP's head, trained on windows without their labels."""
    torch.manual_seed(seed)
    count = len(windows.features)
    assert windows.affinities is not None
    settings = HPSettings(pool_size=min(1024, count), warmup_steps=max(1, steps // 7), renew_interval=20)
    method = HP(windows.features.shape[1], clusters, settings, seed=seed)
    generator = torch.Generator().manual_seed(seed)

    def sample(number: int) -> Iterator[Tensor]:
        for part in torch.split(torch.randperm(count, generator=generator)[:number], 16):
            yield windows.features[part]

    method.train()
    method.prepare(sample)
    optimizers = method.optimizers()
    for step in range(steps):
        if step:
            method.before_step(step, sample)
        chosen = torch.randperm(count, generator=generator)[:HP_BATCH]
        batch = Batch(PatchFeatures(*cut(windows.features[chosen], windows.affinities[chosen], generator)))
        losses = method.losses(batch, step=step, total_steps=steps)
        optimise(method, losses, optimizers)
    return method.eval().head


def cut(features: Tensor, affinities: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Squares of 224 px, as published: features (n, C, 16, 16) and affinities (n, 256, 9), none beyond the square."""
    count, _, side, _ = features.shape
    row, col = torch.randint(side - HP_PATCHES + 1, (2,), generator=generator).tolist()
    frame = slice(row, row + HP_PATCHES), slice(col, col + HP_PATCHES)
    inside = affinities.view(count, side, side, 3, 3)[:, *frame].clone()
    inside[:, 0, :, 0], inside[:, -1, :, 2] = 0, 0
    inside[:, :, 0, :, 0], inside[:, :, -1, :, 2] = 0, 0
    return features[..., *frame].contiguous(), inside.reshape(count, HP_PATCHES**2, 9)


@torch.inference_mode()
def through(head: nn.Module, windows: Windows) -> Windows:
    codes = torch.cat([head(part) for part in torch.split(windows.features, 16)])
    return Windows(codes, None, windows.labels, (codes.shape[1],))


def report(kind: str, scores: dict[int, list[list[float]]]) -> None:
    """A row for each number of points; scores are by direction and seed."""
    for points, directions in scores.items():
        cells = [f"{statistics.mean(of):.1f} ± {statistics.pstdev(of):.1f}" for of in directions]
        mean = statistics.mean(itertools.chain(*directions))
        print(f"| {kind} | {points} | {' | '.join(cells)} | {mean:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder named czech or dubai, of ../shared/data")
    parser.add_argument("--weights", type=Path, help="of vit_small_patch14_dinov2")
    parser.add_argument("--features", type=Path, default=Path("few_labels_features"), help="where they are kept")
    parser.add_argument("--kinds", nargs="+", default=["colour", "vit5", "aerial3", "vit5+aerial3"])
    parser.add_argument("--points", nargs="+", type=int, default=[5, 10, 20, 50, 200], help="labelled points a class")
    parser.add_argument("--views", type=int, choices=range(1, 9), default=1, help="flips and rotations averaged")
    parser.add_argument("--hp-steps", type=int, default=0, help="on codes of HP instead, trained for so many steps")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.features.mkdir(parents=True, exist_ok=True)

    def vit(block: int) -> Callable[[Tensor], PatchFeatures]:
        name = "vit_small_patch14_dinov2"
        options = {"block": block, "norm": False, "remove_position_bias": True}
        return encoder(create_backbone(name, weights=arguments.weights, **options))

    encoders = {
        "colour": lambda: colour,
        "vit5": lambda: vit(5),
        "vit8": lambda: vit(8),
        "aerial": lambda: encoder(create_backbone("aerial", patch_size=14)),
        "aerial3": lambda: encoder(create_backbone("aerial3", patch_size=14)),
    }

    def windows(place: str, kinds: str) -> Windows:
        stored = (arguments.data / place, arguments.features)
        return side_by_side([encode(*stored, kind, encoders[kind], arguments.views) for kind in kinds.split("+")])

    sides, classes = SPLITS[arguments.data.name], len(PLACES[arguments.data.name].classes)
    print("| features | points a class | " + " | ".join(f"to {', '.join(side)}" for side in sides[::-1]) + " | mean |")
    print("|---|---|---|---|---|")
    for kind in arguments.kinds:
        both = [Windows.of([windows(place, kind) for place in side]) for side in sides]
        scores: dict[int, list[list[float]]] = {points: [[], []] for points in arguments.points}
        for direction, (train, test) in enumerate((both, both[::-1])):
            for seed in range(arguments.seeds):
                if arguments.hp_steps:
                    head = train_hp(train, classes, arguments.hp_steps, seed)
                    learnt, unseen = through(head, train), through(head, test)
                else:
                    learnt, unseen = train, test
                for points in arguments.points:
                    scores[points][direction].append(score(learnt, unseen, classes, points, seed))
        report(f"HP on {kind}" if arguments.hp_steps else kind, scores)


if __name__ == "__main__":
    main()
