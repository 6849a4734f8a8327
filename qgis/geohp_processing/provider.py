"""The plugin and its provider: the algorithms of geohp in the Processing toolbox, and one setting."""

from __future__ import annotations

from pathlib import Path

from processing.core.ProcessingConfig import ProcessingConfig, Setting
from qgis.core import QgsApplication, QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS
from .base import COMMAND_SETTING

ICON = Path(__file__).parent / "icon.svg"


class GeohpProvider(QgsProcessingProvider):
    """What geohp does with rasters, as algorithms."""

    def id(self) -> str:
        return "geohp"

    def name(self) -> str:
        return "geohp"

    def longName(self) -> str:
        return "geohp: land-cover maps without labels"

    def icon(self) -> QIcon:
        return QIcon(str(ICON))

    def svgIconPath(self) -> str:
        return str(ICON)

    def load(self) -> bool:
        ProcessingConfig.settingIcons[self.name()] = self.icon()
        what = "Environment of geohp: its folder, or its command (empty: the geohp on PATH)"
        ProcessingConfig.addSetting(Setting(self.name(), COMMAND_SETTING, what, "", valuetype=Setting.FILE))
        ProcessingConfig.readSettings()
        self.refreshAlgorithms()
        return True

    def unload(self) -> None:
        ProcessingConfig.removeSetting(COMMAND_SETTING)

    def loadAlgorithms(self) -> None:
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        return ["tif"]

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        return ["gpkg", "geojson", "fgb", "parquet"]

    def defaultRasterFileExtension(self) -> str:
        return "tif"

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        return "gpkg"

    def supportsNonFileBasedOutput(self) -> bool:
        return False


class GeohpPlugin:
    """Adds the provider to Processing, with a window and without."""

    def __init__(self) -> None:
        self._provider: GeohpProvider | None = None

    def initProcessing(self) -> None:
        """What ``qgis_process`` calls."""
        self._provider = GeohpProvider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self) -> None:
        """What QGIS calls when it loads the plugin."""
        self.initProcessing()

    def unload(self) -> None:
        """What QGIS calls when it unloads the plugin."""
        if self._provider is not None:
            QgsApplication.processingRegistry().removeProvider(self._provider)
            self._provider = None
