"""What a sweep over the number of classes has found: as a table, as a file, and as a picture."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from geohp.model.runs import SWEEP_NAME, SWEEP_PICTURE
from geohp.reporting.pages import as_text
from geohp.reporting.summaries import preformatted


@dataclass(frozen=True)
class Candidate:
    """What one number of classes is judged by.

    Attributes:
        classes: the number K.
        stability: adjusted Rand index of clusterings of different images, 1 for the same and 0 for chance; a mean.
        stability_deviation: standard deviation over the repetitions.
        found_again: how many of the K classes another clustering has as well; a mean.
        found_again_deviation: likewise.
        silhouette: how much nearer patches are to their own centroid than to the next, 0 to 1.
        cosine: mean cosine of patches with their centroid.
        smallest: share of the patches in the smallest class.
    """

    classes: int
    stability: float
    stability_deviation: float
    found_again: float
    found_again_deviation: float
    silhouette: float
    cosine: float
    smallest: float

    @property
    def sound(self) -> bool:
        """At least half of its classes are found again."""
        return self.found_again >= 0.5 * self.classes


@dataclass(frozen=True)
class SweepResult:
    """A sweep over the number of classes.

    Attributes:
        candidates: in ascending order.
        recommended: the number that is recommended.
        patches: looked at.
        images: they are of.
        repetitions: pairs of clusterings compared for each number.
    """

    candidates: tuple[Candidate, ...]
    recommended: int
    patches: int
    images: int
    repetitions: int

    def _repr_html_(self) -> str:
        return preformatted(self.report())

    def report(self, width: int = 100) -> str:
        """A table and what follows from it, for a terminal of so many columns."""
        table = Table(
            title=f"Numbers of classes, judged on {self.patches:,} patches of {self.images:,} images",
            title_justify="left",
        )
        for heading in ("classes", "found again", "stability", "silhouette", "cosine", "smallest class"):
            table.add_column(heading, justify="right")
        for candidate in self.candidates:
            table.add_row(
                f"{'> ' if candidate.classes == self.recommended else ''}{candidate.classes}",
                f"{candidate.found_again:.1f} ± {candidate.found_again_deviation:.1f}",
                f"{candidate.stability:.2f} ± {candidate.stability_deviation:.2f}",
                f"{candidate.silhouette:.2f}",
                f"{candidate.cosine:.3f}",
                f"{100 * candidate.smallest:.1f} %",
            )
        return as_text([table, *self.advice()], width)

    def advice(self) -> list[str]:
        """What follows from the sweep, and what to doubt about it, in sentences."""
        chosen = next(candidate for candidate in self.candidates if candidate.classes == self.recommended)
        sentences = [
            f"{self.recommended} classes are recommended: {chosen.found_again:.1f} of them are found again in other "
            "images."
        ]
        if len(self.candidates) > 1 and self.recommended == self.candidates[-1].classes:
            sentences.append("That is the end of the sweep: more classes may be found again yet; sweep further.")
        if not chosen.sound:
            sentences.append(
                "Less than half of its classes are found again: this imagery has no clear classes under these "
                "features; try another backbone or block, or more imagery."
            )
        return sentences

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``sweep.csv``, a row for each number, and ``sweep.png``, its curves, into a folder."""
        table = folder / SWEEP_NAME
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*asdict(self.candidates[0]), "recommended"])
            writer.writeheader()
            for candidate in self.candidates:
                values = {name: round(value, 6) for name, value in asdict(candidate).items()}
                writer.writerow({**values, "recommended": int(candidate.classes == self.recommended)})
        picture = folder / SWEEP_PICTURE
        picture.write_bytes(self.draw())
        return table, picture

    def draw(self) -> bytes:
        """The four curves as a PNG; bars are standard deviations over the repetitions."""
        from geohp.reporting.plots import draw_counts

        def column(name: str) -> list[float]:
            return [getattr(candidate, name) for candidate in self.candidates]

        curves = {
            "classes found again in other images": (column("found_again"), column("found_again_deviation")),
            "stability: adjusted Rand index": (column("stability"), column("stability_deviation")),
            "silhouette (simplified)": (column("silhouette"), None),
            "mean cosine with the centroid": (column("cosine"), None),
        }
        return draw_counts([candidate.classes for candidate in self.candidates], curves, self.recommended)
