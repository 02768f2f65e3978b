"""Data sets held in memory as tensors: ``load("fashion-mnist")``.

The package carries an excerpt of each data set, so that everything runs at once and offline. The
full sets are found on the machine or downloaded when asked for, and checked by SHA-256. The first
of these that has the data wins:

1. the folder ``root``, or ``$GENTEXT_DATA``: ``<folder>/<name>/`` with the original idx files,
   compressed or not, or with ``<name>.npz`` of your own (``x_train``, ``y_train``, ``x_test``,
   ``y_test``, taken as they are, channels first or last); torchvision's layout is understood too;
2. without ``full``: the bundled excerpt, the same for every reader;
3. with ``full``: the cache, then Debian's package, then, if ``download`` is set, the mirrors.

A full set is never replaced by the excerpt silently.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gentext.core import chosen, plain
from gentext.core.signatures import keep_contract
from gentext.data import files, sources, toys
from gentext.data.download import download as download_archive
from gentext.data.sources import SOURCES, Source
from gentext.sequences.wavenet import mu_law_decode

logger = logging.getLogger(__name__)

TOY_SIZES = {"train": 10_000, "validation": 2_000, "test": 2_000}


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Dataset:
    """Examples in memory, split for training, validation and test.

    Arguments:
        name: what it is called.
        train, test, validation: tuples of tensors of equal length: the examples (n, \\*shape) as
            float32, then the labels as int64 where there are any; ``validation`` may be empty.
        shape: shape of one example; (channels, height, width) for images, whose values are in
            [0, 1]; (samples,) for sounds, in [-1, 1].
        classes: names of the classes, in the order of the labels (n,).
        attributes: names of the columns of the labels where each example has several, (n, k).
        levels: number of grey levels of the original images, None for data that are not images.
        rate: samples a second of sounds, None for other data.
        tokenizer: what made the tokens (n, t) of texts, which are int64, and makes text of them.
        image_shape: where the tokens are pixels, row by row, the shape of the image.
        notes: for each split, what else is known of each example, such as its names; may be empty.
        licence, source: under which terms it may be used, and where it was read from.
    """

    name: str
    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]
    shape: tuple[int, ...]
    validation: tuple[Tensor, ...] = ()
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    levels: int | None = None
    rate: int | None = None
    tokenizer: Any = None
    image_shape: tuple[int, ...] = ()
    notes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(plain(self.shape)))
        for split in ("train", "validation", "test"):
            self._check(split, getattr(self, split))

    @property
    def modes(self) -> tuple[Tensor, float] | None:
        """Centres of the modes, and the radius of three standard deviations, where known."""
        if self.name not in toys.CENTRES:
            return None
        return toys.modes(self.name), 3 * toys.width(self.name)

    def _check(self, split: str, tensors: Any) -> None:
        where = f"{split} of {self.name!r}"
        if not isinstance(tensors, tuple) or not all(isinstance(t, Tensor) for t in tensors):
            raise ValueError(
                f"{where} is no tuple of tensors; give (x,), or (x, y) where there are labels"
            )
        if not tensors and split != "train":
            return
        if not tensors or any(t.ndim == 0 or len(t) == 0 for t in tensors):
            raise ValueError(f"{where} is empty, or a mere number; give at least one example")
        x = tensors[0]
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"{where} has shape {tuple(x.shape)}, expected (n, *{self.shape})")
        if any(len(t) != len(x) for t in tensors):
            lengths = [len(t) for t in tensors]
            raise ValueError(f"{where} has tensors of lengths {lengths}; give one label an example")
        noted = len(self.notes.get(split, ()))
        if self.notes and noted != len(x):
            raise ValueError(
                f"{where} has {len(x)} examples but {noted} notes; give one note an example, or "
                "notes={}"
            )
        if x.is_floating_point() and not x.isfinite().all():
            raise ValueError(f"{where} contains NaN or infinite values; remove those examples")

    def without_labels(self) -> Dataset:
        """The same data with only the examples in each tuple."""
        return replace(
            self, train=self.train[:1], validation=self.validation[:1], test=self.test[:1]
        )

    def __repr__(self) -> str:
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        sizes = ", ".join(f"{name}: {len(t[0]):,}" for name, t in splits.items() if t)
        kinds = f", classes: {len(self.classes)}" if self.classes else ""
        kinds += f", attributes: {', '.join(self.attributes)}" if self.attributes else ""
        return (
            f"Dataset {self.name!r}: {sizes}, shape: {self.shape}{kinds}\n"
            f"  source: {self.source}\n  licence: {self.licence}"
        )


@dataclass(frozen=True)
class Description:
    """One line of the list of data sets; ``found`` says where the full set is on this machine."""

    name: str
    content: str
    bundled: str
    full: str
    licence: str
    found: str

    def __str__(self) -> str:
        full = f"; full set: {self.full}" if self.full else ""
        return f"{self.name}: {self.content}, {self.bundled}{full}; {self.licence}; {self.found}"


def names() -> tuple[str, ...]:
    """The names that ``load`` knows."""
    return sources.names(sources.TENSORS)


def load(
    name: str, *, full: bool = False, root: str | Path | None = None, download: bool = False
) -> Dataset:
    """The data set ``name`` as tensors in memory.

    Arguments:
        name: one of ``names()``.
        full: the full set instead of the bundled excerpt.
        root: a folder of your own with the data, which then is used.
        download: whether a full set that is not on this machine is downloaded (12 to 31 MB).

    Raises:
        ValueError: the name is unknown, or files are damaged.
        FileNotFoundError: the full set, or any data in ``root``, is not there.
        OSError: the download failed.
    """
    source = _source(name)
    if source.kind == "points":
        return _toy(name, source, root)
    folder = files.own_folder(name, root)
    whole = source.archive is None and source.whole
    if folder is None and (whole or not full):
        return _dataset(name, files.read_bundled(name), source.made)
    folder = folder or files.kept_folder(name)
    if folder is None and not download:
        raise FileNotFoundError(files.how_to_get(name))
    folder = folder or fetch(name)
    logger.info("%s is read from %s", name, folder)
    return _dataset(name, files.read_folder(name, folder), f"{source.title}, from {folder}")


def fetch(name: str, *, root: str | Path | None = None) -> Path:
    """Makes sure that the full set ``name`` is on this machine, verified, and returns its folder.

    Arguments:
        name: one of ``names()``.
        root: where to put it, as ``<root>/<name>/``; the cache if not given.

    Raises:
        ValueError: the name is unknown, nothing can be fetched for it, or files are damaged.
        FileNotFoundError: nobody serves more than is bundled.
        OSError: the download failed; the message says how to go on.
    """
    source = _source(name)
    if not source.file:
        raise ValueError(f"{name!r} is made by code, so there is nothing to fetch; just load it")
    archive = source.archive
    if archive is None and source.whole:
        return files.BUNDLED
    found = files.own_folder(name) or files.system_folder(name)
    if root is None and found is not None:
        files.read_folder(name, found)
        return found
    if archive is None:
        raise FileNotFoundError(files.how_to_get(name))
    folder = files.cache_folder(name) if root is None else Path(os.path.expanduser(root)) / name
    download_archive(name, archive, folder)
    return folder


def describe(name: str) -> Description:
    """What the data set ``name`` is, how large, under which licence, and where it was found."""
    source = _source(name)
    found = "bundled" if source.file else "made by code"
    if source.archive is not None:
        folder = files.own_folder(name) or files.kept_folder(name)
        found = str(folder or f"bundled excerpt; full: gentext data fetch {name}")
    return Description(name, source.content, source.bundled, source.full, source.licence, found)


def _source(name: str) -> Source:
    """The entry of a data set; ValueError for unknown names and for those of texts."""
    if name in sources.names(sources.TEXTS):
        raise ValueError(f"{name!r} is a text: load it by gentext.text.load({name!r})")
    return SOURCES[chosen("data set", name, names(), "`gentext data list`")]


def _dataset(name: str, splits: files.Splits, where: str) -> Dataset:
    source = SOURCES[name]
    tensors: dict[str, Any] = {
        split: _tensors(x, y, source) for split, (x, y, *_) in splits.items()
    }
    notes = {
        split: tuple(map(source.noted._make, rows.tolist()))
        for split, (_, _, *noted) in splits.items()
        for rows in noted
    }
    return Dataset(
        name=name,
        shape=source.shape,
        classes=source.classes,
        attributes=source.attributes,
        levels=source.levels,
        rate=source.rate,
        notes=notes,
        licence=source.licence,
        source=where,
        **tensors,
    )


def _tensors(x: np.ndarray, y: np.ndarray, source: Source) -> tuple[Tensor, ...]:
    if source.kind == "sounds":
        sounds = mu_law_decode(torch.from_numpy(x)).float()
        return sounds, torch.from_numpy(y.astype(np.int64))
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and (*x.shape[3:], *x.shape[1:3]) == source.shape:
        x = x.transpose(0, 3, 1, 2)
    values = torch.from_numpy(x.astype(np.float32, order="C"))
    if source.levels is not None:
        values = values.div_(source.levels - 1)
    return values, torch.from_numpy(y.astype(np.int64))


def _toy(name: str, source: Source, root: str | Path | None) -> Dataset:
    if root is not None:
        raise ValueError(f"{name!r} is made by code and reads no files; leave root out")
    splits: dict[str, Any] = {}
    for seed, (split, n) in enumerate(TOY_SIZES.items()):
        points, labels = toys.sample(name, n, generator=torch.Generator().manual_seed(seed))
        splits[split] = (points, labels) if source.classes else (points,)
    return Dataset(
        name=name,
        shape=source.shape,
        classes=source.classes,
        licence=source.licence,
        source=source.made,
        **splits,
    )


keep_contract(globals())
