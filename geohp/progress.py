"""How work reports how far it is: one protocol from the engine and the loss to the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress(Protocol):
    """Called with a stage of the work, how much of it is done, how much there is, and what is being worked on.

    Whoever does the work names the stage; whoever listens decides what to show.
    """

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Take note."""


def no_progress(stage: str, done: int, total: int, detail: str = "") -> None:
    """Nobody listens."""


def default_progress() -> Progress:
    """Where nobody says who listens: bars in a Jupyter notebook, nobody elsewhere."""
    return NotebookBars() if "ipykernel" in sys.modules else no_progress


class NotebookBars:
    """A bar for each stage of work, as notebooks show them: by tqdm, with ipywidgets where these are installed."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm[Any]] = {}

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show that so many steps of a stage are done."""
        from tqdm.auto import tqdm

        bar = self._bars.get(stage)
        if bar is None or done < bar.n or total != bar.total:
            if bar is not None:
                bar.close()
            bar = self._bars[stage] = tqdm(total=total, desc=stage)
        bar.set_postfix_str(detail, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.refresh()
            bar.close()
            del self._bars[stage]

    def __reduce__(self) -> tuple[type[NotebookBars], tuple[()]]:
        return NotebookBars, ()  # in another process bars would be shown to nobody, and cannot be sent there
