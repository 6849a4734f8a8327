"""Identities of sets of images outlive renames in the code: checkpoints and stored features hold them."""

import hashlib
from pathlib import Path

import layouts

from geohp.config.data import CityscapesConfig
from geohp.data.benchmarks.cityscapes import Cityscapes


def test_an_identity_goes_by_a_name_that_stays(tmp_path):
    layouts.write_cityscapes(tmp_path, 1, 1)
    images = Cityscapes(CityscapesConfig(source="cityscapes", root=str(tmp_path))).evaluation()
    digest = hashlib.sha256(b"geohp.data.photographs.Photographs 3")
    digest.update(images.name(0).encode() + b"\0")
    for file in images.files():
        state = Path(file).stat()
        digest.update(f"{file}\0{(state.st_size, state.st_mtime_ns)}\0".encode())
    item = images[0]
    for key in ("image", "mask"):
        digest.update(f"{key} {tuple(item[key].shape)}".encode() + item[key].numpy().tobytes())
    assert images.identity() == digest.hexdigest()
