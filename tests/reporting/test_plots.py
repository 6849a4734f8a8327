"""Curves: which is which can be read off them."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from geohp.reporting.plots import draw_losses


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """What is drawn, before it is made an image of."""
    drawn: list[Figure] = []
    monkeypatch.setattr("geohp.reporting.plots.as_png", lambda figure: drawn.append(figure) or b"")
    return drawn


def test_losses_stand_side_by_side_under_their_names(figures: list[Figure]) -> None:
    steps = np.arange(20.0)
    draw_losses({"contrastive": (steps, steps), "consistency": (steps, -steps)})
    left, right = figures[0].axes
    assert [(axes.get_title(), axes.get_xlabel()) for axes in (left, right)] == [
        ("contrastive", "step"),
        ("consistency", "step"),
    ]
    rises = [np.diff(np.asarray(line.get_ydata())).mean() for axes in (left, right) for line in axes.lines]
    assert rises[0] > 0 > rises[-1]
    assert left.get_position().x1 < right.get_position().x0
