"""Freezing: parts of a model that stay what they are, to the bit, while others learn.

A parameter without a gradient is not enough: running means of batch normalisations, estimates of
spectral norms and codebooks change in training mode, and dropout makes features random. So what is
frozen also stays in evaluation mode, whatever ``train()`` of the model around it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType
from typing import Any

from torch import nn

from gentext.core.signatures import keep_contract


def freeze(module: nn.Module) -> Any:
    """Keep ``module`` as it is: in evaluation mode, and without gradients for its parameters."""
    for part in module.modules():
        vars(part)["train"] = MethodType(_stay, part)  # a copy of the part has its own
    return module.requires_grad_(False).eval()


def unfreeze(module: nn.Module) -> Any:
    """Let all of ``module`` learn (again); its mode is then that of ``train`` and ``eval``."""
    for part in module.modules():
        vars(part).pop("train", None)
    return module.requires_grad_(True)


def learn_only(module: nn.Module, parts: Iterable[nn.Module]) -> None:
    """Take the gradients of all parameters outside of ``parts``, such as those of a decoder."""
    inside = {p for part in parts for p in part.parameters()}
    for p in module.parameters():
        p.requires_grad_(p.requires_grad and p in inside)


def _stay(part: Any, mode: bool = True) -> Any:
    """What ``train`` of a frozen part does: inside it there may be some that are not frozen."""
    part.training = False
    for child in part.children():
        child.train(mode)
    return part


keep_contract(globals())
