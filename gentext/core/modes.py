"""The precision in which something is computed."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor


def plain_precision(like: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Autocast off, where the device of ``like`` has it."""
    device = like.device.type
    there = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if there else contextlib.nullcontext()


def at_least_single(x: Tensor) -> Tensor:
    """Half-precision numbers in single precision, others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
