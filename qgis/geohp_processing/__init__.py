"""geohp in the Processing toolbox of QGIS: runs the geohp command of another environment, and imports none of it."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:
    """What QGIS calls to load the plugin; ``iface`` is ``None`` where there is no window."""
    from .provider import GeohpPlugin

    return GeohpPlugin()
