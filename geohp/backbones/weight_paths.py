"""Where weights are to come from, and what is no file of weights, without importing torch."""

from __future__ import annotations

import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from geohp.errors import WeightsError

HUB, RANDOM = "hub", "random"
"""In place of a file of weights: those of the backbone's name, and none at all, for tests and benchmarks."""

_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_PICKLE = b"\x80"  # what torch's files began with before they were ZIP archives


def check_weight_file(path: str | Path) -> Path:
    """Refuse what is no file of weights, as far as its name and its beginning tell.

    Raises:
        WeightsError: it is missing, of another kind, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such weight file", "check the path given as backbone.weights or {option}", option="weights"
        )
    if path.suffix.lower() not in _SUFFIXES:
        raise WeightsError(f"{path}: not a kind of weight file known here", f"give one of {', '.join(_SUFFIXES)}")
    try:
        if not _has_content(path):
            raise WeightsError(f"{path}: damaged or not a weight file", "download or copy it again")
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})", "check its permissions") from error
    return path


def _has_content(path: Path) -> bool:
    """Whether a file begins and ends as its suffix promises."""
    if path.suffix.lower() == ".safetensors":
        try:
            with safe_open(path, framework="np"):
                return True
        except SafetensorError:
            return False
    with path.open("rb") as file:
        return file.read(1) == _PICKLE or zipfile.is_zipfile(path)
