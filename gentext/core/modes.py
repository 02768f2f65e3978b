"""How something is computed: in which precision, and whether as in training or as in use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def plain_precision(like: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Autocast off, where the device of ``like`` has it."""
    device = like.device.type
    there = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if there else contextlib.nullcontext()


def at_least_single(x: Tensor) -> Tensor:
    """Half-precision numbers in single precision, others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for a while; afterwards each part is in the mode it had."""
    were = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in were:
            module.training = True
