"""From label maps to polygons: regions, cleaning, outlines, simplification, measures, GeoPackages."""
