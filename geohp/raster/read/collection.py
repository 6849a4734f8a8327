"""Several scenes that are to be seen alike: the same bands, and one scaling for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geohp.errors import SceneError
from geohp.raster.grid import Grid
from geohp.raster.read.bands import BandRequest, band_list
from geohp.raster.read.scaling import Scaling, StoredType, parse_rule, resolve_scaling
from geohp.raster.read.scene import ScalingRequest, Scene, open_scene

_SAMPLE_PX = 4 * 1024 * 1024  # of all scenes together
_LEAST_PX = 1024  # of each

_UNMEASURED = "0,1"  # a rule that opens any scene without reading a pixel


@dataclass(frozen=True)
class SceneInfo:
    """What is known of a scene after a first look.

    Attributes:
        path: what was opened.
        grid: where its pixels lie.
        stored: what each channel stores.
    """

    path: str
    grid: Grid
    stored: tuple[StoredType, ...]

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.grid.width * self.grid.height

    @property
    def kind(self) -> str:
        """The types of its channels, as "uint16,uint16,uint16": values of different types do not share a unit."""
        return ",".join(channel.dtype.name for channel in self.stored)

    @property
    def kind_and_bits(self) -> str:
        """The same, and how many bits matter where a file says that fewer do: so large a range has its type."""
        return ",".join(c.dtype.name if c.bits is None else f"{c.dtype.name}:{c.bits}" for c in self.stored)


class SceneCollection:
    """Scenes opened one at a time, with the same bands and one scaling.

    Where the scaling rule measures pixel values, it measures them on all scenes together, each with a share of the
    sample in proportion to its pixels: the same ground then looks the same in every tile. Scenes that store other
    types, as bytes beside 16-bit values, are measured apart from one another.

    Attributes:
        bands: as asked for.
        rule: of the scaling.
        scenes: those that could be opened, in the order given.
        failed: why others could not be, by path.
        scalings: what the rule gave, by the types of the channels; or by path, where each has its own.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        bands: BandRequest = None,
        scaling: ScalingRequest = "auto",
        known: Mapping[str, Scaling] | None = None,
        apart: bool = False,
    ):
        """Look at every scene once, and measure where the rule asks for it.

        Args:
            paths: files, or anything else that GDAL opens.
            bands, scaling: see :func:`geohp.raster.read.scene.open_scene`.
            known: what the same rule gave before, see :attr:`scalings`; it is not measured again.
            apart: measure each scene by itself.

        Raises:
            ConfigError: a scaling that is not understood, or does not fit the number of channels.
        """
        self.bands = band_list(bands)
        if isinstance(scaling, Scaling):
            self.rule, self._rule_kind = scaling.rule, "fixed"
        else:
            rule = parse_rule(scaling)
            self.rule, self._rule_kind = rule.text, rule.kind
        self.failed: dict[str, SceneError] = {}
        self.scenes = [scene for path in map(str, paths) if (scene := self._look_at(path)) is not None]
        self.scalings: dict[str, Scaling] = {}
        self._apart = apart
        known = {} if known is None else known
        for scene in self.scenes:
            key = self._key(scene)
            if key not in self.scalings:
                fixed = scaling if isinstance(scaling, Scaling) else known.get(key)
                try:
                    self.scalings[key] = self._resolve_scaling(scene, scaling) if fixed is None else fixed
                except SceneError as error:  # the rule does not suit the type
                    self.failed[scene.path] = error
        self.scenes = [scene for scene in self.scenes if scene.path not in self.failed]
        self._keys = {scene.path: self._key(scene) for scene in self.scenes}

    def open(self, path: str | Path) -> Scene:
        """Open one of the scenes; close it, or use it in a ``with`` statement."""
        path = str(path)
        if path in self.failed:
            raise self.failed[path]
        return open_scene(path, bands=self.bands, scaling=self.scalings[self._keys[path]])

    def _key(self, scene: SceneInfo) -> str:
        """The same for scenes that are measured together, or whose types have one range."""
        if self._apart:
            return scene.path
        of_type = self._rule_kind == "type" or (self._rule_kind == "auto" and {*scene.kind.split(",")} == {"uint8"})
        return scene.kind_and_bits if of_type else scene.kind

    def _look_at(self, path: str) -> SceneInfo | None:
        try:
            with self._open_unscaled(path) as scene:
                return SceneInfo(path, scene.grid, scene.stored_types)
        except SceneError as error:
            self.failed[path] = error
            return None

    def _open_unscaled(self, path: str) -> Scene:
        return open_scene(path, bands=self.bands, scaling=_UNMEASURED)

    def _resolve_scaling(self, first: SceneInfo, rule: Any) -> Scaling:
        alike = [scene for scene in self.scenes if self._key(scene) == self._key(first)]
        where = first.path if len(alike) == 1 else f"{first.path} and {len(alike) - 1} more"
        return resolve_scaling(parse_rule(rule), first.stored, lambda: self._sample(alike), where)

    def _sample(self, alike: Sequence[SceneInfo]) -> NDArray[Any]:
        """Valid stored values ``(channels, n)`` of all that can be read; where none can, all have failed."""
        total = sum(scene.pixels for scene in alike)
        samples, damaged = [], {}
        for scene in alike:
            try:
                with self._open_unscaled(scene.path) as opened:
                    samples.append(opened.sample(max(_LEAST_PX, _SAMPLE_PX * scene.pixels // total)))
            except SceneError as error:
                damaged[scene.path] = error
        if not samples:
            self.failed |= damaged
            return np.empty((len(alike[0].stored), 0))
        return np.concatenate(samples, axis=1)
