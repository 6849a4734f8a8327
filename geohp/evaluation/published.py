"""The figures others have published, to be read beside one's own."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ROWS = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table, in percent; ``None`` where nothing was published.

    Attributes:
        benchmark: "potsdam-3", "cocostuff-27" or "cityscapes-27".
        method, backbone: what it is of.
        cluster_accuracy, cluster_miou: unsupervised, clusters matched to classes.
        linear_accuracy, linear_miou: of a linear probe.
        protocol: ``"hp"`` (dense CRF; the checkpoint was chosen by the test labels) or ``"theirs"`` (as its authors
            evaluate, not checked against ours).
    """

    benchmark: str
    method: str
    backbone: str
    cluster_accuracy: float | None
    cluster_miou: float | None
    linear_accuracy: float | None
    linear_miou: float | None
    protocol: str

    @property
    def title(self) -> str:
        """Method and backbone."""
        return f"{self.method}, {self.backbone}" if self.backbone else self.method

    @property
    def figures(self) -> tuple[str, ...]:
        """Accuracy and mean IoU by clusters, then by a linear probe, as texts; empty where nothing was published."""
        values = (self.cluster_accuracy, self.cluster_miou, self.linear_accuracy, self.linear_miou)
        return tuple("" if value is None else f"{value:.1f}" for value in values)

    @property
    def remark(self) -> str:
        """The protocol in words, beside our figures."""
        if self.protocol == "hp":
            return "published: CRF, checkpoint chosen by the test labels, as in our row 'best on labels + CRF'"
        return "published: by the protocol of its authors, not checked against ours"

    def as_dict(self) -> dict[str, object]:
        """In plain values, for JSON."""
        return {
            "method": self.method,
            "backbone": self.backbone,
            "cluster": {"accuracy": self.cluster_accuracy, "miou": self.cluster_miou},
            "linear": {"accuracy": self.linear_accuracy, "miou": self.linear_miou},
            "remark": self.remark,
        }


@cache
def published_rows(benchmark: str) -> tuple[PublishedRow, ...]:
    """All rows of a benchmark, in the order of the table they come from."""
    with _ROWS.open(encoding="utf-8", newline="") as file:
        return tuple(_row(entry) for entry in csv.reader(file) if entry[0] == benchmark)


def _row(entry: list[str]) -> PublishedRow:
    numbers = [float(text) if text else None for text in entry[3:7]]
    return PublishedRow(entry[0], entry[1], entry[2], numbers[0], numbers[1], numbers[2], numbers[3], entry[7])
