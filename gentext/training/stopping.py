"""What ends a training early: an observer, or Ctrl-C, which waits for the end of the step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # of the second only where it was made a Ctrl-C


class Enough(Exception):
    """Raised by an observer of ``fit``: training ends after this step, as after the last one."""


class Stop:
    """Whether somebody asked to stop."""

    asked = False


@contextmanager
def stopping(wait: bool = True) -> Iterator[Stop]:
    """Note Ctrl-C instead of breaking off at once; a second one does that.

    Signals reach the main thread only, and only Python's own answer to Ctrl-C is replaced: whoever
    set another one keeps it. Without ``wait`` nothing is.
    """
    stop, own = Stop(), signal.default_int_handler

    def note(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            own(number, frame)
        stop.asked = True

    main = threading.current_thread() is threading.main_thread()
    mine = [s for s in SIGNALS if wait and main and signal.getsignal(s) is own]
    for number in mine:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number in mine:
            signal.signal(number, own)
