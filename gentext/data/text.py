"""Texts in Chinese and English: ``load("tang")`` gives a corpus, split for training and test.

A corpus holds strings. Which tokens they become is the choice of a tokenizer: ``windows`` cuts one
long text into rows of tokens, ``padded`` makes one row of each document, ``pairs`` two rows of each
pair of a translation. What results is a ``Dataset`` that also carries the tokenizer.
"""

from __future__ import annotations

import functools
import lzma
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gentext.core import chosen
from gentext.core.contract import keep_contract
from gentext.data import pairs as rules
from gentext.data import sources
from gentext.data.dataset import Dataset
from gentext.data.files import bundled
from gentext.tokens.tokenizer import Tokenizer, filled

SPLITS = ("train", "validation", "test")
Document = Any  # a string, or a pair of strings


SOURCES = {name: sources.SOURCES[name] for name in sources.names(sources.TEXTS)}


@dataclass(frozen=True, kw_only=True, repr=False)
class Corpus:
    """Documents for training, validation and test.

    Arguments:
        train, validation, test: the documents of each, strings or (source, target) pairs.
        notes: for each document of each split what is known of it, such as author and title.
        licence, source: under which terms it may be used, and where it was read from.
    """

    name: str
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    notes: dict[str, tuple[Any, ...]]
    licence: str
    source: str

    @property
    def splits(self) -> dict[str, tuple[Document, ...]]:
        """The documents by the name of the split."""
        return {split: getattr(self, split) for split in SPLITS}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}: {len(texts):,}" for split, texts in self.splits.items())
        return (
            f"Corpus {self.name!r}: documents {sizes}\n"
            f"  source: {self.source}\n  licence: {self.licence}"
        )


def names() -> tuple[str, ...]:
    """The names that ``load`` knows."""
    return tuple(SOURCES)


def load(name: str, *, root: str | os.PathLike[str] | None = None) -> Corpus:
    """The corpus ``name``: the bundled one, or the reader's own ``<name>.txt``.

    An own text stands as ``<name>.txt`` or ``<name>/<name>.txt`` in ``root``, or else in
    ``$GENTEXT_DATA``; see ``read`` for its form.

    Raises:
        ValueError: the name is unknown, or the file is damaged.
        FileNotFoundError: ``root`` has no such file.
    """
    source = chosen("text", name, SOURCES)
    own = _own_file(name, root)
    if own is not None:
        return read(own, kind=source.kind, name=name)
    if not source.file:
        return _corpus(name, _made_pairs(), source.made, source.licence)
    split = SPLITTERS[source.kind](_content(source))
    return _corpus(name, split, source.made, source.licence)


def read(path: str | os.PathLike[str], *, kind: str, name: str = "own") -> Corpus:
    """A corpus of your own from a file in UTF-8: 85 % for training, 5 % and 10 % held out.

    Arguments:
        kind: "stream" (one long text), "lines" (a document in each line; of columns divided by
            tabs, the last) or "pairs" (source, tab, target in each line).

    Raises ValueError when the file cannot be read as that.
    """
    split = chosen("kind of text", kind, SPLITTERS)
    path = Path(path)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text in UTF-8 ({error})") from error
    if len(text.splitlines()) < 3:
        raise ValueError(f"{path} has fewer than 3 lines; give one for each split at least")
    return _corpus(name, split(text), str(path), "your own")


def windows(
    corpus: Corpus, tokenizer: Tokenizer, length: int, *, stride: int | None = None
) -> Dataset:
    """The documents, one after the other, in rows of ``length`` tokens that begin every ``stride``.

    Rows for validation and test do not overlap; what fills no row at the end is left out.
    """
    cut: dict[str, Any] = {}
    for split, texts in corpus.splits.items():
        stream = torch.tensor(tokenizer.encode("\n".join(texts), strict=False))
        if len(stream) < length:
            raise ValueError(
                f"{split} of {corpus.name!r} has {len(stream)} tokens, not one row of {length}"
            )
        step = (stride or length) if split == "train" else length
        cut[split] = (stream.unfold(0, length, step).contiguous(),)
    return _dataset(corpus, tokenizer, cut, length)


def padded(corpus: Corpus, tokenizer: Tokenizer, length: int) -> Dataset:
    """One row of ``length`` for each document: tokens, EOS, PAD; those too long are left out."""
    cut: dict[str, Any] = {}
    for split, texts in corpus.splits.items():
        encoded = (tokenizer.encode(t, strict=False) for t in texts)
        cut[split] = (filled([tokens for tokens in encoded if len(tokens) < length], length),)
    return _dataset(corpus, tokenizer, cut, length)


def pairs(corpus: Corpus, tokenizer: Tokenizer, length: int, *, reverse: bool = False) -> Dataset:
    """Two rows for each pair, source and target; ``reverse`` translates the other way.

    Pairs of which one side is too long are left out.
    """
    cut: dict[str, Any] = {}
    for split, both in corpus.splits.items():
        sides = [pair[::-1] if reverse else pair for pair in both]
        encoded = ([tokenizer.encode(t, strict=False) for t in pair] for pair in sides)
        fitting = [pair for pair in encoded if max(map(len, pair)) < length]
        if not fitting:
            raise ValueError(
                f"no pair of {split} in {corpus.name!r} fits rows of {length}; give longer rows"
            )
        cut[split] = tuple(filled(side, length) for side in zip(*fitting, strict=True))
    return _dataset(corpus, tokenizer, cut, length)


def _dataset(corpus: Corpus, tokenizer: Tokenizer, splits: dict[str, Any], length: int) -> Dataset:
    return Dataset(
        name=corpus.name,
        shape=(length,),
        tokenizer=tokenizer,
        licence=corpus.licence,
        source=corpus.source,
        **splits,
    )


def _corpus(name: str, splits: dict[str, Any], where: str, licence: str) -> Corpus:
    notes = {split: tuple(note for _, note in splits[split]) for split in SPLITS}
    texts: dict[str, Any] = {split: tuple(text for text, _ in splits[split]) for split in SPLITS}
    return Corpus(name=name, notes=notes, licence=licence, source=where, **texts)


@functools.cache
def _content(source: sources.Source) -> str:
    return lzma.decompress(bundled(source).read_bytes()).decode("utf-8")


def _own_file(name: str, root: str | os.PathLike[str] | None) -> Path | None:
    base = root or os.environ.get("GENTEXT_DATA")
    if not base:
        return None
    places = [Path(base) / f"{name}.txt", Path(base) / name / f"{name}.txt"]
    found = next((place for place in places if place.is_file()), None)
    if found is None and root is not None:
        raise FileNotFoundError(f"{base} has no text {name!r}; put {name}.txt there")
    return found


def _cut(text: str) -> dict[str, Any]:
    """The first 85 % for training, the next 5 % to validate, the last 10 % for test, by lines."""
    ends = [text.rfind("\n", 0, int(len(text) * share)) + 1 for share in (0.85, 0.9)]
    first, second = ends
    parts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
    return {split: [(part, None)] for split, part in parts.items()}


def _split_poems(text: str) -> dict[str, Any]:
    """90 / 5 / 5 % of the lines; documents that share a line of verse stay together."""
    fields = [line.split("\t") for line in text.splitlines() if line.strip()]
    documents = [(columns[-1], tuple(columns[:-1])) for columns in fields]
    families: dict[int, list[int]] = {}
    for place, family in enumerate(_families([text for text, _ in documents])):
        families.setdefault(family, []).append(place)
    order = list(families.values())
    random.Random(0).shuffle(order)
    return _shares([[documents[k] for k in family] for family in order], (0.05, 0.05))


def _families(texts: Sequence[str]) -> list[int]:
    """A number for each text, the same where two share a line, or are linked by others that do."""
    parent = list(range(len(texts)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    first: dict[str, int] = {}
    for k, text in enumerate(texts):
        for line in filter(None, re.split(r"\W+", text)):
            parent[root(k)] = root(first.setdefault(line, k))
    return [root(k) for k in range(len(texts))]


def _split_pairs(text: str) -> dict[str, Any]:
    """85 / 5 / 10 % of the pairs; a source, or a target, is in one split only."""
    lines = [line.split("\t") for line in text.splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        raise ValueError("a line of pairs has a source, a tab and a target; one here has not")
    unique: dict[str, tuple[str, str]] = {}
    for source, target in lines:
        unique.setdefault(source, (source, target))
    groups: dict[str, list[Any]] = {}
    for pair in unique.values():
        groups.setdefault(pair[1], []).append((pair, None))
    order = list(groups.values())
    random.Random(0).shuffle(order)
    return _shares(order, (0.05, 0.10))


def _shares(groups: Sequence[list[Any]], held_out: tuple[float, float]) -> dict[str, Any]:
    """The groups dealt out: the test's share, then the validation's, the rest for training."""
    total = sum(map(len, groups))
    splits: dict[str, list[Any]] = {"test": [], "validation": [], "train": []}
    for group in groups:
        share = {"validation": held_out[0], "test": held_out[1], "train": 1.0}
        split = next(s for s in splits if len(splits[s]) < share[s] * total)
        splits[split] += group
    return splits


SPLITTERS = {"stream": _cut, "lines": _split_poems, "pairs": _split_pairs}  # by kind


@functools.cache
def _made_pairs() -> dict[str, Any]:
    made = [(pair, None) for pair in rules.make(22_000, seed=0)]
    return {"train": made[:20_000], "validation": made[20_000:21_000], "test": made[21_000:]}


keep_contract(globals())
