"""Early stopping where it must stop at a known step, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from models_to_train import QUIET, Line, digest, regression, seeded

from gentext import checkpoint
from gentext.training.config import TrainConfig
from gentext.training.early_stopping import EarlyStopping
from gentext.training.saver import NAME
from gentext.training.stopping import Enough
from gentext.training.train import fit

VALUES = [5.0, 4.0, 6.0, 3.0, 3.0, 7.0, float("nan"), 2.0]  # at steps 10, 20, ...
CONFIG = TrainConfig(steps=100, batch_size=16, lr=0.01, save_every=1000)


def told(sign: float = 1.0) -> EarlyStopping:
    """The looks are known: the best is at step 40, and three after it find nothing better."""
    values = iter(VALUES)
    larger = sign < 0
    return EarlyStopping(lambda model: sign * next(values), every=10, patience=3, larger=larger)


def line() -> Line:
    return seeded(Line).double()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_training_ends_after_patience_looks_without_anything_better(sign: float) -> None:
    stop, model, twin = told(sign), line(), line()
    history = fit(model, regression(), CONFIG, observers=[stop], **QUIET)
    assert len(history.loss) == 70
    assert (stop.best, stop.best_step) == (sign * 3.0, 40)
    assert list(stop.looks) == [10, 20, 30, 40, 50, 60, 70]
    assert not model.training
    stop.restore(model)
    fit(twin, regression(), TrainConfig(steps=40, batch_size=16, lr=0.01), **QUIET)
    assert digest(model) == digest(twin)


def test_the_checkpoint_is_that_of_the_last_step_and_goes_on(tmp_path: Path) -> None:
    fit(line(), regression(), CONFIG, out=tmp_path, observers=[told()], **QUIET)
    assert checkpoint.info(tmp_path / NAME)["step"] == 70
    resumed, whole = line(), line()
    fit(resumed, regression(), CONFIG, out=tmp_path, resume=True, **QUIET)
    fit(whole, regression(), CONFIG, **QUIET)
    assert digest(resumed) == digest(whole)


def test_a_measure_that_improves_lets_it_end_by_itself() -> None:
    x, y = regression()
    stop = EarlyStopping(lambda model: model.loss(x, y), every=10, patience=1)
    model = line()
    history = fit(model, (x, y), CONFIG, observers=[stop], **QUIET)
    assert len(history.loss) == 100
    assert stop.best_step == 100
    assert stop.best == float(model.loss(x, y).detach())


def test_the_measure_is_taken_in_evaluation_mode_without_gradients() -> None:
    seen = []

    def measure(model: Line) -> torch.Tensor:
        seen.append((model.training, torch.is_grad_enabled()))
        return torch.zeros(())

    model = line().train()
    EarlyStopping(measure, every=2)(2, model)
    assert seen == [(False, False)]
    assert model.training


def test_any_observer_may_have_enough() -> None:
    def observe(step: int, model: object) -> None:
        if step == 3:
            raise Enough

    seen: list[int] = []
    observers = [observe, lambda step, model: seen.append(step)]
    history = fit(line(), regression(), CONFIG, observers=observers, **QUIET)
    assert len(history.loss) == 3
    assert seen == [1, 2, 3]


def test_nothing_to_give_back_is_refused() -> None:
    stop = EarlyStopping(lambda model: float("nan"), every=1)
    with pytest.raises(ValueError, match="got 0 looks"):
        stop.restore(line())
    stop(1, line())
    with pytest.raises(ValueError, match="got 1 looks"):
        stop.restore(line())
    with pytest.raises(ValueError, match="patience"):
        EarlyStopping(lambda model: 0.0, patience=0)
