"""Fully sharded data parallelism: each process keeps a part of every weight.

A process has its part of the weights, of their gradients and of the optimiser's averages. For the
loss the parts are gathered, unit by unit, and what each process found for the gradient is summed
into the part of its owner. So each step is that of data parallelism, at a P-th of its memory.

Source: Rajbhandari et al., SC 2020 (ZeRO); Zhao et al., PVLDB 2023 (FSDP).
"""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor, nn

from gentext.core import Model, chosen
from gentext.core.signatures import keep_contract

UNITS = "FSDP_TRANSFORMER_CLS_TO_WRAP"  # of accelerate: classes gathered one at a time


def sharded(model: Model, device: torch.device, count: int) -> Model:
    """A copy of ``model`` on ``device``, of which each of the ``count`` processes holds a part.

    It begins with the weights of the first process. The layers whose classes the variable
    ``FSDP_TRANSFORMER_CLS_TO_WRAP`` names, as ``accelerate launch`` sets it, are gathered one at a
    time, so that no more than one of them is whole; without it, the whole model is.

    Raises ValueError for a model with several losses, for weights that are single numbers, and for
    a class of which the model has no layer.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    _check(model)
    units = _units(model)
    parts = copy.deepcopy(model)
    mesh = init_device_mesh(device.type, (count,))
    for module in list(parts.modules()):
        if type(module) in units:  # moves to the device alone, and leaves only its part there
            fully_shard(module, mesh=mesh)
    fully_shard(parts, mesh=mesh)
    scatter(model, parts.to(device))
    return parts


def whole(tensor: Tensor) -> Tensor:
    """The tensor of which this may be a part, on the CPU; to be called in all processes."""
    placed: Any = tensor
    return placed.full_tensor().cpu() if _is_part(tensor) else tensor


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of what the first has, divided as ``like`` is, if that is a part."""
    if not _is_part(like) or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placed: Any = like
    return distribute_tensor(tensor.to(like.device), placed.device_mesh, placed.placements)


@torch.no_grad()
def gather(parts: Model, into: Model) -> None:
    """Copy the weights and buffers of a sharded model into a whole one."""
    for mine, theirs in _both(into, parts):
        mine.copy_(whole(theirs))


@torch.no_grad()
def scatter(model: Model, into: Model) -> None:
    """The reverse: give the processes their parts of the weights that the first has."""
    for theirs, mine in _both(model, into):
        mine.copy_(part(theirs, mine))
        if not _is_part(mine):
            torch.distributed.broadcast(mine.detach(), src=0)


def _both(model: Model, parts: Model) -> list[tuple[Tensor, Tensor]]:
    """The weights and buffers of two forms of a model, in pairs."""
    lists = [[*m.parameters(), *m.buffers()] for m in (model, parts)]
    return list(zip(*lists, strict=True))


def _check(model: Model) -> None:
    if len(model.turns()) > 1:
        raise ValueError(
            f"{type(model).__name__} has several losses, {', '.join(model.turns())}; models of one "
            "loss can be sharded: launch it data-parallel"
        )
    single = [name for name, p in model.named_parameters() if p.ndim == 0]
    if single:
        raise ValueError(
            f"the weight {single[0]} of {type(model).__name__} is a single number, of which there "
            "are no parts: launch it data-parallel"
        )


def _units(model: Model) -> set[type[nn.Module]]:
    """The classes of the layers that are gathered one at a time."""
    there = {type(module).__name__: type(module) for module in model.modules()}
    names = [name.strip() for name in os.environ.get(UNITS, "").split(",") if name.strip()]
    return {chosen("layer class", name, there) for name in names}


def _is_part(tensor: Tensor) -> bool:
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


keep_contract(globals())
