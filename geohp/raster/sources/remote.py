"""Patterns and folders on the web and in object stores, listed by fsspec; images by name need none of it."""

from __future__ import annotations

import os
from collections.abc import Set
from typing import Any

from geohp.errors import SourceError

_ANONYMOUS = "AWS_NO_SIGN_REQUEST"  # as GDAL calls it, which opens what is listed here


def is_remote_pattern(name: str) -> bool:
    """Whether a name is an address that means several images: a pattern with ``*``, or a folder ending in ``/``.

    A question mark is no wildcard there: signed addresses have one. A folder with a suffix is a raster (``.zarr/``).
    """
    _, _, inside = name.partition("://")[2].rstrip("/").partition("/")
    folder = name.endswith("/") and "." not in inside.rpartition("/")[2]
    listable = "://" in name and not name.startswith("/vsi")  # those are GDAL's own names of files
    return listable and ("*" in name.partition("?")[0] or folder)


def list_remote(name: str, suffixes: Set[str]) -> list[str]:
    """The addresses that a pattern or a folder means, sorted.

    Args:
        name: such as ``s3://bucket/tiles/*.tif``, or ``https://host/tiles/`` where the server lists its files.
        suffixes: of the files to list, in lower case; a pattern that names a suffix may mean any.

    Raises:
        SourceError: the package for such addresses is missing, or they cannot be listed.
    """
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(name, **_access(name))
        found = system.find(path) if name.endswith("/") else system.glob(path)
    except (ImportError, ValueError) as error:  # it does not know the protocol, or lacks its package
        remedy = "install that, or name the images one by one"
        raise SourceError(f"{name}: cannot be listed ({error})", remedy) from error
    except Exception as error:  # every store fails in its own way, and all mean the same to the user
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        remedy = "check address and access, or name the images one by one"
        raise SourceError(f"{name}: cannot be listed ({reason})", remedy) from error
    any_suffix = not name.endswith("/") and "." in name.rsplit("/", 1)[-1]
    addresses = (str(system.unstrip_protocol(each)) for each in found)
    return sorted(each for each in addresses if any_suffix or f".{each.rsplit('.', 1)[-1].lower()}" in suffixes)


def _access(name: str) -> dict[str, Any]:
    """How the store is opened: without a signature where GDAL is told to do so."""
    unsigned = os.environ.get(_ANONYMOUS, "").upper() in ("YES", "TRUE", "ON", "1")
    return {"anon": True} if unsigned and name.startswith("s3://") else {}
