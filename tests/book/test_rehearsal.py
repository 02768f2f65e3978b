"""What a chapter asserts holds at the full budget too, with the recorded weights for training."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import gentext as gt
from book.tools import rehearsal

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks" / "en").glob("*.ipynb"))
TRAINING = [path.stem for path in NOTEBOOKS if rehearsal.part(rehearsal.cells(path))]


@pytest.mark.parametrize("stem", TRAINING)
def test_the_assertions_hold_at_the_full_budget(stem: str) -> None:
    command = [sys.executable, "book/tools/rehearsal.py", "--recorded", stem]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **rehearsal.SETTING},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_chapter_is_run_in_earnest_once_a_week() -> None:
    weekly = yaml.safe_load((ROOT / ".github/workflows/weekly.yml").read_text("utf-8"))
    groups = weekly["jobs"]["full"]["strategy"]["matrix"]["chapters"]
    assert sorted(" ".join(groups).split()) == [path.stem for path in NOTEBOOKS]


CHAPTER = [
    ("setup", "import math\nx = 2"),
    ("aside", "unused = x"),
    ("tool", "def size(m):\n    return x * m"),
    ("before", "short = 0"),
    ("train", "model, data, config = gt.recipes.some()\nshort = fit(model, data, config)"),
    ("uses", "print(size(short))"),
    ("data-only", "print(data, x)"),
    ("another", "model = 3\nprint(model)"),
    ("loop", "for short in range(3):\n    print(short)"),
]


def test_only_what_depends_on_the_budget_is_run_and_what_that_needs() -> None:
    chosen = [name for name, _ in rehearsal.part(CHAPTER)]
    assert chosen == ["setup", "tool", "train", "uses"]


def test_a_chapter_without_training_has_no_part() -> None:
    assert rehearsal.part([c for c in CHAPTER if c[0] != "train"]) == []


def test_the_recorded_weights_stand_for_the_training() -> None:
    torch.manual_seed(0)
    model, data, config = rehearsal.told("nsf_moons", gt.recipes.nsf_moons)("full")
    begun = gt.fit(copy.deepcopy(model), data, rehearsal.started(config), progress=False)
    history = rehearsal.rehearsed(gt.fit)(model, data, config, progress=False)
    assert len(history.loss) == config.steps
    assert history.loss[: rehearsal.SHORT] == begun.loss
    theirs = gt.zoo.load("nsf_moons").state_dict()
    assert all(value.equal(theirs[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        loss = float(model(data.train[0]))
    last = history.loss[-rehearsal.SHORT :]
    assert sum(last) / len(last) == pytest.approx(loss, abs=0.1)  # of batches of 512


def test_another_model_of_the_kind_is_trained_for_a_few_steps() -> None:
    _, data, config = gt.recipes.nsf_moons("full")
    other = gt.NSF(features=2, transforms=2, hidden=(8,), bins=4)
    assert rehearsal.recorded(other, config) is None
    history = rehearsal.rehearsed(gt.fit)(other, data, config, progress=False)
    assert len(history.loss) == 10 * rehearsal.SHORT


def test_an_assertion_of_the_short_training_is_found() -> None:
    cells = [("a", "found = [1]"), ("b", "assert len(found) == 2")]
    with pytest.raises(AssertionError):
        list(rehearsal.run(cells))
