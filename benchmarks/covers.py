"""What finding classes costs, by how many windows there are: k-means on their features, and large covers gathered.

Made-up features of as many channels as a small transformer has, and windows coloured by what they are, half of it in
greens. Seconds are those of the processor; memory is beyond that of the features.

    python benchmarks/covers.py --windows 64 500 2000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import PeakMemory, describe
from torch import Tensor

from geohp.backbones.base import PatchFeatures
from geohp.config.experiment import ClassesConfig
from geohp.data.base import ImageSet
from geohp.methods.kmeans.method import KMeans
from geohp.training.looks import gather_by_look, see_patches

_KINDS, _GREEN = 40, 20
_PATCHES, _PATCH_PX = 32, 14
"""A side of a window, and of a patch."""


class Ground(ImageSet):
    """Windows of patches of several kinds, and their features in half precision."""

    channels, labelled, batch_size = 3, False, 4

    def __init__(self, count: int, channels: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.kinds = torch.randint(_KINDS, (count, _PATCHES, _PATCHES), generator=generator)
        self.colours = torch.rand(_KINDS, 3, generator=generator)
        self.colours[:_GREEN] = torch.tensor([0.27, 0.36, 0.2]) + 0.1 * torch.rand(_GREEN, 1, generator=generator)
        directions = torch.randn(_KINDS, channels, generator=generator).half()
        self.features = directions[self.kinds].permute(0, 3, 1, 2)
        for window in self.features:
            window += torch.randn(window.shape, generator=generator).half()
        self.images = self

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.colours[self.kinds[index]].permute(2, 0, 1)
        return {"image": image.repeat_interleave(_PATCH_PX, 1).repeat_interleave(_PATCH_PX, 2)}

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)

    def patches(self, batch: dict[str, Tensor]) -> PatchFeatures:
        """Of a batch, as a sampler keeps them."""
        return PatchFeatures(self.features[batch["index"]].float(), None)

    def sample(self, count: int) -> Iterator[Tensor]:
        """Of so many windows."""
        for part in torch.split(self.features[:count], self.batch_size):
            yield part.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[64, 500, 2000])
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--classes", type=int, default=6)
    args = parser.parse_args()
    print(f"{describe('cpu')}; {args.channels} channels, {args.classes} classes")
    for count in args.windows:
        ground, method = Ground(count, args.channels), KMeans(args.channels, args.classes)
        report(f"{count} windows: covers gathered", lambda m=method, g=ground: gather(m, g, args.classes))
        method = KMeans(args.channels, args.classes)
        report("or, without them, k-means", lambda m=method, g=ground: m.finish(g.sample))


def gather(method: KMeans, ground: Any, classes: int) -> None:
    """What training does, see :mod:`geohp.training.fit`."""
    seen = see_patches(method.head, ground)
    assert seen is not None
    assert gather_by_look(method, seen, ClassesConfig(count=classes), 0) is not None


def report(name: str, work: Callable[[], object]) -> None:
    """Print how long some work takes, and the memory that it needs."""
    start = time.process_time()
    with PeakMemory("cpu") as memory:
        work()
    print(f"  {name}: {time.process_time() - start:.1f} s, {memory.gigabytes:.2f} GB")


if __name__ == "__main__":
    main()
