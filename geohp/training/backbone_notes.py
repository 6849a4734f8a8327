"""What somebody who trains should know of the features they chose."""

from __future__ import annotations

from geohp.backbones.aerial_weights import is_packaged
from geohp.backbones.names import AUTO
from geohp.backbones.recommended import SUGGESTED, recommendation

_FAR = 2.0
"""So many times finer or coarser pixels than the weights were trained on are worth a line."""


def backbone_notes(name: str, pixel_size_m: float | None, method: str = "") -> list[str]:
    """What other features, another method on them, or other pixels may gain, and what to say for them.

    Args:
        name: of the backbone.
        pixel_size_m: of the images as it sees them, where it is known.
        method: that is trained on it.

    Returns:
        At most one line for features and one for pixels.
    """
    notes = []
    if name == "rcf":
        aerial = "--set backbone.name=aerial" if is_packaged() else 'pip install "geohp[aerial]"'
        settings = f"--set backbone.name={SUGGESTED.name} --set backbone.block={SUGGESTED.block}"
        trained = "; training HP on rcf, too (orthophotos-hp.yaml)" if method == "kmeans" else ""
        notes.append(
            f"rcf sees colours and textures; aerial ({aerial}) and a vision transformer may gain some points of mean "
            f"IoU (docs/backbones.md), {settings} fetches one{trained}"
        )
    choice = recommendation(name)
    trained_m = choice.pixel_size_m if choice else None
    if trained_m and pixel_size_m and not 1 / _FAR <= pixel_size_m / trained_m <= _FAR:
        whose = f"aerial (backbone.name={AUTO}, where it is installed)" if name == "aerial" else name
        notes.append(
            f"{whose} was trained on pixels of {trained_m:g} m and sees some of {pixel_size_m:.3g} m: --set "
            f"data.pixel_size_m={trained_m:g} resamples the images, --set backbone.name=rcf takes them of any size"
        )
    return notes
