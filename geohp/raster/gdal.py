"""GDAL kept quiet, and its failures gathered in one place."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.env
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError, RasterioIOError

# For decoded blocks; left alone, GDAL takes a share of the machine's memory, gigabytes on a server.
_CACHE_BYTES = 40 * 2**20

_ON_SERVERS = ("/vsicurl", "/vsis3", "/vsigs", "/vsiaz", "/vsiadls", "/vsioss", "/vsiswift", "/vsiwebhdfs", "://")

_PATIENCE = {
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "100",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
}
"""What servers are allowed, in seconds and bytes a second, and how often one that is busy is asked again: left alone,
GDAL waits for an answer forever, and asks once."""

GDAL_FAILURES = (RasterioError, CRSError, CPLE_BaseError)
"""What rasterio raises where GDAL fails."""
FAILURES = (*GDAL_FAILURES, OSError, UnicodeError)  # the last for what is not UTF-8


def gdal_env(**options: Any) -> Any:
    """A GDAL environment for the calling thread: failures go to rasterio's log rather than to the terminal.

    Elsewhere than in the thread that opened a file, GDAL would print them. Its block cache is kept small, and servers
    that do not answer are given up, unless the user has set these options otherwise.
    """
    usual = {"GDAL_CACHEMAX": _CACHE_BYTES, **_PATIENCE}
    return rasterio.Env(**{**{name: value for name, value in usual.items() if not _is_set(name)}, **options})


def open_env(name: str) -> Any:
    """The environment to open a raster in for reading.

    Beside a raster on a server nothing is looked for, unless the user has set what GDAL shall do: it would ask for the
    folder and for some forty files that may lie there, one by one. There, and in a VRT, which may lead there, one
    thread decodes: where several do, GDAL takes what a server did not deliver for zeros without a word.
    """
    remote = _is_on_server(name)
    options = {"GDAL_NUM_THREADS": "1" if remote or name.lower().endswith(".vrt") else "ALL_CPUS"}
    if remote and not _is_set("GDAL_DISABLE_READDIR_ON_OPEN"):
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"
    return gdal_env(**options)


def _is_on_server(name: str) -> bool:
    return any(mark in name for mark in _ON_SERVERS)


def _is_set(option: str) -> bool:
    """Whether the user has set an option of GDAL's."""
    return option in os.environ or (rasterio.env.hasenv() and option in rasterio.env.getenv())


def open_raster(name: str | Path, mode: str = "r", **options: Any) -> Any:
    """``rasterio.open`` that takes a raster without georeference for the ordinary thing it is here.

    A pipe is refused: to open it would wait for whoever writes into it. A server that nothing could be had of is asked
    again: GDAL remembers for as long as the process lives that there was no such file, and not why.
    """
    if Path(name).is_fifo():
        raise RasterioIOError(f"{name} is a pipe, which cannot be read here and there")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            return rasterio.open(name, mode, **options)
        except RasterioIOError as error:
            if not _is_on_server(str(name)) or "does not exist in the file system" not in str(error):
                raise
        with rasterio.Env(CPL_VSIL_CURL_NON_CACHED="/vsi"):
            with suppress(RasterioIOError):
                return rasterio.open(name, mode, **options)  # of S3 and its like it forgets only as this fails
            return rasterio.open(name, mode, **options)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The type of a band by rasterio's name of it; of complex integers, which numpy has not, what they are read as."""
    return np.dtype("complex64" if name.startswith("complex_int") else name)


@contextmanager
def logged_errors() -> Iterator[list[str]]:
    """Collect what GDAL logs as errors in this thread: the only trace of a write that fails while a file closes."""
    gathered: list[str] = []
    thread = threading.get_ident()

    class Gather(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                gathered.append(record.getMessage())

    log = logging.getLogger("rasterio._env")
    handler = Gather(logging.ERROR)
    log.addHandler(handler)
    try:
        yield gathered
    finally:
        log.removeHandler(handler)


def gdal_message(error: BaseException) -> str:
    """GDAL's own words about a failure, without the full stop."""
    return str(error.__cause__ or error).rstrip(". ")
