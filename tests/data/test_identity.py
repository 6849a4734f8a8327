"""Identities of sets of images outlive renames: checkpoints and stored features hold them."""

import hashlib

import layouts

from geohp.config.data import CityscapesConfig
from geohp.data.benchmarks.cityscapes import Cityscapes


def test_an_identity_is_that_of_earlier_versions(tmp_path):
    layouts.write_cityscapes(tmp_path, 1, 1)
    images = Cityscapes(CityscapesConfig(source="cityscapes", root=str(tmp_path))).evaluation()
    digest = hashlib.sha256(b"geohp.data.photographs.Photographs 3")
    digest.update(images.name(0).encode() + b"\0")
    item = images[0]
    for key in ("image", "mask"):
        digest.update(f"{key} {tuple(item[key].shape)}".encode() + item[key].numpy().tobytes())
    assert images.identity() == digest.hexdigest()
