"""From label maps to polygons: regions, cleaning, outlines, simplification, measures, GeoPackages."""

from geohp.vector.geopackage import check_target, write_polygons
from geohp.vector.labels import read_classes
from geohp.vector.measures import areas_m2, perimeters_m
from geohp.vector.polygonize import polygonize
from geohp.vector.style import categorised_qml

__all__ = [
    "areas_m2",
    "categorised_qml",
    "check_target",
    "perimeters_m",
    "polygonize",
    "read_classes",
    "write_polygons",
]
