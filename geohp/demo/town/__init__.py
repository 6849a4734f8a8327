"""A drawn town: orthophotos with known truth, for tests, tutorials and machines without data.

Depends on numpy, scipy and Pillow only; writing GeoTIFFs needs rasterio.
"""
