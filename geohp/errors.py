"""What a user meets when something is wrong: one sentence that says what, where and how to mend it.

Every error that a user's input can cause derives from :class:`GeohpError`; the command line prints its
message and leaves with exit code 2. The children also inherit the built-in a Python caller would expect.
"""

from __future__ import annotations


class GeohpError(Exception):
    """A mistake or a bad file outside geohp; its message is complete and names the remedy."""


class ConfigError(GeohpError, ValueError):
    """A configuration that cannot be used: an unknown key, a wrong type, an impossible value."""


class SceneError(GeohpError, OSError):
    """A raster that cannot be opened, read, or used as asked."""


class OutputError(GeohpError, OSError):
    """An output that cannot be written where it was asked for."""


class DataError(GeohpError, ValueError):
    """Training or reference data that is missing, empty or inconsistent."""


class ModelError(GeohpError, ValueError):
    """A model file or run folder that cannot be used, or does not fit the scene."""


class WeightsError(ModelError):
    """Backbone weights that cannot be found, downloaded or matched to the architecture."""


class TrainingError(GeohpError, ArithmeticError):
    """A training that cannot go on: its numbers are no longer finite."""


class VectorError(GeohpError, ValueError):
    """Labels that cannot be turned into polygons as asked."""


class ClusterError(GeohpError, RuntimeError):
    """Workers that cannot be reached, or cannot do the work together."""
