"""Rasters on servers: what GDAL's failure to open one means, and how to go on."""

from __future__ import annotations

import re

from geohp.errors import UnreachableError
from geohp.raster.gdal import gdal_message

_LATER = "try again later"
_ANSWERS = (
    (r"resolve host", "no server of that name is known", "check the address and the connection to the network"),
    (r"timed out|timeout was reached|too slow", "its server does not answer in time",
     f"{_LATER}, or allow more seconds by GDAL_HTTP_CONNECTTIMEOUT and GDAL_HTTP_LOW_SPEED_TIME"),
    (r"connect to server|failed to connect|connection refused", "nothing answers at that address and port",
     f"check the address and the connection to the network, or {_LATER}"),
    (r"SSL|TLS|certificate", "no secure connection to its server comes about",
     "check https or http, and the server's certificate (CURL_CA_BUNDLE names others)"),
    (r"response code: (404|410)\b|specified (key|bucket) does not exist", "its server has no such file",
     "check the address"),
    (r"options? .*not defined|missing azure", "no credentials for it are known",
     "set them in the environment, or for open data the one that ends in _NO_SIGN_REQUEST to YES"),
    (r"response code: (401|403|407)\b|access denied|access key|signature|token|request time",
     "its server does not permit it", "check the credentials, the clock, and whether a signed address has expired"),
    (r"response code: (429|5\d\d)\b|request rate|internal error", "its server is busy or out of order", _LATER),
    (r"response code: [34]\d\d\b|malformed aws", "its server refuses",
     "check the address, the region and the credentials"),
    (r"CURL error", "the connection to its server fails", f"check the address, or {_LATER}"),
)  # fmt: skip
"""What libcurl, GDAL and S3 write, what it means, and what helps; the first that fits. All write in English alone."""


def unreachable_error(name: str, error: BaseException) -> UnreachableError | None:
    """What to raise where GDAL could not open an address; ``None`` where that was not for its server.

    Args:
        name: of the raster.
        error: GDAL's.
    """
    if "://" not in name and not name.startswith("/vsi"):
        return None
    message = gdal_message(error)
    words = re.sub(r"'[^']*'", "", message).replace(name, "")  # addresses may have such words in them
    for pattern, meaning, remedy in _ANSWERS:
        if re.search(pattern, words, re.IGNORECASE):
            return UnreachableError(f"{name} cannot be opened: {meaning} ({message})", remedy)
    return None
