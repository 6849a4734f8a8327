"""How work reports how far it is: one protocol from the engine and the loss to the terminal."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with a stage of the work, how much of it is done, how much there is, and what is being worked on.

    Whoever does the work names the stage; whoever listens decides what to show.
    """

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Take note."""


def no_progress(stage: str, done: int, total: int, detail: str = "") -> None:
    """Nobody listens."""
