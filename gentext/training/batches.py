"""What training reads: tensors in memory, batched by index, or a stream of batches.

Either is a pure function of seed and step: the same step of the same training sees the same batch,
also in a run that was interrupted.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentext.core import Model
from gentext.core.checks import is_finite
from gentext.core.signatures import keep_contract

Source = tuple[Tensor, ...] | Iterable[Any]  # tensors of one length, or batches to read every epoch


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process works on: the ``rank``-th of ``world``."""

    rank: int = 0
    world: int = 1


WHOLE = Share()


def epoch_batches(
    tensors: tuple[Tensor, ...],
    batch_size: int,
    *,
    seed: int = 0,
    epoch: int = 0,
    start: int = 0,
    share: Share = WHOLE,
) -> Iterator[tuple[Tensor, ...]]:
    """The full batches of one epoch from the ``start``-th, ordered by ``seed`` and ``epoch`` alone.

    The few examples that fill no batch are left out, others in each epoch.
    """
    n = len(tensors[0])
    generator = torch.Generator().manual_seed(mix("order", seed, epoch))
    order = torch.randperm(n, generator=generator, device="cpu").to(tensors[0].device)
    mine = min(batch_size, n) // share.world
    for first in range(start * mine * share.world, n + 1 - mine * share.world, mine * share.world):
        index = order[first + share.rank * mine :][:mine]
        yield tuple(t.index_select(0, index) for t in tensors)


def endless_batches(
    source: Source,
    batch_size: int,
    device: torch.device,
    *,
    seed: int = 0,
    start: int = 0,
    share: Share = WHOLE,
) -> Iterator[tuple[Tensor, ...]]:
    """One batch a step, epoch after epoch, from step ``start``, on ``device``.

    Raises ValueError when the source has too few examples or batches, or when ``batch_size`` is no
    multiple of the number of processes.
    """
    if not isinstance(source, tuple):
        stream = itertools.islice(_endless_stream(source, seed, share), start, None)
        return (tuple(t.to(device, non_blocking=True) for t in batch) for batch in stream)
    n = len(source[0])
    if batch_size % share.world:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by {share.world} processes; "
            f"choose a multiple of {share.world}"
        )
    if n < share.world:
        raise ValueError(f"got {n} examples for {share.world} processes; give one each at least")
    per_epoch = n // (min(batch_size, n) // share.world * share.world)
    first, skipped = divmod(start, per_epoch)
    tensors = tuple(t.to(device) for t in source)
    return itertools.chain.from_iterable(
        epoch_batches(
            tensors,
            batch_size,
            seed=seed,
            epoch=epoch,
            start=skipped if epoch == first else 0,
            share=share,
        )
        for epoch in itertools.count(first)
    )


def training_source(data: Any, model: Model) -> Source:
    """The training data in ``data``, seen to be usable; ValueError says what is wrong with it."""
    source = getattr(data, "train", data)
    _check_kind(source)
    if isinstance(source, Tensor):
        source = (source,)
    if isinstance(source, tuple):
        _check_tensors(source)
        _check_precision(source, model, "the data")
        model.check(*source)
    elif not isinstance(source, Iterable):
        raise ValueError(
            f"cannot train on a {type(source).__name__}; give a data set, a tuple of tensors "
            "(of arrays by torch.from_numpy), or an iterable of batches such as a DataLoader"
        )
    elif not isinstance(source, Iterator):  # of which the first batch could not be read again
        first = next(_with_own_randomness(source, 0), None)
        if first is not None:
            batch = as_batch(first)
            _check_precision(batch, model, "the batches")
            model.check_batch(*batch)
    return source


def fingerprint(source: Source) -> list[str]:
    """What tells one data set in memory from another; streams are all alike."""
    if not isinstance(source, tuple):
        return ["stream"]
    return [f"{tuple(t.shape)} {t.dtype} {_sample_checksum(t):08x}" for t in source]


def mix(*parts: object) -> int:
    """A seed that is a pure function of ``parts``."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


def as_batch(given: Any) -> tuple[Tensor, ...]:
    """A batch of a stream as the tensors that the loss takes; ValueError where it has others."""
    batch = (given,) if isinstance(given, Tensor) else given
    if not isinstance(batch, tuple | list) or not all(isinstance(t, Tensor) for t in batch):
        parts = batch.values() if isinstance(batch, Mapping) else batch
        parts = parts if isinstance(batch, Mapping | tuple | list) else ()
        of = f" of {', '.join(type(part).__name__ for part in parts)}" if parts else ""
        raise ValueError(
            f"got a batch that is a {type(given).__name__}{of}; give a tensor or a tuple of "
            "tensors, in the order in which the loss takes them"
        )
    sizes = {len(t) if t.ndim else 0 for t in batch}
    if len(sizes) != 1 or 0 in sizes:
        shapes = ", ".join(str(tuple(t.shape)) for t in batch) or "no tensors"
        raise ValueError(f"got a batch of {shapes}; give tensors of one length, 1 or more")
    return tuple(t.clone() if t.is_inference() else t for t in batch)


def _check_kind(source: Any) -> None:
    """Raise ValueError for what can be iterated over and still is no training data."""
    if isinstance(source, str):
        raise ValueError(f"got the text {source!r} as data; load it: gentext.data.load({source!r})")
    if isinstance(source, np.ndarray):
        raise ValueError("got a NumPy array as data; give a tensor: torch.from_numpy(x).float()")
    if isinstance(source, Mapping):
        raise ValueError(
            f"got data of type {type(source).__name__} that is no tuple of tensors; give "
            "(x,) or (x, y), of NumPy arrays torch.from_numpy(x)"
        )


def _check_tensors(tensors: tuple[Any, ...]) -> None:
    if not tensors or not all(isinstance(t, Tensor) and t.ndim for t in tensors):
        kinds = ", ".join(type(t).__name__ for t in tensors) or "nothing"
        raise ValueError(
            f"cannot train on a tuple of {kinds}; give tensors of shape (n, ...), which "
            "torch.from_numpy makes of arrays"
        )
    lengths = [len(t) for t in tensors]
    if 0 in lengths:
        raise ValueError("there are no examples to train on; give at least one")
    if len(set(lengths)) > 1:
        raise ValueError(f"the tensors have lengths {lengths}; give one row per example in each")
    for place, t in enumerate(tensors):
        if not is_finite(t):
            raise ValueError(
                f"tensor {place} of the data contains NaN or infinite values; remove or replace "
                "those examples"
            )


def _check_precision(tensors: tuple[Tensor, ...], model: Model, what: str) -> None:
    own = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    if own is None:
        return
    for place, t in enumerate(tensors):
        if {t.dtype, own} == {torch.float32, torch.float64} or t.dtype == torch.float64 != own:
            given, kept = (str(dtype).split(".")[-1] for dtype in (t.dtype, own))
            remedy = "data.double(), or model.float()"
            if t.dtype == torch.float64:
                remedy = "data.float(), or model.double()"
            raise ValueError(
                f"tensor {place} of {what} is {given} and the model {kept}; give {remedy}"
            )


def _sample_checksum(t: Tensor) -> int:
    """A checksum of some thousand values, spread evenly."""
    values = t.detach().reshape(-1)
    some = values[:: max(1, len(values) // 4096)].cpu().contiguous()
    return zlib.crc32(some.view(torch.uint8).numpy().data)


def _endless_stream(data: Iterable[Any], seed: int, share: Share) -> Iterator[tuple[Tensor, ...]]:
    """This process's batches of a stream: of every ``world`` in a row, the ``rank``-th."""
    for epoch in itertools.count():
        batches = _with_own_randomness(data, mix("stream", seed, epoch))
        empty = True
        for group in zip(*[batches] * share.world, strict=False):
            batch, empty = group[share.rank], False
            yield as_batch(batch)
        if empty:
            raise ValueError(
                f"the data gave no batch in epoch {epoch}; give an iterable of batches that can be "
                "read again every epoch, such as a DataLoader, and not an iterator"
            )


def _with_own_randomness(data: Iterable[Any], seed: int) -> Iterator[Any]:
    """Iterate over ``data``, whose shuffling and augmentation draw from a generator of their own.

    So they neither disturb the noise of the training nor depend on it, and a resumed run can read
    the stream again up to where it stopped.
    """
    inside = torch.Generator().manual_seed(seed).get_state()
    iterator = None
    while True:
        outside = torch.get_rng_state()
        torch.set_rng_state(inside)
        try:
            iterator = iter(data) if iterator is None else iterator
            batch = next(iterator)
        except StopIteration:
            return
        finally:
            inside = torch.get_rng_state()
            torch.set_rng_state(outside)
        yield batch


keep_contract(globals())
