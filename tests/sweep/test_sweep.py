"""Everything that is public works or refuses in words, whatever it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sweep.subjects import subjects
from tests.sweep.valid import missing

ROOT = Path(__file__).resolve().parents[2]
INPUTS = 1500  # a small part of the recorded sweep in experiments/sweep.json


def test_everything_public_is_swept() -> None:
    """What is new needs valid arguments in ``table.py``, from which the sweep begins."""
    assert len(subjects()) > 1000
    assert missing() == []


def test_hostile_calls_work_or_are_refused_in_words() -> None:
    """In a process of its own, without the checks of types and shapes that pytest switches on."""
    command = [sys.executable, "-m", "tests.sweep", "--seed", "0", "--inputs", str(INPUTS)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
