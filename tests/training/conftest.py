"""What the tests of training take for granted."""

import signal

import pytest


@pytest.fixture(autouse=True)
def _pythons_own_answer():
    """To Ctrl-C, which a shell makes programs ignore that it puts into the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
