"""Names of backbones, told right from wrong without importing torch or timm."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from geohp.backbones.aerial_weights import is_packaged, packaged_weights
from geohp.backbones.hosted_weights import HOSTED
from geohp.backbones.weight_paths import HUB, RANDOM, check_weight_file
from geohp.errors import ConfigError

SELFPATCH = "selfpatch"
"""Tag of transformers as SelfPatch trains them (arXiv 2206.07990): without class token and final norm."""
SATDINO = "satdino"
"""Tag of transformers as SatDINO trains them (arXiv 2508.21402): with a register, which tells the pixel size."""
VARIANTS: dict[str, dict[str, Any]] = {
    SELFPATCH: {"class_token": False, "global_pool": "avg"},
    SATDINO: {"reg_tokens": 1},
}
"""Tags of our own for plain transformers of timm, and in what they differ from these."""

AERIAL = {"aerial": (1,), "aerial3": (1, 2, 3)}
"""Names of the network for aerial images, and the stages whose features they mean where nothing else is said."""

AUTO = "auto"
"""In a configuration: the best of what is there without a download, see :func:`without_download`."""

OWN = ("rcf", *AERIAL, "colour")
"""Backbones that are not timm's."""

JOINED = "+"
"""Between the names of backbones whose features are taken side by side."""
BESIDE = (*AERIAL, "colour")
"""Backbones that may stand beside another."""

_OWN_PATCH_SIZE, _USUAL_PATCH_SIZE = 8, 16

_SHOWN = re.compile(r"vit_\w+$|vit_[\w.]*dino")


def check_backbone(name: str, weights: str | os.PathLike[str] | None) -> None:
    """Refuse a backbone that nobody knows, and weights that are none.

    Raises:
        ConfigError: an unknown name, or weights for a backbone that takes none.
        WeightsError: see :func:`geohp.backbones.weight_paths.check_weight_file`, and where the package with the
            weights of ``aerial`` is not installed.
    """
    first, *others = name.split(JOINED)
    if others:
        check_joined(name)
        for other in others:
            check_backbone(other, None)
        check_backbone(first, weights)
        return
    check_backbone_name(name)
    if name in AERIAL and (weights is None or str(weights) == HUB):
        packaged_weights()
    if weights is None or str(weights) in (HUB, RANDOM):
        return
    if name in ("rcf", "colour"):
        why = "it is fitted to the imagery" if name == "rcf" else "it learns nothing"
        raise ConfigError(f"backbone {name}: takes no weights, {why}", "leave backbone.weights out")
    if name not in AERIAL:  # whose file is of another kind
        check_weight_file(Path(weights))


def without_download(bands: int = 3) -> str:
    """``aerial`` where its weights are installed and images of so many bands are its, else ``rcf``."""
    return "aerial" if bands == 3 and is_packaged() else "rcf"


def check_joined(name: str) -> None:
    """Refuse backbones that cannot be side by side: others than :data:`BESIDE` after the first, or one twice.

    Raises:
        ConfigError: with what may stand there.
    """
    parts = name.split(JOINED)
    for other in parts[1:]:
        if other not in BESIDE:
            raise ConfigError(
                f"backbone {name}: {other or 'nothing'} cannot stand after a +",
                f"there may be {', '.join(BESIDE[:-1])} or {BESIDE[-1]}",
            )
    if len(set(parts)) < len(parts):
        raise ConfigError(f"backbone {name}: names a backbone twice", "leave one of them out")


def patch_size_of(name: str, options: Mapping[str, Any]) -> int:
    """Side in pixels of the patches of a backbone, as its options or its name tell; 16 where neither does."""
    size = options.get("patch_size")
    if isinstance(size, int):
        return size
    if name.partition(JOINED)[0] in OWN:
        return _OWN_PATCH_SIZE
    told = re.search(r"patch(\d+)", name)
    return int(told.group(1)) if told else _USUAL_PATCH_SIZE


def check_backbone_name(name: str) -> None:
    """Refuse a name that nobody knows.

    Raises:
        ConfigError: with the names that come near.
    """
    architecture, _, tag = name.partition(".")
    known = timm_names()
    if not known or name in OWN or name in HOSTED:
        return
    # Some tags are put together in timm's code: where none is read of an architecture, any may be right.
    tagged = name in known or not any(other.startswith(f"{architecture}.") for other in known)
    if architecture not in known or not (tagged or tag in ("", *VARIANTS)):
        raise ConfigError(f"backbone {name}: unknown", suggestion(name))


def suggestion(name: str) -> str:
    """What somebody may have meant by a name that there is not."""
    names = [*OWN, *sorted(filter(_SHOWN.match, timm_names())), *HOSTED]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else "choose rcf, aerial or a vision transformer known to timm"


@cache
def timm_names() -> frozenset[str]:
    """Names of timm's models, with and without the tags of their weights, as its source files register them.

    Importing timm imports torch, which takes seconds; a misspelt name shall not. Empty where the files are not there.
    """
    package = find_spec("timm")
    folder = Path(package.origin).parent / "models" if package is not None and package.origin else Path()
    names: set[str] = set()
    for file in folder.glob("*.py") if folder.is_dir() else ():
        text = file.read_text(encoding="utf-8")
        names.update(re.findall(r"^@register_model\s*\ndef (\w+)\(", text, re.MULTILINE))
        names.update(re.findall(r"""["'](\w+\.\w+)["']\s*:""", text))
    return frozenset(names)
