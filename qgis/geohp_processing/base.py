"""What the algorithms share: parameters become a command line, the command runs, and what it wrote is loaded."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsFields,
    QgsMapLayer,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingParameterDefinition,
    QgsRasterLayer,
    QgsSettings,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QIcon

from .command import (
    CommandError,
    Message,
    Progress,
    Value,
    check_version,
    command_line,
    find_executable,
    run,
)

COMMAND_SETTING = "GEOHP_COMMAND"

Options = list[tuple[str, Value]]
"""Flags and what they are given."""

_FLAG = re.compile(r"--[a-z][a-z-]*")
_OPEN_OPTIONS = re.compile(r"\|(?:option:|credential:|authcfg=)")
"""What QGIS appends to the name that GDAL opens."""
_FLAG_ADVANCED = QgsProcessingParameterDefinition.FlagAdvanced
_VECTORS = ["gpkg", "shp", "geojson", "fgb"]


class _Styled(QgsProcessingLayerPostProcessorInterface):
    """Gives a layer the style that geohp wrote, in its GeoPackage or beside it."""

    def postProcessLayer(
        self, layer: QgsMapLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        layer.loadDefaultStyle()
        layer.triggerRepaint()


_STYLED = _Styled()
"""QGIS does not keep it alive, and an algorithm is gone when its layers are loaded."""


class GeohpAlgorithm(QgsProcessingAlgorithm):
    """A command of geohp.

    A child names the command, declares its parameters in :meth:`declare`, and says in :meth:`goes_on` how a cancelled
    run is gone on with.
    """

    COMMAND = ""
    TITLE = ""
    SUMMARY = ""
    """HTML above the parameters' own help."""
    TAGS: tuple[str, ...] = ()
    POLYGON_LAYER = "landcover"
    """The layer of a GeoPackage that its polygons go to; another one lists the classes."""

    def __init__(self) -> None:
        super().__init__()
        self._flags: dict[str, str] = {}
        self._layer_flags: dict[str, str] = {}

    def declare(self) -> None:
        """Add the parameters, by :meth:`add`."""
        raise NotImplementedError

    def goes_on(self) -> str:
        """A sentence for whoever has cancelled it."""
        return "What was there before is unchanged."

    def add(
        self,
        definition: QgsProcessingParameterDefinition,
        flag: str = "",
        meaning: str = "",
        *,
        layer_flag: str = "",
        advanced: bool = False,
    ) -> None:
        """Add a parameter.

        Args:
            definition: what QGIS shows.
            flag: of the option that it becomes; empty for what the child passes on itself.
            meaning: shown beside it.
            layer_flag: of the option that names the layer in the file of a vector layer.
            advanced: shown when asked for.
        """
        if meaning:
            definition.setHelp(meaning)
        if advanced:
            definition.setFlags(definition.flags() | _FLAG_ADVANCED)
        if flag:
            self._flags[definition.name()] = flag
        if layer_flag:
            self._layer_flags[definition.name()] = layer_flag
        self.addParameter(definition)

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        """Flags and values of what :meth:`add` has got a flag for."""
        options: Options = []
        for name, flag in self._flags.items():
            layer_flag = self._layer_flags.get(name)
            source = self.parameterAsLayer(parameters, name, context) if layer_flag else None
            if layer_flag and isinstance(source, QgsVectorLayer):
                # Layers that geohp cannot read in place, or that have a filter, are copied to a file.
                path, layer = self.parameterAsCompatibleSourceLayerPathAndLayerName(
                    parameters, name, context, _VECTORS if _is_as_stored(source) else [], "gpkg", feedback
                )
                options += [(flag, path), (layer_flag, layer or None)]
            else:
                options.append((flag, self.value(name, parameters, context)))
        return options

    def positional(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[Value]:
        """What stands on the command line without a flag."""
        return [self.value("INPUT", parameters, context)]

    def value(self, name: str, parameters: dict[str, Any], context: QgsProcessingContext) -> Value:
        """A parameter as the command line takes it; ``None`` where it is left out.

        Raises:
            QgsProcessingException: a layer that lies in no file.
        """
        definition = self.parameterDefinition(name)
        kind = definition.type()
        if not definition.isDestination() and _is_empty(parameters.get(name, definition.defaultValue())):
            return None
        if kind in ("raster", "layer", "vector"):
            return self.raster_source(self.parameterAsLayer(parameters, name, context), definition.description())
        if kind in ("rasterDestination", "vectorDestination"):
            return self.parameterAsOutputLayer(parameters, name, context) or None
        if kind == "fileDestination":
            return self.parameterAsFileOutput(parameters, name, context) or None
        if kind == "number":
            return _plain(self.parameterAsDouble(parameters, name, context))
        if kind == "boolean":
            return self.parameterAsBool(parameters, name, context)
        if kind == "enum":
            return self.parameterAsEnumString(parameters, name, context) or None
        return self.parameterAsString(parameters, name, context) or None

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        executable = self._executable()
        options = self.options(parameters, context, feedback)
        line = command_line(executable, self.COMMAND, self.positional(parameters, context), options)
        try:
            version = check_version(executable)
            feedback.pushDebugInfo(f"geohp {version}: {executable}")
            feedback.pushCommandInfo(shlex.join(line))
            finished = run(line, lambda event: self._report(event, feedback), feedback.isCanceled)
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error
        if finished.cancelled:
            context.setLayersToLoadOnCompletion({})
            feedback.pushInfo(f"Cancelled. {self.goes_on()}")
            return {}
        if finished.code:
            context.setLayersToLoadOnCompletion({})
            raise QgsProcessingException(self._in_words_of_qgis(finished.error))
        feedback.pushInfo(finished.text)
        return self.results(parameters, dict(options), context, feedback)

    def results(
        self,
        parameters: dict[str, Any],
        options: dict[str, Value],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """What there is now, by output; layers that QGIS is going to load get the styles that geohp wrote.

        Args:
            parameters: as QGIS gave them.
            options: values by flag, as the command got them.
            context: holds the layers to load.
            feedback: of this run.
        """
        results = {}
        for definition in self.destinationParameterDefinitions():
            path = options.get(self._flags.get(definition.name(), ""))
            if path is None:
                continue
            written = Path(str(path)).exists()
            results[definition.name()] = self._load(str(path), context, written=written)
            if not written:
                feedback.pushWarning(f"{definition.description()}: there is nothing to write")
        return results

    def canExecute(self) -> tuple[bool, str]:
        try:
            find_executable(_command_setting())
        except CommandError as error:
            return False, str(error)
        return True, ""

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        self.declare()

    def createInstance(self) -> GeohpAlgorithm:
        return type(self)()

    def name(self) -> str:
        return self.COMMAND

    def displayName(self) -> str:
        return self.TITLE

    def shortHelpString(self) -> str:
        return self.SUMMARY

    def tags(self) -> list[str]:
        return ["land cover", "classification", "segmentation", "unsupervised", "machine learning", *self.TAGS]

    def icon(self) -> QIcon:
        return self.provider().icon() if self.provider() else QIcon()

    def svgIconPath(self) -> str:
        return self.provider().svgIconPath() if self.provider() else ""

    def _executable(self) -> Path:
        try:
            return find_executable(_command_setting())
        except CommandError as error:
            raise QgsProcessingException(str(error)) from error

    def raster_source(self, layer: QgsMapLayer | None, what: str) -> str:
        """The file of a raster layer, which a message calls ``what``.

        Raises:
            QgsProcessingException: it lies in no file.
        """
        if not isinstance(layer, QgsRasterLayer):
            raise QgsProcessingException(f"{what}: there is no such layer or file")
        if layer.providerType() != "gdal":
            raise QgsProcessingException(
                f"{what}: the layer “{layer.name()}” is no file but a service ({layer.providerType()}); save it as a "
                "GeoTIFF first (Layer > Save As...) and choose that"
            )
        # Taken apart by QGIS, the name of a raster in an archive, or of a table in a GeoPackage, is only the file's.
        return _OPEN_OPTIONS.split(layer.source(), maxsplit=1)[0]

    def raster_sources(self, name: str, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """The files of several raster layers, see :meth:`raster_source`."""
        what = self.parameterDefinition(name).description()
        return [self.raster_source(layer, what) for layer in self.parameterAsLayerList(parameters, name, context)]

    def _load(self, path: str, context: QgsProcessingContext, *, written: bool) -> str:
        """How QGIS names a layer that was written; it is loaded, where that was asked for, with its style."""
        name = f"{path}|layername={self.POLYGON_LAYER}" if path.lower().endswith(".gpkg") else path
        layers = context.layersToLoadOnCompletion()
        details = layers.pop(path, None)
        if details is not None:
            if written:
                details.setPostProcessor(_STYLED)
                layers[name] = details
            context.setLayersToLoadOnCompletion(layers)
        return name

    def _report(self, event: Progress | Message, feedback: QgsProcessingFeedback) -> None:
        if isinstance(event, Progress):
            feedback.setProgressText(event.text)
            feedback.setProgress(event.percent)
        elif event.text and not event.is_error:  # which ends the run, and is shown then
            feedback.pushInfo(self._in_words_of_qgis(event.text))

    def _in_words_of_qgis(self, text: str) -> str:
        """A sentence of the command line, with the parameters that its flags are in QGIS."""
        parameters = {flag: self.parameterDefinition(name).description() for name, flag in self._flags.items()}
        flags = [flag for flag in dict.fromkeys(_FLAG.findall(text)) if flag in parameters]
        meant = "; ".join(f"{flag} is “{parameters[flag]}”" for flag in flags)
        return f"{text} ({meant})" if meant else text


def _command_setting() -> str:
    return str(QgsSettings().value(f"Processing/Configuration/{COMMAND_SETTING}", "") or "")


def _is_as_stored(layer: QgsVectorLayer) -> bool:
    """Whether the file of a layer holds what QGIS shows of it, neither more nor less nor elsewhere."""
    fields = layer.fields()
    computed = any(fields.fieldOrigin(number) != QgsFields.OriginProvider for number in range(fields.count()))
    of_several_types = "|geometrytype=" in layer.source()
    return not (computed or of_several_types or layer.isModified()) and layer.crs() == layer.dataProvider().crs()


def _is_empty(value: Any) -> bool:
    # What is not set arrives as None, as an empty text, or as a null of Qt.
    return value is None or value == "" or (hasattr(value, "isNull") and callable(value.isNull) and value.isNull())


def _plain(number: float) -> Value:
    """A whole number without the point, which counts do not take."""
    return int(number) if number == int(number) else number
