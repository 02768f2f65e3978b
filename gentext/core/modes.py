"""How something is computed: in which precision, and whether as in training or as in use."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from gentext.core.signatures import keep_contract

Given = ParamSpec("Given")
Self = TypeVar("Self", bound=nn.Module)
Result = TypeVar("Result")


def plain_precision(like: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Autocast off, where the device of ``like`` has it."""
    device = like.device.type
    there = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if there else contextlib.nullcontext()


def at_least_single(x: Tensor) -> Tensor:
    """Half-precision numbers in single precision, others as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def as_weights(x: Tensor, net: nn.Module) -> Tensor:
    """``x`` in the type of the weights of ``net``, as a network is to be given it."""
    if x.is_complex():
        raise ValueError(f"got values of {x.dtype}; networks read real numbers: x.real")
    for weight in net.parameters():
        if weight.is_floating_point():
            return x.to(weight.dtype)
    return x


class Precise(nn.Module):
    """A module whose own buffers stay in single precision where its weights are made smaller.

    They are constants, such as levels of noise, of which half precision would make others.
    """

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        held = self._buffers.items()
        before = {name: b for name, b in held if b is not None and b.is_floating_point()}
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            now = self._buffers[name]
            if now is not None and now.dtype.itemsize < 4:
                self._buffers[name] = at_least_single(buffer).to(now.device)
        return self


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode for a while; afterwards each part is in the mode it had."""
    were = [module for module in model.modules() if module.training]
    if were:
        model.eval()
    for module in were:  # of recurrent layers cuDNN knows a gradient in training mode only, which
        if isinstance(module, nn.RNNBase) and not module.dropout and torch.is_grad_enabled():
            module.training = True  # without dropout computes the same
    try:
        yield
    finally:
        for module in were:
            module.training = True


def in_evaluation(
    method: Callable[Concatenate[Self, Given], Result],
) -> Callable[Concatenate[Self, Given], Result]:
    """A method that is computed in evaluation mode, with gradients where they are asked for.

    It is for what is known of a trained model, and not for what its loss is made of.
    """

    @functools.wraps(method)
    def evaluated(self: Self, /, *args: Given.args, **named: Given.kwargs) -> Result:
        with evaluating(self):
            return method(self, *args, **named)

    return evaluated


keep_contract(globals())
