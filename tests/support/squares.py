"""A small image set and what trains on it, in a module of its own: processes that read images must find it, too."""

import hashlib

import torch

from geohp.backbones.factory import create_backbone
from geohp.data.base import ImageSet
from geohp.errors import DataError
from geohp.methods.base import Batch
from geohp.methods.hp.method import HP
from geohp.methods.hp.settings import HPSettings


class Squares(ImageSet):
    """Coloured squares on noise, at random places; counts how often an image is asked for."""

    channels = 3

    def __init__(self, count=23, side=32, labelled=True, seed=0, broken=(), files=()):
        self.count, self.side, self.labelled, self.seed = count, side, labelled, seed
        self.broken, self._files = set(broken), [str(file) for file in files]
        self.asked = 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        self.asked += 1
        if index in self.broken:
            raise DataError(f"{self.name(index)}.png: cannot be decoded", "fetch it again")
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        image = torch.rand(3, self.side, self.side, generator=generator) * 0.3
        image[index % 3, 4 : 4 + self.side // 2, index % 8 : index % 8 + self.side // 2] += 0.6
        item = {"image": image.clamp(0, 1)}
        if self.labelled:
            item["mask"] = (image[index % 3] > 0.5).long() * (index % 3 + 1)
            item["mask"][0] = 255
        return item

    def name(self, index):
        return f"square {index}"

    def files(self):
        return self._files


def small_backbone(name="vit", seed=0, block=1):
    """A frozen backbone in which a single image is a few rows only: the hardest case for equal bits."""
    torch.manual_seed(seed)
    if name == "rcf":
        made = create_backbone("rcf", in_channels=3, patch_size=8, filters=16, channels=8)
        made.fit([torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(5)) for _ in range(2)])
        return made.eval()
    return create_backbone("vit_tiny_patch16_224", weights="random", block=block).eval()


def trained(source, epochs=2):
    """What a short training on features ends at, as a hash."""
    torch.manual_seed(11)
    settings = HPSettings(code_channels=8, pool_size=10, warmup_steps=1, renew_interval=2)
    method = HP(source.backbone.channels, 3, settings, label_classes=4)
    method.prepare(source.sample)
    optimizers = method.optimizers()
    loader = source.batches()
    for _ in range(epochs):
        for step, batch in enumerate(loader):
            method.before_step(step, source.sample)
            given = Batch(source.patches(batch), labels=batch.get("mask"))
            losses = method.losses(given, step=step, total_steps=20)
            for optimizer in optimizers:
                optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            for optimizer in optimizers:
                optimizer.step()
    method.eval()
    method.finish(source.sample)
    digest = hashlib.sha256()
    for name, tensor in sorted(method.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
