"""What may stand around a model, and is taken off before it is trained, measured or saved."""

from __future__ import annotations

from typing import Any

from torch import nn

from gentext.core.model import Model

SPREAD = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def bare(model: Any) -> Model:
    """The model itself, of which ``torch.compile``, ``DataParallel`` or ``DDP`` made ``model``.

    Raises ValueError for what is no ``Model``, and for wrappers that may hold other weights.
    """
    inner = model
    while not isinstance(inner, Model):
        if isinstance(inner, nn.Module) and "_orig_mod" in inner._modules:  # of torch.compile
            inner = inner._modules["_orig_mod"]
        elif isinstance(inner, SPREAD):
            inner = inner.module
        else:
            raise ValueError(f"got {type(inner).__name__}{_remedy(inner)}")
    return inner


def _remedy(other: Any) -> str:
    held = getattr(other, "module", None)
    if isinstance(held, Model):
        return f" around {type(held).__name__}; give the model inside it, its .module"
    if isinstance(other, type) and issubclass(other, Model):
        return f", the class {other.__name__} itself; give a model, {other.__name__}(...)"
    return ", which is no gentext.Model; derive its class from that and define loss(...)"
