"""Early stopping: training ends when a measure on validation data no longer improves.

Source: Prechelt, in Neural Networks: Tricks of the Trade, 1998.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gentext.core import Model, check_counts, evaluating
from gentext.core.signatures import keep_contract
from gentext.training.stopping import Enough


class EarlyStopping:
    """An observer of ``fit`` that ends it in time; ``restore`` then gives back the best weights.

    Args: ``measure`` a number for the model, such as its loss on validation data; it is taken in
    evaluation mode and without gradients, ``every`` so many steps; training ends when ``patience``
    looks after another found nothing better. Smaller is better, or ``larger``. ``best`` is the
    best value, ``best_step`` its step, ``looks`` all of them by step. A moving average of the
    weights (``ema``) is not looked at.
    """

    def __init__(
        self,
        measure: Callable[[Model], float | Tensor],
        *,
        every: int = 100,
        patience: int = 5,
        larger: bool = False,
    ) -> None:
        check_counts(every=every, patience=patience)
        self.measure, self.every, self.patience = measure, every, patience
        self.larger, self.best, self.best_step = larger, -math.inf if larger else math.inf, 0
        self.looks: dict[int, float] = {}
        self._weights: dict[str, Tensor] = {}

    def __call__(self, step: int, model: Model) -> None:
        """Look at the model if it is time; raises ``Enough`` where it has not improved."""
        if step % self.every:
            return
        with evaluating(model), torch.no_grad():
            value = self.looks[step] = float(self.measure(model))
        if value > self.best if self.larger else value < self.best:
            self.best, self.best_step = value, step
            self._weights = {name: t.clone() for name, t in model.state_dict().items()}
        elif step - self.best_step >= self.patience * self.every:
            raise Enough(f"nothing better in {self.patience} looks since step {self.best_step}")

    def restore(self, model: Model) -> None:
        """Give the model the weights of ``best_step``; ValueError where no look found a number."""
        if not self._weights:
            raise ValueError(
                f"got {len(self.looks)} looks, none of which gave a finite measure: train for at "
                f"least every={self.every} steps, and see what measure(model) gives"
            )
        model.load_state_dict(self._weights)


keep_contract(globals())
