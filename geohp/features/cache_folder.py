"""Where features are kept on disk; known without torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def default_folder() -> Path:
    """Where features are kept when nobody says where: ``geohp/features`` in the user's cache folder."""
    named = os.environ.get("XDG_CACHE_HOME")
    if not named and sys.platform == "win32":
        named = os.environ.get("LOCALAPPDATA")
    if not named and sys.platform == "darwin":
        named = str(Path.home() / "Library" / "Caches")
    return (Path(named) if named else Path.home() / ".cache") / "geohp" / "features"
