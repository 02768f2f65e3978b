"""How to train: what a run is a function of, besides the model and the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import torch

from gentext.core import check_count, check_counts, chosen, plain
from gentext.core.signatures import keep_contract

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
PRECISIONS = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train; numbers of NumPy become Python's.

    Arguments:
        steps: updates of the weights in all; batch_size: examples in each, over all processes, or
            all there are if these are fewer.
        lr: peak learning rate of AdamW, reached after ``warmup`` steps; schedule: "constant" or
            "cosine" (to zero after the last step); weight_decay: that of AdamW.
        betas: decay of AdamW's averages of the gradient and of its square; games often want a first
            of 0 or 0.5.
        clip: largest norm of the gradient, None for any.
        ema: decay of the moving average of the weights (such as 0.999) that training ends with,
            None for the weights of the last step. It is taken after every step, also after those in
            which the averaged weights stay as they are.
        precision: "no" (float32), "fp16" or "bf16"; compile: whether to use torch.compile.
        seed: of the data's order and of the noise in the loss.
        save_every: steps between two saves; save_minutes: the longest time between them, in one
            process (None: any).
    """

    steps: int
    batch_size: int = 128
    lr: float = 1e-3
    warmup: int = 0
    schedule: str = "constant"
    weight_decay: float = 0.0
    betas: Sequence[float] = (0.9, 0.999)
    clip: float | None = None
    ema: float | None = None
    precision: str = "no"
    compile: bool = False
    seed: int = 0
    save_every: int = 1000
    save_minutes: float | None = 10.0

    def __post_init__(self) -> None:
        for setting in fields(self):  # of NumPy they could not be saved
            object.__setattr__(self, setting.name, plain(getattr(self, setting.name)))
        check_counts(steps=self.steps, batch_size=self.batch_size, save_every=self.save_every)
        check_count("warmup", self.warmup, 0)
        whole = isinstance(self.seed, Integral) and not isinstance(self.seed, bool)
        self._require(whole, "seed", "a whole number")
        self._require(_is_number(self.lr) and self.lr > 0, "lr", "above 0")
        valid = _is_number(self.weight_decay) and self.weight_decay >= 0
        self._require(valid, "weight_decay", "at least 0")
        pair = isinstance(self.betas, Sequence) and len(self.betas) == 2
        valid = pair and all(_is_number(beta) and 0 <= beta < 1 for beta in self.betas)
        self._require(valid, "betas", "two numbers in [0, 1)")
        object.__setattr__(self, "betas", tuple(self.betas))
        for name in ("clip", "save_minutes"):
            value = getattr(self, name)
            self._require(
                value is None or (_is_number(value) and value > 0), name, "above 0, or None"
            )
        valid = self.ema is None or (_is_number(self.ema) and 0 <= self.ema < 1)
        self._require(valid, "ema", "in [0, 1), or None")
        chosen("schedule", self.schedule, SCHEDULES)
        chosen("precision", self.precision, PRECISIONS)

    def _require(self, valid: bool, name: str, allowed: str) -> None:
        if not valid:
            raise ValueError(f"got {name}={getattr(self, name)!r}; {name} must be {allowed}")


def learning_rate(step: int, config: TrainConfig, begun: int = 0) -> float:
    """The learning rate of update ``step``, counted from 0, by a schedule that began at ``begun``.

    What has begun anew is warmed up again.
    """
    step, steps = step - begun, config.steps - begun
    ramp = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = max(0, step - config.warmup) / max(1, steps - config.warmup)
    return config.lr * ramp * SCHEDULES[config.schedule](done)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


keep_contract(globals())
