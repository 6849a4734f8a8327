"""From a handful of labelled polygons or points to a model that knows their classes."""
