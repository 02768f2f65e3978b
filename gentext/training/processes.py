"""Where a training runs: on which device, and as which of how many processes.

One process needs no library for that, and leaves alone what others set up beside it. Several are
those that accelerate launches.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from gentext.core import Model

OTHERS = ("DEEPSPEED", "MEGATRON_LM")  # ways of dividing a model that are not ours


@runtime_checkable
class Processes(Protocol):
    """What training asks of its surroundings; accelerate's ``PartialState`` can answer too."""

    device: torch.device
    num_processes: int
    process_index: int
    is_main_process: bool


@dataclass
class Alone:
    """The only process."""

    device: torch.device
    num_processes: int = 1
    process_index: int = 0
    is_main_process: bool = True


def surroundings(model: Model) -> Processes:
    """This process alone, or among those that were launched with it.

    Raises ValueError where those are not connected, or are to divide the model in a way that is
    not ours.
    """
    launched = max(int(os.environ.get("WORLD_SIZE") or "1"), _connected())
    if launched == 1:
        return Alone(device_for(model))
    if any(_asked(f"ACCELERATE_USE_{kind}") for kind in OTHERS):
        raise ValueError("fit divides models by FSDP only; launch it so, or data-parallel")
    from accelerate import PartialState

    # Without a GPU, accelerate connects its processes only when told that they are to use the CPU.
    state = PartialState(cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()))
    if state.num_processes != launched:
        raise ValueError(
            f"{launched} processes were launched, of which accelerate knows {state.num_processes}; "
            "launch them by accelerate launch or torchrun, with ACCELERATE_USE_CPU=true on CPUs"
        )
    return state


def device_for(model: Model) -> torch.device:
    """Where to train in one process: a GPU if there is one; the one that the model is on already.

    ``ACCELERATE_USE_CPU=true`` keeps a model that is on the CPU there.
    """
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    if home.type == "meta":
        raise ValueError('the model has no weights yet (device "meta"); build it on a real device')
    if home.type != "cpu" or _asked("ACCELERATE_USE_CPU"):
        return home
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    there = torch.accelerator.is_available() if hasattr(torch, "accelerator") else False
    return (torch.accelerator.current_accelerator() or home) if there else home


def divides(among: Processes) -> bool:
    """Whether each process is to hold a part of the model, by FSDP as ``accelerate`` calls it."""
    return among.num_processes > 1 and _asked("ACCELERATE_USE_FSDP")


def spread(model: Model, among: Processes) -> Any:
    """What computes the loss: the model, or what also averages the gradients of all processes.

    A sharded model does so itself.
    """
    if among.num_processes == 1 or divides(among):
        return model
    device = among.device
    return torch.nn.parallel.DistributedDataParallel(
        model,
        device_ids=None if device.type == "cpu" else [device],
        # A turn of several leaves the parameters of the others without gradients.
        find_unused_parameters=len(model.turns()) > 1,
    )


def gathered(mine: Tensor, among: Processes) -> Tensor:
    """The rows that the processes have, in their order; to be called in all of them."""
    if among.num_processes == 1:
        return mine[None]
    from accelerate.utils import gather

    return gather(mine.to(among.device)[None])


def unite(model: Model, among: Processes) -> None:
    """Give all processes the buffers of the first, such as means seen in each one's own share."""
    if among.num_processes > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)
        torch.distributed.barrier()


def _connected() -> int:
    """How many processes PyTorch has connected."""
    distributed = torch.distributed
    there = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if there else 1


def _asked(variable: str) -> bool:
    """Whether a variable of the environment says yes, as accelerate reads it."""
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "y", "on", "t")
