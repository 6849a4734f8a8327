"""What stands in addresses of images beside where they are: passwords, signatures and tokens, not to be passed on.

Messages, tags, records and pages name the images that something was made from. Who reads them is to learn where these
are, and not how to get at them.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_END = r"[^\s\"'<>\\|]"  # what an address in a text goes on with
_USER = re.compile(r"(:/{1,2})[^\s/@\"'<>?]+@")  # one slash where the address was taken for a path
_ADDRESS = rf"(?:[a-z][a-z0-9+.-]+:/|/?vsi[a-z0-9_]+)(?:(?!\?){_END})*\?"
_FILE = r"\.[a-z0-9]{1,8}\?(?=[^\s=?]{1,100}=)"  # GDAL names the last part of an address alone
_QUERY = re.compile(rf"({_ADDRESS}|{_FILE})({_END}+)", re.IGNORECASE)
_VALUE = re.compile(r"(?<==)[^&=;,)\]}]+(?:=+(?=$|[&;,)\]}]))?")


def without_credentials(text: str) -> str:
    """A text whose addresses tell neither user and password nor the values of what they ask for.

    ``https://host/a.tif?X-Amz-Signature=1f3a`` becomes ``https://host/a.tif?X-Amz-Signature=***``. The same of what is
    such already.
    """
    if "?" not in text and "@" not in text:
        return text
    return _QUERY.sub(_hidden, _USER.sub(rf"\1{HIDDEN}@", text))


def _hidden(query: re.Match[str]) -> str:
    address, asked = query.groups()
    return address + (_VALUE.sub(HIDDEN, asked) if "=" in asked else HIDDEN)
