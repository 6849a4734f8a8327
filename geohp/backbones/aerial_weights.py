"""The weights of the aerial backbone: a file of an installed package, found and checked without importing anything."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from geohp.errors import WeightsError

PACKAGE, PACKAGE_VERSION = "geoembed", "1.1.2"
WEIGHTS_FILE = "weights/v3.npz"
WEIGHTS_SHA256 = "fbd6dd8e3a0fec98966314e611496f3c1e706b6d2d7dcd62e0e4fc1eb31489a0"

_REMEDY = f'pip install "{PACKAGE}=={PACKAGE_VERSION}" (or geohp[aerial])'


def is_packaged() -> bool:
    """Whether the package with the weights is installed, in the version that was tested."""
    try:
        packaged_weights()
        return version(PACKAGE) == PACKAGE_VERSION
    except (PackageNotFoundError, WeightsError):
        return False


def packaged_weights() -> Path:
    """The weight file of the installed package, which is looked for and never imported.

    Raises:
        WeightsError: it is not there.
    """
    spec = find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / WEIGHTS_FILE
        if file.is_file():
            return file
    raise WeightsError(f"backbone aerial: its weights are those of {PACKAGE}, which is not installed", _REMEDY)


def check_digest(file: Path) -> None:
    """Refuse another file than the one that was tested.

    Raises:
        WeightsError: its SHA-256 is another one.
    """
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != WEIGHTS_SHA256:
        raise WeightsError(f"{file}: not the weights of {PACKAGE} {PACKAGE_VERSION}, by its SHA-256", _REMEDY)
