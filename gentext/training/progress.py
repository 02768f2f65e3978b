"""How far a training is: a bar for those who watch it, a line now and then in a log.

In a notebook the bar goes when training ends, and where ``GENTEXT_STATIC`` is set there is none: so
the outputs that a notebook is saved with do not depend on it.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from typing import Any

STATIC = "GENTEXT_STATIC"  # set while notebooks are executed to be published
PATIENCE = 5.0  # seconds of a training that nobody needs to watch
WARMED = 0.5  # seconds after which the rest can be foretold
PAUSES = (10.0, 60.0)  # seconds between two lines of a log: a hundredth of it all, within these


class Progress:
    """Shows how far a training of ``steps`` is that begins after the ``first``.

    Arguments:
        shown: True for always; None only where somebody watches, in a terminal or a live notebook,
            and the training takes more than some seconds.
    """

    def __init__(self, steps: int, first: int, *, shown: bool | None = None) -> None:
        self.steps, self.first = steps, first
        self.begun = self.said = time.perf_counter()
        self.live, self.terminal = in_notebook(), _is_terminal()
        self.hidden = shown is False or bool(os.environ.get(STATIC))
        self.hidden |= shown is None and not (self.live or self.terminal)
        self.opened = False
        self.bar: Any = None  # none in a log
        if shown and not self.hidden:
            self._open()

    def update(self, step: int, loss: float, rate: float) -> None:
        """Say that ``step`` was made, with the ``loss`` and the ``rate`` in examples a second."""
        if self.hidden:
            return
        elapsed = time.perf_counter() - self.begun
        left = elapsed * (self.steps - step) / max(1, step - self.first)
        if not self.opened and elapsed > WARMED and elapsed + left > PATIENCE:
            self._open()
        said = f"loss {loss:.4g}, {rate:.3g} items/s, {duration(left)} left"
        if self.bar is not None:
            self.bar.set_postfix_str(said, False)
            self.bar.update(step - self.bar.n)
        elif self.opened and self._due(elapsed + left, step):
            print(f"step {step}/{self.steps}: {said}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state in a terminal, and nothing in a notebook."""
        if self.bar is not None:
            self.bar.close()

    def _open(self) -> None:
        self.opened = True
        if not (self.live or self.terminal):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of notebooks without widgets, where text is drawn
            from tqdm import tqdm as text
            from tqdm.auto import tqdm

            kind = tqdm if self.live else text
            layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} steps{postfix}"
            self.bar = kind(
                total=self.steps,
                initial=self.first,
                leave=not self.live,
                mininterval=0,  # it is told only now and then
                miniters=1,
                bar_format=layout,
            )

    def _due(self, expected: float, step: int) -> bool:
        now = time.perf_counter()
        pause = min(PAUSES[1], max(PAUSES[0], expected / 100))
        if now - self.said < pause and step < self.steps:
            return False
        self.said = now
        return True


def duration(seconds: float) -> str:
    """A time in words, rounded up: 40 s, 3 min, 5 h."""
    length, unit = (1, "s") if seconds <= 90 else (60, "min") if seconds <= 5400 else (3600, "h")
    return f"{math.ceil(seconds / length)} {unit}"


def in_notebook() -> bool:
    """Whether a kernel of Jupyter or Colab runs this program."""
    ipython = sys.modules.get("IPython")
    return getattr(ipython and ipython.get_ipython(), "kernel", None) is not None


def _is_terminal() -> bool:
    stream = sys.stderr
    return stream is not None and not stream.closed and stream.isatty()
