"""What a sweep over the number of classes has found: as a table, as a file, and as a picture."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.table import Table

CSV_NAME, PICTURE_NAME = "sweep.csv", "sweep.png"


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

    def report(self, width: int = 100) -> str:
        """A table and what follows from it, for a terminal of so many columns."""
        file = StringIO()
        console = Console(file=file, width=width, color_system=None, legacy_windows=False)
        table = Table(
            title=f"Numbers of classes, judged on {self.patches:,} patches of {self.images:,} images",
            title_justify="left",
        )
        for heading in ("classes", "found again", "stability", "silhouette", "cosine", "smallest class"):
            table.add_column(heading, justify="right")
        for each in self.candidates:
            table.add_row(
                f"{'> ' if each.classes == self.recommended else ''}{each.classes}",
                f"{each.found_again:.1f} ± {each.found_again_deviation:.1f}",
                f"{each.stability:.2f} ± {each.stability_deviation:.2f}",
                f"{each.silhouette:.2f}",
                f"{each.cosine:.3f}",
                f"{100 * each.smallest:.1f} %",
            )
        console.print(table)
        for sentence in self.advice():
            console.print(sentence)
        return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"

    def advice(self) -> list[str]:
        """What follows from the sweep, and what to doubt about it, in sentences."""
        chosen = next(each for each in self.candidates if each.classes == self.recommended)
        said = [
            f"{self.recommended} classes are recommended: {chosen.found_again:.1f} of them are found again in other "
            "images."
        ]
        if len(self.candidates) > 1 and self.recommended == self.candidates[-1].classes:
            said.append("That is the end of the sweep: more classes may be found again yet; sweep further.")
        if not chosen.sound:
            said.append(
                "Less than half of its classes are found again: this imagery has no clear classes under these "
                "features; try another backbone or block, or more imagery."
            )
        return said

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write ``sweep.csv``, a row for each number, and ``sweep.png``, its curves, into a folder."""
        table = folder / CSV_NAME
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*asdict(self.candidates[0]), "recommended"])
            writer.writeheader()
            for each in self.candidates:
                values = {name: round(value, 6) for name, value in asdict(each).items()}
                writer.writerow({**values, "recommended": int(each.classes == self.recommended)})
        picture = folder / PICTURE_NAME
        self.draw(picture)
        return table, picture

    def draw(self, out: Path) -> None:
        """Draw the four curves; bars are standard deviations over the repetitions."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        figure = Figure(figsize=(10, 6.4), layout="constrained")
        FigureCanvasAgg(figure)
        counts = [each.classes for each in self.candidates]
        again, stability, silhouette, cosine = figure.subplots(2, 2, sharex=True).flat
        again.plot(counts, counts, color="#999999", linewidth=0.9, linestyle=":", label="all of them")
        curves: Sequence[tuple[object, str, list[float], list[float] | None]] = (
            (
                again, "classes found again in other images",
                [each.found_again for each in self.candidates],
                [each.found_again_deviation for each in self.candidates],
            ),
            (
                stability, "stability: adjusted Rand index",
                [each.stability for each in self.candidates],
                [each.stability_deviation for each in self.candidates],
            ),
            (silhouette, "silhouette (simplified)", [each.silhouette for each in self.candidates], None),
            (cosine, "mean cosine with the centroid", [each.cosine for each in self.candidates], None),
        )  # fmt: skip
        for axes, title, values, deviations in curves:
            axes.errorbar(  # type: ignore[attr-defined]
                counts, values, yerr=deviations, color="#332288", marker="o", markersize=4, linewidth=1.5,
                ecolor="#77aadd", capsize=3,
            )  # fmt: skip
            axes.axvline(self.recommended, color="#cc6677", linewidth=1.2, linestyle="--", label="recommended")  # type: ignore[attr-defined]
            axes.set_title(title, fontsize=10)  # type: ignore[attr-defined]
            axes.grid(alpha=0.3)  # type: ignore[attr-defined]
        for axes in (silhouette, cosine):
            axes.set_xlabel("number of classes")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        again.set_ylim(bottom=0)
        stability.set_ylim(top=1.05)
        again.legend(fontsize=8, frameon=False, loc="upper left")
        figure.suptitle(f"{self.recommended} classes are recommended", fontsize=12)
        figure.savefig(out, dpi=110)
