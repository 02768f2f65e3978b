"""How to train: what a run is a function of, besides the model and the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch

from gentext.core import check_counts, chosen, plain
from gentext.core.contract import keep_contract

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}
PRECISIONS = {"no": None, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train.

    Arguments:
        steps: updates of the weights in all; batch_size: examples in each, over all processes.
        lr: peak learning rate of AdamW, reached after ``warmup`` steps; schedule: "constant" or
            "cosine" (to zero after the last step); weight_decay: that of AdamW.
        betas: decay of AdamW's averages of the gradient and of its square; games often want a first
            of 0 or 0.5.
        clip: largest norm of the gradient, None for any.
        ema: decay of the moving average of the weights (such as 0.999) that training ends with,
            None for the weights of the last step. It is taken after every step, also after those in
            which the averaged weights stay as they are.
        precision: "no" (float32), "fp16" or "bf16"; compile: whether to use torch.compile.
        seed: of the data's order and of the noise in the loss; save_every: steps between two saves.
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

    def __post_init__(self) -> None:
        for setting in fields(self):  # of NumPy they could not be saved
            object.__setattr__(self, setting.name, plain(getattr(self, setting.name)))
        check_counts(steps=self.steps, batch_size=self.batch_size, save_every=self.save_every)
        self._require(0 < self.lr < math.inf, "lr", "above 0")
        self._require(self.warmup >= 0, "warmup", "at least 0")
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")
        pair = isinstance(self.betas, Sequence) and len(self.betas) == 2
        valid = pair and all(0 <= beta < 1 for beta in self.betas)
        self._require(valid, "betas", "two numbers in [0, 1)")
        object.__setattr__(self, "betas", tuple(self.betas))
        self._require(self.clip is None or self.clip > 0, "clip", "above 0, or None")
        self._require(self.ema is None or 0 <= self.ema < 1, "ema", "in [0, 1), or None")
        chosen("schedule", self.schedule, SCHEDULES)
        chosen("precision", self.precision, PRECISIONS)

    def _require(self, valid: bool, name: str, allowed: str) -> None:
        if not valid:
            raise ValueError(f"got {name}={getattr(self, name)!r}; {name} must be {allowed}")


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of update ``step``, counted from 0."""
    ramp = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    done = max(0, step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * ramp * SCHEDULES[config.schedule](done)


keep_contract(globals())
