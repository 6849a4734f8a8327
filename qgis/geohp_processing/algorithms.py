"""The algorithms: what each asks for, and what becomes of it on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputFile,
    QgsProcessingOutputHtml,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterEnum,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
    QgsProcessingParameterVectorLayer,
)

from .base import GeohpAlgorithm, Options
from .command import Value

_INTEGER = QgsProcessingParameterNumber.Integer
_DOUBLE = QgsProcessingParameterNumber.Double
_FILE = QgsProcessingParameterFile.File
_FOLDER = QgsProcessingParameterFile.Folder
_CLASSES = 6
_MODELS = "Models (*.safetensors);;All files (*)"
_LEGENDS = "Legends (*.yaml *.yml);;All files (*)"
_SAME = "Run it again with the same parameters and the same output files: it goes on with what is finished."


def _rounded(name: str, description: str) -> QgsProcessingParameterNumber:
    """A number from 0 on, shown with two decimals instead of six."""
    number = QgsProcessingParameterNumber(name, description, _DOUBLE, 0, minValue=0)
    number.setMetadata({"widget_wrapper": {"decimals": 2}})
    return number


class _Computing(GeohpAlgorithm):
    """Reads images and computes features of them, in ways that are shown when asked for."""

    def declare_weights(self) -> None:
        """Where the features of a named backbone come from."""
        self.advanced(
            QgsProcessingParameterFile("WEIGHTS", "Weights of the backbone", _FILE, optional=True),
            "--weights",
            "A file, where they are not to be fetched.",
        )
        self.advanced(
            QgsProcessingParameterNumber(
                "BLOCK", "Block of the backbone", _INTEGER, None, optional=True, minValue=-1, maxValue=99
            ),
            "--block",
            "Counted from 0; -1 is the last.",
        )

    def declare_reading(self, bands: str) -> None:
        """How values of the images are read; ``bands`` says which are by default."""
        self.advanced(
            QgsProcessingParameterString("BANDS", "Bands", None, optional=True),
            "--bands",
            f"By number, name or colour, such as 4,1,2; {bands} by default.",
        )
        self.advanced(
            QgsProcessingParameterString("SCALING", "Scaling of values", None, optional=True),
            "--scaling",
            "auto, type, percentiles:2,98, percentiles-per-band:2,98 or LOW,HIGH.",
        )

    def declare_device(self) -> None:
        """What it computes on, and from which seed."""
        self.advanced(
            QgsProcessingParameterEnum(
                "DEVICE", "Computes on", ["auto", "cpu", "cuda", "mps"], False, "auto", False, True
            ),
            "--device",
            "auto takes the graphics card where torch can use it.",
        )
        self.advanced(
            QgsProcessingParameterNumber("SEED", "Seed", _INTEGER, 0, minValue=0),
            "--seed",
            "Of everything random: the same one gives the same result.",
        )

    def advanced(self, definition: Any, flag: str, meaning: str) -> None:
        """Add a parameter that is shown when asked for."""
        self.add(definition, flag, meaning, advanced=True)


class _OfAnArea(GeohpAlgorithm):
    """Can be confined to an area."""

    def declare_area(self) -> None:
        """The area, which all algorithms confine themselves to alike."""
        self.add(
            QgsProcessingParameterVectorLayer("AOI", "Area of interest", [QgsProcessing.TypeVectorPolygon], None, True),
            "--aoi",
            "Only what lies in these polygons, in any coordinate reference system.",
            layer_flag="--aoi-layer",
        )


class _WithPolygons(_OfAnArea):
    """Writes polygons."""

    def declare_polygon_options(self) -> None:
        """How polygons are cleaned, alike wherever they are written."""
        self.add(
            _rounded("MIN_AREA", "Smallest polygon (square metres)"),
            "--min-area",
            "Smaller polygons join a neighbour.",
        )
        self.add(
            _rounded("SIMPLIFY", "Simplify outlines by (metres)"),
            "--simplify",
            "Borders that polygons share stay shared.",
        )
        self.add(
            QgsProcessingParameterNumber("SMOOTH", "Round corners (times)", _INTEGER, 0, minValue=0, maxValue=5),
            "--smooth",
            "How often corners are cut; 2 look round.",
        )
        self.add(
            QgsProcessingParameterBoolean("SIMPLIFY_BOUNDARY", "Simplify margins of areas without data, too", False),
            "--simplify-boundary",
            "Such areas may then be covered a little.",
            advanced=True,
        )


class _Mapping(_WithPolygons, _Computing):
    """Maps scenes."""

    def declare_area(self) -> None:
        super().declare_area()
        self.add(
            QgsProcessingParameterBoolean("CROP", "Maps of the area alone", False),
            "--crop",
            "Otherwise they are as large as the scene, without data outside the area.",
        )

    def declare_classes(self, default: int | None) -> None:
        """Where classes come from; ``default`` is how many there are without a model."""
        self.add(
            QgsProcessingParameterFile("MODEL", "Model", _FILE, optional=True, fileFilter=_MODELS),
            "--model",
            "The model.safetensors of a run of Train, or any other model of geohp. Without one, classes are found on "
            "what is mapped.",
        )
        self.add(
            QgsProcessingParameterNumber(
                "CLASSES",
                "Number of classes (without a model)",
                _INTEGER,
                default,
                optional=default is None,
                minValue=2,
                maxValue=254,
            ),
            "--classes",
            "How many classes to find where there is no model; with a model this has no meaning.",
        )
        self.advanced(
            QgsProcessingParameterBoolean("SPLIT_COVERS", "Several classes of a large cover (without a model)", False),
            "--split-covers",
            "Otherwise vegetation, open ground that covers much, and water are one class each.",
        )
        self.add(
            QgsProcessingParameterFile("LEGEND", "Legend", _FILE, optional=True, fileFilter=_LEGENDS),
            "--legend",
            "Names for the classes, as the algorithm Legend writes them.",
        )

    def declare_computing(self) -> None:
        """How a scene is read and mapped, shown when asked for."""
        self.advanced(
            QgsProcessingParameterString("BACKBONE", "Backbone (without a model)", None, optional=True),
            "--backbone",
            "What classes are found on without a model: rcf (default), aerial3, a vision transformer of timm, or "
            "NAME+aerial3 for both.",
        )
        self.declare_weights()
        self.declare_reading("red, green and blue")
        self.advanced(
            QgsProcessingParameterNumber(
                "PIXEL_SIZE", "Pixel size the model sees (metres)", _DOUBLE, None, optional=True, minValue=0
            ),
            "--pixel-size",
            "The model's own by default; 0 for the scene's own.",
        )
        self.advanced(
            QgsProcessingParameterBoolean("TTA", "Average over flips and rotations", False),
            "--tta",
            "A little better, and eight times the work.",
        )
        self.advanced(
            QgsProcessingParameterEnum(
                "REFINE", "Fit to outlines of the scene", ["crf"], optional=True, usesStaticStrings=True
            ),
            "--refine",
            "By a dense conditional random field; some seconds a megapixel.",
        )
        self.advanced(
            QgsProcessingParameterEnum(
                "ON_READ_ERROR", "Where the scene cannot be read", ["stop", "nodata"], False, "stop", False, True
            ),
            "--on-read-error",
            "Stop, or leave such parts out as nodata.",
        )
        self.declare_device()

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        options = super().options(parameters, context, feedback)
        has_model = dict(options)["--model"] is not None
        without_model = ("--classes", "--split-covers")
        chosen = [(flag, value) for flag, value in options if not (has_model and flag in without_model)]
        return [*chosen, ("--qml", True), ("--overwrite", True)]

    def goes_on(self) -> str:
        return f"{_SAME} What goes to a temporary file begins anew."


class Segment(_Mapping):
    """``geohp segment``."""

    COMMAND = "segment"
    TITLE = "Segment (land-cover map)"
    TAGS = ("orthophoto", "clustering", "deep learning")
    SUMMARY = (
        "Turns an orthophoto into a land-cover map, without labels. With a model of yours the classes are those of the "
        "model, the same on every scene; without one they are found on this scene alone, by k-means on the features of "
        "a backbone.\n\nCancelled, it goes on where it was when it is run again with the same outputs."
    )

    def declare(self) -> None:
        self.add(
            QgsProcessingParameterRasterLayer("INPUT", "Scene"),
            meaning="An orthophoto, as a file. Nodata values, masks and alpha are left out of the map.",
        )
        self.declare_classes(_CLASSES)
        self.declare_area()
        self.declare_polygon_options()
        self.declare_computing()
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", "Label map"), "--out", "A cloud-optimised GeoTIFF.")
        self.add(
            QgsProcessingParameterVectorDestination(
                "POLYGONS", "Land-cover polygons", QgsProcessing.TypeVectorPolygon, None, optional=True
            ),
            "--polygons",
            "With class and area of each, and where Confidence is written, too, its mean.",
        )
        self.add(
            QgsProcessingParameterRasterDestination(
                "CONFIDENCE", "Confidence", None, optional=True, createByDefault=False
            ),
            "--confidence",
            "The share of the class that wins, from 0 to 1. It ranks pixels and is not calibrated.",
        )
        self.add(
            QgsProcessingParameterRasterDestination("ENTROPY", "Entropy", None, optional=True, createByDefault=False),
            "--entropy",
            "How undecided the classes are, from 0 to 1.",
        )
        self.add(
            QgsProcessingParameterRasterDestination(
                "PROBABILITIES", "Shares of all classes", None, optional=True, createByDefault=False
            ),
            "--probabilities",
            "A band for each class.",
        )


class Polygonize(_WithPolygons):
    """``geohp polygonize``."""

    COMMAND = "polygonize"
    TITLE = "Polygonize (land-cover polygons)"
    TAGS = ("vectorize", "simplify", "smooth", "zonal statistics")
    SUMMARY = (
        "Turns a label map into polygons with class, area and perimeter. Small ones join a neighbour; simplified and "
        "smoothed, neighbours still share their border."
    )

    def declare(self) -> None:
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Label map"), meaning="As Segment writes it.")
        self.add(
            QgsProcessingParameterFile("LEGEND", "Legend", _FILE, optional=True, fileFilter=_LEGENDS),
            "--legend",
            "Names for the labels; labels of one name become one class.",
        )
        self.declare_area()
        self.declare_polygon_options()
        self.add(
            QgsProcessingParameterRasterLayer("CONFIDENCE", "Confidence", optional=True),
            "--confidence",
            "A raster of Segment: adds its mean and minimum to each polygon.",
        )
        self.add(
            QgsProcessingParameterRasterLayer("STATS_RASTER", "Raster to measure", optional=True),
            meaning="Any raster, such as a surface model: statistics of its values become attributes of the polygons.",
        )
        self.add(
            QgsProcessingParameterString("STATS", "Statistics of it", "mean", optional=True),
            meaning="count, sum, mean, std, min, max, median, and p0 to p100, separated by commas.",
        )
        self.add(
            QgsProcessingParameterBoolean("ANY_VALUES", "Also what does not look like labels", False),
            "--any-values",
            "Quantities, and rasters of hundreds of values.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterVectorDestination("OUTPUT", "Land-cover polygons", QgsProcessing.TypeVectorPolygon),
            "--out",
        )

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        options = super().options(parameters, context, feedback)
        raster = self.value("STATS_RASTER", parameters, context)
        if raster is not None:
            options.append(("--stats", f"{raster}:{self.value('STATS', parameters, context) or 'mean'}"))
        return [*options, ("--qml", True), ("--overwrite", True)]


def _declare_reference(algorithm: GeohpAlgorithm) -> None:
    """What is known of some places, and which attribute says it."""
    algorithm.add(
        QgsProcessingParameterMapLayer(
            "REFERENCE",
            "Reference",
            types=[QgsProcessing.TypeRaster, QgsProcessing.TypeVectorPolygon, QgsProcessing.TypeVectorPoint],
        ),
        "--reference",
        "What is known of some places: polygons, points, or a raster of classes. Filters of the layer count, "
        "selections do not.",
        layer_flag="--layer",
    )
    algorithm.add(
        QgsProcessingParameterField("FIELD", "Attribute that holds the class", None, "REFERENCE", optional=True),
        "--field",
        "May be left out where only one can be meant.",
    )


class Legend(GeohpAlgorithm):
    """``geohp legend``."""

    COMMAND = "legend"
    TITLE = "Legend (names for classes)"
    TAGS = ("naming", "reference", "accuracy")
    SUMMARY = (
        "Names the classes of a label map after what is known of some places: polygons, points, or a coarse raster of "
        "classes. The legend that it writes is what Recode, Polygonize and Segment take."
    )

    def declare(self) -> None:
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Label map"), meaning="As Segment writes it.")
        _declare_reference(self)
        self.add(
            QgsProcessingParameterEnum(
                "MATCHING", "Matching", ["majority", "hungarian"], False, "majority", False, True
            ),
            "--matching",
            "majority: each label goes to the class it overlaps most. hungarian: one label a class.",
        )
        self.add(
            QgsProcessingParameterFileDestination("OUTPUT", "Legend", "Legends (*.yaml)"),
            "--out",
            "A text file, which may be edited by hand.",
        )

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        return [*super().options(parameters, context, feedback), ("--overwrite", True)]


class Recode(GeohpAlgorithm):
    """``geohp recode``."""

    COMMAND = "recode"
    TITLE = "Recode (a map with named classes)"
    TAGS = ("reclassify", "naming")
    SUMMARY = "Gives a label map the classes of a legend; labels of one name become one class."

    def declare(self) -> None:
        self.add(QgsProcessingParameterRasterLayer("INPUT", "Label map"), meaning="As Segment writes it.")
        self.add(
            QgsProcessingParameterFile("LEGEND", "Legend", _FILE, fileFilter=_LEGENDS),
            "--legend",
            "As Legend writes it, or written by hand.",
        )
        self.add(QgsProcessingParameterRasterDestination("OUTPUT", "Named map"), "--out")

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        return [*super().options(parameters, context, feedback), ("--qml", True), ("--overwrite", True)]


class Change(_Mapping):
    """``geohp change``."""

    COMMAND = "change"
    TITLE = "Change (two dates of a place)"
    TAGS = ("difference", "transition", "matrix", "time series")
    POLYGON_LAYER = "change"
    SUMMARY = (
        "Compares two dates of a place: what has become what, where, and how much. Two scenes are mapped by one model "
        "with one scaling; two label maps of one model are compared as they are.\n\nMost of what differs between two "
        "maps is no change on the ground: ask for some confidence and a smallest region."
    )

    def declare(self) -> None:
        self.add(QgsProcessingParameterRasterLayer("OLD", "First date"), meaning="A scene, or its label map.")
        self.add(QgsProcessingParameterRasterLayer("NEW", "Second date"), meaning="A scene, or its label map.")
        self.add(
            QgsProcessingParameterBoolean("LABELS", "Both are label maps", False),
            "--labels",
            "Also where they do not say so; maps of geohp do.",
            advanced=True,
        )
        self.declare_classes(None)
        self.add(
            QgsProcessingParameterNumber("MIN_CONFIDENCE", "Smallest confidence", _DOUBLE, 0, minValue=0, maxValue=1),
            "--min-confidence",
            "Both dates must be so sure of their class, from 0 to 1; of scenes.",
        )
        self.declare_area()
        self.declare_polygon_options()
        self.declare_computing()
        self.advanced(
            QgsProcessingParameterBoolean("PER_DATE_SCALING", "Scale each date by itself", False),
            "--per-date-scaling",
            "Percentiles are measured on both dates together otherwise.",
        )
        self.add(
            QgsProcessingParameterRasterDestination("OUTPUT", "Transitions"),
            "--out",
            "100 times the old class and the new one: 203 was class 2 and is class 3.",
        )
        self.add(
            QgsProcessingParameterVectorDestination(
                "POLYGONS", "Polygons of change", QgsProcessing.TypeVectorPolygon, None, optional=True
            ),
            "--polygons",
        )
        self.add(
            QgsProcessingParameterFileDestination("MATRIX", "Matrix of areas", "Tables (*.csv)", None, True, False),
            "--matrix",
            "Hectares by class then (rows) and now (columns).",
        )
        self.add(
            QgsProcessingParameterFileDestination("PICTURE", "Picture", "Pictures (*.png)", None, True, False),
            "--picture",
            "Both dates and the change between them.",
        )

    def positional(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[Value]:
        return [self.value(name, parameters, context) for name in ("OLD", "NEW")]


class Train(_OfAnArea):
    """``geohp train``."""

    COMMAND = "train"
    TITLE = "Train (a model for your imagery)"
    TAGS = ("orthophoto", "deep learning", "self-supervised", "k-means", "contrastive")
    SUMMARY = (
        "Trains a model on orthophotos, without labels: its classes are then the same on every scene that Segment maps "
        "with it. Choose raster layers, or a folder of images.\n\nAs it is set, k-means finds the classes; with the "
        "configuration orthophotos-hp.yaml HP (Hidden Positives) is trained. Cancelled, that saves the step at hand; "
        "give its run folder as the run to go on with."
    )

    def declare(self) -> None:
        self.add(
            QgsProcessingParameterMultipleLayers("LAYERS", "Images", QgsProcessing.TypeRaster, optional=True),
            meaning="Orthophotos, as files.",
        )
        self.add(
            QgsProcessingParameterFile("IMAGES", "Folder of images", _FOLDER, optional=True),
            meaning="Instead, or also: all images in this folder and the folders in it.",
        )
        self.add(
            QgsProcessingParameterNumber("CLASSES", "Number of classes", _INTEGER, _CLASSES, minValue=2, maxValue=254),
        )
        self.declare_area()
        self._declare_advanced()
        self.add(
            QgsProcessingParameterFile("RESUME", "Run to go on with", _FOLDER, optional=True),
            "--resume",
            "Instead of all that: the folder of a run of HP that was interrupted.",
        )
        self.add(
            QgsProcessingParameterFolderDestination("OUTPUT", "Run folder"),
            meaning="Must not exist yet. It gets model.safetensors, report.html, pictures, and of HP metrics.",
        )
        self.addOutput(QgsProcessingOutputFile("MODEL", "Model"))
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report of the training"))

    def _declare_advanced(self) -> None:
        self.add(
            QgsProcessingParameterString("CONFIG", "Configuration", "orthophotos.yaml"),
            meaning="The name of a configuration that geohp brings (orthophotos-hp.yaml for HP), or a YAML file.",
            advanced=True,
        )
        self.add(
            QgsProcessingParameterString("SETTINGS", "Further settings", None, multiLine=True, optional=True),
            meaning="One a line, such as classes.extra_clusters=6 or backbone.name=vit_small_patch14_dinov2. The "
            "command geohp config lists them all.",
            advanced=True,
        )

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        names = ("LAYERS", "IMAGES", "RESUME")
        if not any(self.parameterAsString(parameters, name, context) or parameters.get(name) for name in names):
            return False, "There is nothing to train on: choose images, a folder of images, or a run to go on with"
        return super().checkParameterValues(parameters, context)

    def positional(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[Value]:
        if self.value("RESUME", parameters, context) is not None:
            return []
        return [self.value("CONFIG", parameters, context)]

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        options = super().options(parameters, context, feedback)
        if dict(options)["--resume"] is not None:
            return options
        images = self.raster_sources("LAYERS", parameters, context)
        folder = self.value("IMAGES", parameters, context)
        images += [str(folder)] if folder is not None else []
        settings = [f"data.images={json.dumps(images)}"]  # JSON is YAML, and quotes what a path may hold
        settings.append(f"classes.count={self.value('CLASSES', parameters, context)}")
        settings += str(self.value("SETTINGS", parameters, context) or "").split("\n")
        options += [("--set", setting.strip()) for setting in settings if setting.strip()]
        return [*options, ("--out", self.parameterAsFileOutput(parameters, "OUTPUT", context))]

    def results(
        self,
        parameters: dict[str, Any],
        options: dict[str, Value],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        run = Path(str(options.get("--resume") or options["--out"]))
        return {"OUTPUT": str(run), "MODEL": str(run / "model.safetensors"), "REPORT": str(run / "report.html")}

    def goes_on(self) -> str:
        return "Where it says that its run folder was kept, choose that as “Run to go on with”; else run it again."


class Probe(_Computing):
    """``geohp probe``."""

    COMMAND = "probe"
    TITLE = "Probe (a model that knows your classes)"
    TAGS = ("supervised", "training samples", "reference", "accuracy")
    SUMMARY = (
        "Teaches a model the classes of a few polygons or points, and says in the log how right it will be on places "
        "that it has not seen. The model that it writes is one for Segment.\n\nChoose a model of Train, or name a "
        "backbone whose raw features are taught: nothing has to be trained then."
    )

    def declare(self) -> None:
        self.add(
            QgsProcessingParameterFile("MODEL", "Model", _FILE, optional=True, fileFilter=_MODELS),
            meaning="The model.safetensors of a run of Train; or leave it out and name a backbone.",
        )
        self.add(
            QgsProcessingParameterString("BACKBONE", "Backbone (without a model)", None, optional=True),
            "--backbone",
            "aerial3 (wants geohp[aerial] in geohp's environment), rcf, a vision transformer of timm, or NAME+aerial3 "
            "for both.",
        )
        self.add(
            QgsProcessingParameterMultipleLayers("LAYERS", "Images", QgsProcessing.TypeRaster, optional=True),
            meaning="Orthophotos that the reference lies on. Without any: those that the model was trained on.",
        )
        _declare_reference(self)
        self.declare_weights()
        self.declare_reading("the model's own")
        self.advanced(
            QgsProcessingParameterBoolean("TTA", "Average over flips and rotations", False),
            "--tta",
            "Better, and eight times the work; so do maps by it.",
        )
        self.declare_device()
        self.add(QgsProcessingParameterFileDestination("OUTPUT", "Taught model", "Models (*.safetensors)"), "--out")

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        if not any(self.parameterAsString(parameters, name, context) for name in ("MODEL", "BACKBONE")):
            return False, "There is nothing to teach: choose a model, or name a backbone such as aerial3"
        return super().checkParameterValues(parameters, context)

    def positional(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[Value]:
        return [self.value("MODEL", parameters, context), *self.raster_sources("LAYERS", parameters, context)]

    def options(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> Options:
        options = super().options(parameters, context, feedback)
        if self.value("MODEL", parameters, context) is not None:  # which has a backbone
            options = [(flag, value) for flag, value in options if flag != "--backbone"]
        return [*options, ("--overwrite", True)]


ALGORITHMS = (Segment, Polygonize, Legend, Recode, Probe, Change, Train)
