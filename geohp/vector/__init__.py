"""From label maps to polygons: regions, cleaning, outlines, simplification, measures, GeoPackages."""

from geohp.vector.labels import read_classes
from geohp.vector.measures import areas_m2, perimeters_m
from geohp.vector.polygonize import polygonize
from geohp.vector.style import categorised_qml, paletted_qml, write_styles
from geohp.vector.writing import check_target, polygonize_file, write_polygons

__all__ = [
    "areas_m2",
    "categorised_qml",
    "check_target",
    "paletted_qml",
    "perimeters_m",
    "polygonize",
    "polygonize_file",
    "read_classes",
    "write_polygons",
    "write_styles",
]
