"""Print what geohp would be given of layers that QGIS shows otherwise than their file: how many, fields, system."""

import json
import sys
from unittest import mock

import qgis.utils
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsField,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QVariant

_FILE, _PLUGINS = sys.argv[1:]

application = QgsApplication([], False)
application.initQgis()
sys.path[:0] = [f"{QgsApplication.pkgDataPath()}/python/plugins", _PLUGINS]
qgis.utils.iface = mock.MagicMock()

from geohp_processing.algorithms import Legend  # noqa: E402  # the path of QGIS's own plugins is known only now

algorithm = Legend().create()
context, feedback = QgsProcessingContext(), QgsProcessingFeedback()


def _given(layer):
    parameters = {"INPUT": _FILE, "REFERENCE": layer, "OUTPUT": "legend.yaml"}
    options = dict(algorithm.options(parameters, context, feedback))
    read = QgsVectorLayer(options["--reference"], "read", "ogr")
    fields = [field.name() for field in read.fields() if field.name() not in ("fid", "id")]
    return options["--reference"] == _FILE, read.featureCount(), fields, read.crs().authid()


layers = {name: QgsVectorLayer(_FILE, name, "ogr") for name in ("as it is", "edited", "computed", "elsewhere")}
layers["of a type"] = QgsVectorLayer(f"{_FILE}|geometrytype=Polygon", "of a type", "ogr")
layers["edited"].startEditing()
layers["edited"].deleteFeature(next(layers["edited"].getFeatures()).id())
layers["computed"].addExpressionField("upper(cover)", QgsField("loud", QVariant.String))
layers["elsewhere"].setCrs(QgsCoordinateReferenceSystem("EPSG:4258"))
print(json.dumps({name: _given(layer) for name, layer in layers.items()}))
layers["edited"].rollBack()
layers.clear()  # which must not outlive the application
application.exitQgis()
