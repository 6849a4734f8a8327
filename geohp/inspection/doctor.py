"""Whether an installation is sound: versions, GPU, hubs, caches."""

from __future__ import annotations

import os
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from geohp.inspection.caches import caches
from geohp.version import __version__

_PACKAGES = ("timm", "torchvision", "lightning", "torchgeo", "rioxarray", "geopandas", "pydantic", "safetensors")
_EXTRAS = {
    "geoembed": ("the backbone aerial", "aerial"),
    "distributed": ("work shared out to a cluster", "distributed"),
}
"""Packages that may be missing: what needs them, and the extra of geohp's that brings them."""

_AUTHORS = "https://dl.fbaipublicfiles.com"
_TIMEOUT_S = 3.0
_SPARE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """Something looked at.

    Attributes:
        name: what.
        state: how it is.
        remedy: what helps; empty where nothing is amiss.
    """

    name: str
    state: str
    remedy: str = ""


def examine(*, timeout_s: float = _TIMEOUT_S) -> Iterator[Check]:
    """Look at everything, one after the other.

    Args:
        timeout_s: how long a hub may take to answer.
    """
    yield Check("geohp", __version__)
    yield Check("Python", f"{platform.python_version()} on {platform.system()} ({platform.machine()})")
    yield from _torch()
    yield from _gdal()
    yield from map(_package, _PACKAGES)
    yield from map(_extra, _EXTRAS)
    yield from hubs(timeout_s)
    yield from _caches()


def _torch() -> Iterator[Check]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch", f"cannot be imported ({_first_line(error)})", "install it anew: pip install torch")
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Check("torch", f"{torch.__version__}, {built}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            yield Check("GPU", f"{about.name}, {about.total_memory / 2**30:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Check("GPU", "Apple's, by mps")
    elif shutil.which("nvidia-smi"):
        remedy = "install the torch that fits its driver, see https://pytorch.org/get-started/locally"
        yield Check("GPU", "NVIDIA's, but torch cannot use it", remedy)
    else:
        yield Check("GPU", "none; the CPU computes")


def _gdal() -> Iterator[Check]:
    try:
        import pyproj
        import rasterio
    except (ImportError, OSError) as error:
        remedy = "install both anew: pip install --force-reinstall rasterio pyproj"
        yield Check("GDAL", f"cannot be imported ({_first_line(error)})", remedy)
        return
    yield Check("rasterio", f"{rasterio.__version__} with GDAL {rasterio.__gdal_version__}")
    yield Check("pyproj", f"{pyproj.__version__} with PROJ {pyproj.proj_version_str}")
    try:
        with rasterio.Env():
            rasterio.crs.CRS.from_epsg(32633).to_wkt()
    except rasterio.errors.RasterioError as error:
        remedy = "unset PROJ_DATA, PROJ_LIB and GDAL_DATA, which may mean another installation"
        yield Check("coordinate systems", f"GDAL finds no EPSG:32633 ({_first_line(error)})", remedy)


def _package(name: str) -> Check:
    try:
        return Check(name, version(name))
    except PackageNotFoundError:
        return Check(name, "missing", f"pip install {name}")


def _extra(name: str) -> Check:
    purpose, extra = _EXTRAS[name]
    try:
        return Check(name, version(name))
    except PackageNotFoundError:
        return Check(name, f"not installed; only {purpose} needs it (pip install 'geohp[{extra}]')")


def hubs(timeout_s: float) -> Iterator[Check]:
    """Whether weights can be fetched.

    Args:
        timeout_s: how long an address may take to answer.
    """
    addresses = [os.environ.get("HF_ENDPOINT") or "https://huggingface.co", _AUTHORS]
    with ThreadPoolExecutor(len(addresses)) as pool:
        yield from pool.map(lambda address: _hub(address, timeout_s), addresses)


def _hub(address: str, timeout_s: float) -> Check:
    request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": "geohp"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):
            pass
    except urllib.error.HTTPError:  # an answer, too: nothing lies at the root of a store
        pass
    except (OSError, ValueError) as error:
        reason = _first_line(getattr(error, "reason", error))
        remedy = "set HTTPS_PROXY, or give weights as files (--weights FILE); backbones rcf and aerial need no hub"
        return Check(address, f"cannot be reached ({reason})", remedy)
    return Check(address, "reachable")


def _caches() -> Iterator[Check]:
    for cache in caches():
        existing = next(p for p in (cache.folder, *cache.folder.parents) if p.exists())
        remedy = ""
        if not os.access(existing, os.W_OK):
            remedy = f"make {existing} writable, or name another place by XDG_CACHE_HOME"
        elif (free := _free(existing)) < _SPARE_BYTES:
            remedy = (
                f"only {free / 2**30:.1f} GiB are free there: geohp cache clear, or another place by XDG_CACHE_HOME"
            )
        yield Check(cache.name, f"{cache.size_bytes / 2**30:.2f} GiB in {cache.folder}", remedy)


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
