"""Where the files of many scenes go in one folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from geohp.errors import ConfigError, OutputError
from geohp.inference.engine.layers import QUANTITIES
from geohp.inference.products import Products
from geohp.model.runs import MODEL_NAME
from geohp.raster.sources.paths import scene_name

PRODUCTS = (*QUANTITIES, "polygons", "stac")
"""What can be had of each scene besides its labels."""

MOSAIC = "mosaic.vrt"

_SUFFIXES = {**{name: f"_{name}.tif" for name in QUANTITIES}, "polygons": ".gpkg"}


def folder_products(scenes: Sequence[str], folder: Path, kinds: Iterable[str]) -> dict[str, Products]:
    """The files to make of each scene.

    Raises:
        ConfigError: a kind that there is not.
        OutputError: two scenes' files would have one name, or one would replace a scene.
    """
    kinds = [kind.strip() for kind in kinds]
    for kind in kinds:
        if kind not in PRODUCTS:
            raise ConfigError(f"{kind!r} is none of what can be had besides the labels: {', '.join(PRODUCTS)}")
    sources = {Path(scene).resolve() for scene in scenes if Path(scene).exists()}
    owners: dict[str, str] = {MODEL_NAME: "", MOSAIC: ""}
    targets = {}
    for scene in scenes:
        labels = folder / f"{scene_name(scene)}.tif"
        files = {kind: labels.with_name(f"{labels.stem}{_SUFFIXES[kind]}") for kind in kinds if kind != "stac"}
        targets[scene] = Products(
            labels,
            confidence=files.get("confidence"),
            entropy=files.get("entropy"),
            probabilities=files.get("probabilities"),
            polygons=files.get("polygons"),
            stac="stac" in kinds,
        )
        for path in targets[scene].paths.values():
            other = owners.setdefault(path.name.casefold(), scene)  # some disks tell no capitals
            if other != scene:
                raise OutputError(
                    f"{other} and {scene} would both be written to {path}", "rename one, or give them different folders"
                )
            if path.resolve() in sources:
                raise OutputError(f"{path}: is a scene itself", "choose another folder for the maps")
    return targets


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """A folder, made if need be, and taken away again where nothing came of it."""
    is_new = not folder.is_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made a folder ({error.strerror})", "choose another") from error
    try:
        yield
    finally:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
