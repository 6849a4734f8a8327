"""A drawn town: orthophotos with known truth, for tests, tutorials and machines without data.

Depends on numpy, scipy and Pillow only; writing GeoTIFFs needs rasterio.
"""

from geohp.data.synthetic.geotiff import write_orthophoto
from geohp.data.synthetic.legend import (
    FIVE_CLASSES,
    SIX_CLASSES,
    SIX_TO_FIVE,
    SIX_TO_THREE,
    THREE_CLASSES,
    merge_classes,
)
from geohp.data.synthetic.scene import SyntheticScene, draw_orthophoto

__all__ = [
    "FIVE_CLASSES",
    "SIX_CLASSES",
    "SIX_TO_FIVE",
    "SIX_TO_THREE",
    "THREE_CLASSES",
    "SyntheticScene",
    "draw_orthophoto",
    "merge_classes",
    "write_orthophoto",
]
