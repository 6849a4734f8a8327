"""Weights that timm does not have: names of our own, and the addresses at which their authors hand the files out.

A file is fetched once and kept where torch keeps such files (``TORCH_HOME``), under its own name: who has run the
authors' code has it there already.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import ssl
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from geohp.errors import OutputError, WeightsError
from geohp.files.atomic import atomic_write, write_failure, write_text

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""How long an address may stay silent."""

_CHUNK = 1 << 20
_NETWORK_ERRORS = (URLError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


@dataclass(frozen=True)
class HostedWeights:
    """A weight file at its authors' address.

    Attributes:
        url: the address.
        architecture: timm's name, with tag, for a transformer of the same shape, bands, normalisation and positions.
        sha256: of the file, 64 hexadecimal digits; ``None`` as long as nobody has published it: the first file that
            is fetched is then remembered.
    """

    url: str
    architecture: str
    sha256: str | None = None

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        import torch  # names and addresses are known without

        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rpartition("/")[2]


HOSTED = {
    # ViT-S/8 after 300 epochs: HP, STEGO and DINO's own pictures are of it; timm's is another training.
    "vit_small_patch8_224.dino_300ep": HostedWeights(
        "https://dl.fbaipublicfiles.com/dino/dino_deitsmall8_300ep_pretrain/dino_deitsmall8_300ep_pretrain.pth",
        "vit_small_patch8_224.dino",
    ),
    # Trained like DINO on satellite images (fMoW), Apache-2.0; `vit.VARIANTS` knows the architecture.
    **{
        f"vit_{size}_patch{patch}_224.satdino": HostedWeights(
            f"https://huggingface.co/strakajk/satdino-vit_{size}-{patch}/resolve/main/satdino-vit_{size}-{patch}.pth",
            f"vit_{size}_patch{patch}_224.satdino",
        )
        for size, patch in (("small", 16), ("small", 8), ("base", 16))
    },
}
"""Weights by our names, which are timm's for the architecture with a tag of our own."""


def timm_name(name: str) -> str:
    """The name in timm for the architecture of a name of ours; any other name as it is."""
    return HOSTED[name].architecture if name in HOSTED else name


def fetch(name: str) -> Path:
    """The weight file of one of our names: kept from earlier, or downloaded now, whole or not at all.

    Its SHA-256 is compared with the published one, or with that of the first file of this name, which is kept beside
    it.

    Args:
        name: one of :data:`HOSTED`.

    Raises:
        WeightsError: the address cannot be reached, gives something else, or the file is not the one expected.
        OutputError: the file cannot be written.
    """
    hosted = HOSTED[name]
    path = hosted.path
    if path.is_file():
        _check_digest(path, hosted)
        return path
    logger.info("fetching %s into %s", hosted.url, path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(path.parent, error) from error
    with atomic_write(path, wait=True) as draft:
        if path.is_file():  # another process has fetched it meanwhile
            shutil.copyfile(path, draft)
        else:
            _download(name, hosted, draft)
        _check_digest(draft, hosted)
    return path


def _download(name: str, hosted: HostedWeights, draft: Path) -> None:
    """Write what the address gives, and make sure that it is a weight file and all of it."""
    from geohp.backbones.weight_files import read_state  # torch, which names do without

    request = urllib.request.Request(hosted.url, headers={"User-Agent": "geohp"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer, draft.open("wb") as file:
            shutil.copyfileobj(answer, file, _CHUNK)
            expected = int(answer.headers.get("Content-Length") or file.tell())
    except _NETWORK_ERRORS as error:
        reason = str(getattr(error, "reason", "") or error) or type(error).__name__
        raise _unavailable(name, hosted, f"cannot be fetched ({reason})") from error
    if (size := draft.stat().st_size) != expected:
        raise _unavailable(name, hosted, f"broke off after {size:,} of {expected:,} bytes")
    try:
        read_state(draft)
    except WeightsError as error:
        raise _unavailable(name, hosted, "gave something that is no weight file") from error


def _check_digest(file: Path, hosted: HostedWeights) -> None:
    """Compare the SHA-256 of the file, or of a draft of it, with the one expected; remember it where none is."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    record = hosted.path.with_name(f"{hosted.path.name}.sha256")
    expected = hosted.sha256 or _recorded(record)
    if expected is None:
        with suppress(OutputError):  # a cache that others have filled may be read-only
            write_text(record, f"{digest}  {hosted.path.name}\n")
            logger.info(
                "%s: its authors tell no SHA-256; this file's, %s, is kept in %s, and any other file refused",
                *(hosted.path.name, digest, record),
            )
    elif digest != expected:
        if hosted.sha256 is None:
            remedy = f"remove {record}, which remembers an earlier file's, if you trust this one"
        else:
            remedy = "try again" if file != hosted.path else "remove it to fetch it again"
        raise WeightsError(
            f"{file if file == hosted.path else hosted.url}: not the file expected, whose SHA-256 is {expected}, "
            f"but one of {digest}",
            f"{remedy}, or give a file of your choice by `backbone.weights: FILE` / `{{option}}`",
            option="weights",
            value="FILE",
        )


def _recorded(record: Path) -> str | None:
    """The SHA-256 in a file as ``sha256sum`` writes it."""
    with suppress(OSError, UnicodeDecodeError):
        digest = record.read_text(encoding="utf-8").partition(" ")[0].strip().lower()
        return digest if re.fullmatch("[0-9a-f]{64}", digest) else None
    return None


def _unavailable(name: str, hosted: HostedWeights, what: str) -> WeightsError:
    return WeightsError(
        f"{name}: {hosted.url} {what}",
        f"try again, put the file into {hosted.path.parent}, or give it by `backbone.weights: FILE` / `{{option}}`",
        option="weights",
        value="FILE",
    )
