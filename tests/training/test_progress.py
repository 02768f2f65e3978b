"""What is shown of a training, where, and how often."""

import io
import re
import sys
import types

import pytest
from models_to_train import CONFIG, Denoiser, examples, seeded

from gentext.training import progress
from gentext.training.config import TrainConfig
from gentext.training.progress import Progress, duration
from gentext.training.train import fit


class Stream(io.StringIO):
    """Standard error that is a terminal, or not."""

    def __init__(self, terminal):
        super().__init__()
        self.isatty = lambda: terminal


@pytest.fixture
def watched(monkeypatch):
    """A training of a clock that is told the time: what it showed on which standard error."""
    monkeypatch.delenv(progress.STATIC, raising=False)
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: clock.now)

    def watch(seconds, looks, *, shown=None, terminal=False):
        clock.now = 0.0
        monkeypatch.setattr(sys, "stderr", stream := Stream(terminal))
        bar = Progress(1000, 0, shown=shown)
        for look in range(1, looks + 1):
            clock.now = seconds * look / looks
            bar.update(1000 * look // looks, 0.5, 128.0)
        bar.close()
        return stream.getvalue()

    return watch


def test_a_log_gets_a_line_now_and_then(watched):
    lines = watched(3600, 3600, shown=True).splitlines()
    assert len(lines) == 100  # a line each hundredth: every 36 seconds
    assert lines[49] == "step 500/1000: loss 0.5, 128 items/s, 30 min left"
    assert len(watched(60, 300, shown=True).splitlines()) == 6
    assert len(watched(36000, 3600, shown=True).splitlines()) == 600
    assert watched(2, 4, shown=True) == "step 1000/1000: loss 0.5, 128 items/s, 0 s left\n"


def test_a_bar_appears_where_somebody_waits(watched):
    shown = watched(60, 300, terminal=True)
    assert "1000/1000 steps, loss 0.5, 128 items/s, 0 s left" in shown
    assert "100%" in shown
    assert watched(60, 300) == ""  # a log that nobody asked for
    assert watched(3, 15, terminal=True) == ""  # soon over
    assert "1000/1000" in watched(3, 15, terminal=True, shown=True)
    assert watched(60, 300, terminal=True, shown=False) == ""


@pytest.mark.parametrize("shown", [None, True])
def test_nothing_is_shown_in_what_is_published(watched, monkeypatch, shown):
    monkeypatch.setenv(progress.STATIC, "1")
    assert watched(60, 300, terminal=True, shown=shown) == ""


def test_in_a_notebook_the_bar_goes_at_the_end(watched, monkeypatch):
    kernel = types.SimpleNamespace(get_ipython=lambda: types.SimpleNamespace(kernel=1, config={}))
    monkeypatch.setitem(sys.modules, "IPython", kernel)
    monkeypatch.setattr("tqdm.auto.tqdm", __import__("tqdm").tqdm)
    shown = watched(60, 300)
    assert "500/1000 steps" in shown
    assert re.search(r"\r +\r$", shown)  # written over by spaces


def test_times_are_rounded_up():
    times = {0.0: "0 s", 0.2: "1 s", 90.0: "90 s", 91.0: "2 min", 5400.0: "90 min", 5401.0: "2 h"}
    assert {seconds: duration(seconds) for seconds in times} == times


def test_training_shows_loss_and_rate_if_asked_to(capsys, monkeypatch):
    monkeypatch.delenv(progress.STATIC, raising=False)
    fit(seeded(Denoiser), (examples(),), TrainConfig(steps=5), progress=True)
    shown = capsys.readouterr().err
    assert re.fullmatch(r"step 5/5: loss 0\.\d+, \S+ items/s, 0 s left\n", shown)
    for how in (False, None):
        fit(seeded(Denoiser), (examples(),), CONFIG, progress=how)
        assert capsys.readouterr().err == ""
