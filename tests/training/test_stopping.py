"""Ctrl-C: a first one waits, a second does not, and what others have set stays."""

import os
import signal
import threading

import pytest

from gentext.training.stopping import stopping


def press(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def test_a_first_one_waits_and_a_second_does_not():
    with stopping() as stop:
        assert not stop.asked
        press()
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        press()


def test_it_is_as_before_after_an_error_and_without_waiting():
    with pytest.raises(KeyError), stopping():
        raise KeyError
    with pytest.raises(KeyboardInterrupt), stopping(False):
        press()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_whoever_answers_already_goes_on_to():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(1))
    try:
        with stopping() as stop:
            press()
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [1]
    assert not stop.asked


def test_a_request_to_end_counts_where_it_was_made_a_ctrl_c():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with stopping() as stop:
            press(signal.SIGTERM)
        assert stop.asked
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_wait_for_nothing():
    asked = []

    def work():
        with stopping() as stop:
            asked.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
