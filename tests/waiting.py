"""Where a computation would wait for a GPU, found without one.

Inside ``waits`` tensors say that they are on a GPU, so that code takes the branches it takes there,
and whatever would make the host wait for the device is noted: a number or a truth value read from
a tensor, a tensor moved between them, a result whose shape depends on values.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
DEVICE = Tensor.device.__get__  # type: ignore[attr-defined]
READS = {
    Tensor.item,
    Tensor.tolist,
    Tensor.numpy,
    Tensor.cpu,
    Tensor.__bool__,
    Tensor.__int__,
    Tensor.__float__,
    Tensor.__index__,
}
INDEXED = {Tensor.__getitem__, Tensor.__setitem__}
MADE_OF_NUMBERS = {torch.tensor, torch.as_tensor}
SHAPED_BY_VALUES = {"nonzero", "masked_select", "_unique2", "unique_dim", "bincount", "equal"}
SHAPED_BY_VALUES |= {"_local_scalar_dense", "is_nonzero", "multinomial"}
CHECKED_ON_THE_CPU_ONLY = {torch.nn.functional.one_hot}


@contextlib.contextmanager
def waits() -> Iterator[list[str]]:
    """The places that would wait, filled while the block runs."""
    found: list[str] = []
    with _Dispatched(found) as below, _LikeAGPU(found, below):
        yield found


def _place(what: str) -> str:
    """Where in the package something was asked for."""
    frames = [f for f in traceback.extract_stack() if "/gentext/" in f.filename]
    last = frames[-1] if frames else None
    return f"{what} in {last.filename.split('/gentext/')[-1]}:{last.lineno}" if last else what


def _each(index: Any) -> tuple[Any, ...]:
    """The parts of an index."""
    return index if isinstance(index, tuple) else (index,)


def _here(value: Any) -> Any:
    """What a call is given, on the device that there is."""
    return torch.device("cpu") if isinstance(value, torch.device) else value


class _Dispatched(TorchDispatchMode):
    """Notes kernels that wait inside."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found, self.quiet = found, False

    def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = f._schema.name.split("::")[-1]
        chosen = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_mask = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in chosen)
        if not self.quiet and (name in SHAPED_BY_VALUES or by_mask):
            self.found.append(_place(name))
        return f(*args, **(kwargs or {}))


class _LikeAGPU(TorchFunctionMode):
    """Lets tensors say that they are on a GPU, and notes what is read from them."""

    def __init__(self, found: list[str], below: _Dispatched) -> None:
        super().__init__()
        self.found, self.below = found, below

    def __torch_function__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if f == DEVICE:
            return GPU
        if f in READS or (f in MADE_OF_NUMBERS and not isinstance(args[0], (Tensor, int, float))):
            self.found.append(_place(f.__name__))
        if f in INDEXED and any(isinstance(i, list) for i in _each(args[1])):
            self.found.append(_place("an index that is a list"))
        args, kwargs = tuple(map(_here, args)), {k: _here(v) for k, v in kwargs.items()}
        before, self.below.quiet = self.below.quiet, f in READS | CHECKED_ON_THE_CPU_ONLY
        try:
            return f(*args, **kwargs)
        finally:
            self.below.quiet = before
