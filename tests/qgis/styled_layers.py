"""Run an algorithm in QGIS's own Python as its window does, and print how the layers that it loads are drawn."""

import json
import sys
from unittest import mock

import qgis.utils
from qgis.core import QgsApplication, QgsProcessingContext, QgsProject, QgsRasterLayer

_NAME, _PARAMETERS, *_PATHS = sys.argv[1:]

application = QgsApplication([], False)
application.initQgis()
sys.path[:0] = [f"{QgsApplication.pkgDataPath()}/python/plugins", *_PATHS]
qgis.utils.iface = mock.MagicMock()

import processing  # noqa: E402  # the path of QGIS's own plugins is known only now
from geohp_processing import classFactory  # noqa: E402
from processing.core.Processing import Processing  # noqa: E402

Processing.initialize()
plugin = classFactory(None)
plugin.initProcessing()
context = QgsProcessingContext()
context.setProject(QgsProject.instance())
parameters = json.loads(_PARAMETERS)
parameters["INPUT"] = QgsRasterLayer(parameters["INPUT"], "input")
processing.runAndLoadResults(_NAME, parameters, context=context)
(layer,) = QgsProject.instance().mapLayers().values()
renderer = layer.renderer()
if renderer.type() == "paletted":
    print(json.dumps({entry.label: entry.color.name() for entry in renderer.classes()}))
else:
    print(json.dumps({entry.label(): entry.symbol().color().name() for entry in renderer.categories()}))
del parameters  # with its layer, which must not outlive the application
plugin.unload()
application.exitQgis()
