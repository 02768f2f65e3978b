"""How long an experiment is trained: ``quick``, a minute on two cores, or ``full``."""

from __future__ import annotations

import os
from typing import Any

import torch

from gentext.core import Model, chosen
from gentext.data import Dataset
from gentext.training.config import TrainConfig

Experiment = tuple[Model, Dataset, TrainConfig]
BUDGETS = ("quick", "full")


def budget() -> str:
    """``$GENTEXT_BUDGET``, or else "full" where there is a GPU and "quick" where there is none."""
    wanted = os.environ.get("GENTEXT_BUDGET") or ("full" if torch.cuda.is_available() else "quick")
    return str(chosen("budget", wanted, BUDGETS))


def config_for(wanted: str | None, quick: int, full: int, **settings: Any) -> TrainConfig:
    """Training for ``quick`` or ``full`` steps on a cosine schedule, as ``wanted`` or ``budget()``.

    What else there is of ``settings`` goes to ``TrainConfig``.
    """
    steps = {"quick": quick, "full": full}[chosen("budget", wanted or budget(), BUDGETS)]
    return TrainConfig(steps=steps, schedule="cosine", warmup=min(100, steps // 5), **settings)


def transformer_config_for(
    wanted: str | None, quick: int, full: int, *, batch_size: int
) -> TrainConfig:
    """The training that suits Transformers, as ``config_for``."""
    settings: dict[str, Any] = {"lr": 2e-3, "weight_decay": 0.1, "clip": 1.0, "ema": 0.99}
    return config_for(wanted, quick, full, batch_size=batch_size, **settings)
