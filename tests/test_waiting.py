"""No step of training waits for the device, and every class of models is among those tried."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_models import FAMILIES, built
from torch import Tensor
from waiting import waits

import gentext
from gentext.core import Model
from gentext.training.config import TrainConfig
from gentext.training.processes import Alone
from gentext.training.run import Run

MERE_PARTS = {"Autoregressive", "Dequantized", "Flow", "ImageClassifier"}  # of which others are


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_of_training_would_not_wait_for_a_gpu(name: str) -> None:
    model, batch = built(name)
    run = Run(model, TrainConfig(steps=9, ema=0.9, clip=1.0), Alone(torch.device("cpu")))
    run.advance(batch)  # the optimiser makes its state
    with waits() as found:
        run.advance(batch)
    assert found == []


WAITING: dict[str, Callable[[Tensor], Any]] = {
    "a number": lambda x: float(x.sum()),
    "a truth value": lambda x: bool(x.any()),
    "numbers": lambda x: x.tolist(),
    "places": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "an index": lambda x: x[[0, 1]],
    "a copy": lambda x: x.cpu(),
    "numbers moved": lambda x: torch.tensor([1.0, 2.0], device=x.device),
    "categories": lambda x: torch.multinomial(x.softmax(0), 1),
    "a branch": lambda x: None if x.device.type == "cpu" else x.item(),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_is_noted(name: str) -> None:
    with waits() as found:
        WAITING[name](torch.ones(1) if name == "a branch" else torch.ones(3))
    assert len(found) == 1


def test_what_does_not_wait_is_not_noted() -> None:
    with waits() as found:
        x = torch.ones(3, requires_grad=True, device=torch.device("cuda", 0))
        y = torch.where(x > 0, x, 0.0).masked_fill(x > 5, 2.0)[:2].sum() + torch.tensor(0.5)
        y.backward()
        assert x.device.type == "cuda"
    assert found == []
    assert x.device.type == "cpu"


def test_every_class_of_models_is_tried() -> None:
    for module in pkgutil.walk_packages(gentext.__path__, "gentext."):
        if module.name.split(".")[1] not in ("cli", "__main__"):
            importlib.import_module(module.name)
    classes, more = set(), [Model]
    while more:
        kind = more.pop()
        more += kind.__subclasses__()
        classes |= {kind} if kind.__module__.startswith("gentext.") else set()
    tried = {family.kind.__name__ for family in FAMILIES.values()}
    assert {kind.__name__ for kind in classes} - {"Model"} - MERE_PARTS == tried
