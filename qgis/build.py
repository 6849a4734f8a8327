"""Build the zip of the QGIS plugin: ``python qgis/build.py``; the same sources give the same bytes anywhere.

QGIS installs it by Plugins > Manage and Install Plugins > Install from ZIP. The repository of plugins.qgis.org also
wants an address of the sources, one of the issues, and an e-mail address: say ``--repository URL --email ADDRESS``.
"""

from __future__ import annotations

import argparse
import configparser
import re
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLUGIN = HERE / "geohp_processing"
LICENSE = HERE.parent / "LICENSE"
METADATA = "metadata.txt"
REQUIRED = ("name", "description", "version", "qgisMinimumVersion", "author", "about")
PUBLISHED = ("email", "repository", "tracker")
"""What plugins.qgis.org requires beyond that."""

_SUFFIXES = (".py", ".svg", ".png", ".txt")
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say
_MODE = 0o100644 << 16


class MetadataError(ValueError):
    """The plugin's metadata are not what QGIS reads."""


def check_metadata(text: str, required: tuple[str, ...] = REQUIRED) -> str:
    """Refuse metadata that QGIS, or where they are ``required`` its repository, would refuse; gives the version."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    general = dict(parser["general"]) if "general" in parser else {}
    missing = [key for key in required if not general.get(key, "").strip()]
    if missing:
        raise MetadataError(f"{METADATA} lacks {', '.join(missing)}")
    for key in ("version", "qgisMinimumVersion"):
        if not re.fullmatch(r"\d+(\.\d+){1,2}", general[key]):
            raise MetadataError(f"{METADATA}: {key} is {general[key]!r}, not numbers with points between")
    for key in ("repository", "tracker", "homepage"):
        if key in general and not general[key].startswith("https://"):
            raise MetadataError(f"{METADATA}: {key} is {general[key]!r}, not an https address")
    icon = general.get("icon", "")
    if not (PLUGIN / icon).is_file():
        raise MetadataError(f"{METADATA}: there is no icon {icon!r}")
    return general["version"]


def build(folder: Path, repository: str = "", email: str = "") -> Path:
    """Write the zip into a folder.

    Args:
        folder: gets ``geohp_processing-VERSION.zip``.
        repository: https address of the sources, for plugins.qgis.org; its issues are taken to be at ``/issues``.
        email: of whoever answers for the plugin there.

    Raises:
        MetadataError: the metadata are not valid.
    """
    text = (PLUGIN / METADATA).read_text(encoding="utf-8")
    if repository or email:
        address = repository.rstrip("/")
        text += f"email={email}\nrepository={address}\ntracker={address}/issues\n"
        version = check_metadata(text, REQUIRED + PUBLISHED)
    else:
        version = check_metadata(text)
    files = {path.name: path.read_bytes() for path in PLUGIN.iterdir() if path.suffix in _SUFFIXES}
    files |= {METADATA: text.encode(), "LICENSE": LICENSE.read_bytes()}
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{PLUGIN.name}-{version}.zip"
    # Not deflated: what that gives depends on the version of zlib.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(f"{PLUGIN.name}/{name}", _DATE)
            entry.create_system, entry.external_attr = 3, _MODE
            archive.writestr(entry, files[name])
    return target


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build the zip of the QGIS plugin.")
    parser.add_argument("--out", type=Path, default=Path("dist"), metavar="FOLDER", help="where it goes (dist)")
    parser.add_argument("--repository", default="", metavar="URL", help="of the sources, for plugins.qgis.org")
    parser.add_argument("--email", default="", metavar="ADDRESS", help="of who answers for it, for plugins.qgis.org")
    arguments = parser.parse_args()
    try:
        target = build(arguments.out, arguments.repository, arguments.email)
    except MetadataError as error:
        sys.exit(f"build.py: {error}")
    sys.stdout.write(f"{target}\n")


if __name__ == "__main__":
    main()
