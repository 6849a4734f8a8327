"""Where features are kept on disk; known without torch."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from geohp.files.checks import expand_home


def default_folder() -> Path:
    """Where features are kept when nobody says where: ``geohp/features`` in the user's cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    if not named and sys.platform == "win32":
        named = os.environ.get("LOCALAPPDATA")
    folder = Path(named) if named else expand_home("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
    if not named and not folder.is_absolute():  # users in containers may have no home
        folder = Path(tempfile.gettempdir())
    return folder / "geohp" / "features"
