"""Texts in Chinese and English: ``load("tang")`` gives a corpus, split for training and test.

A corpus holds strings. Which tokens they become is the choice of a tokenizer: ``windows`` cuts one
long text into rows of tokens, ``padded`` makes one row of each document, ``labelled`` adds its
class, ``pairs`` makes two rows of each pair of a translation. What results is a ``Dataset`` that
also carries the tokenizer.
"""

from __future__ import annotations

import functools
import lzma
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gentext.core import check_count, check_counts, chosen
from gentext.core.signatures import keep_contract
from gentext.data import pairs as rules
from gentext.data import sources, splits
from gentext.data.dataset import Dataset
from gentext.data.files import bundled, data_folder, read_text
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
        classes: where the first note is the class of a document, their names.
        licence, source: under which terms it may be used, and where it was read from.
    """

    name: str
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]
    notes: dict[str, tuple[Any, ...]]
    licence: str
    source: str
    classes: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, tuple[int, ...]]:
        """The number of the class of each document, by the name of the split.

        Raises ValueError for a corpus without classes.
        """
        if not self.classes:
            raise ValueError(f"{self.name!r} has no classes; give one that has, such as 'genre-zh'")
        return {
            split: tuple(self.classes.index(note[0]) for note in self.notes[split])
            for split in SPLITS
        }

    def without_punctuation(self) -> Corpus:
        """The same documents of words, apostrophes and spaces alone."""
        changed: dict[str, Any] = {
            split: tuple(map(_words_alone, documents)) for split, documents in self.splits.items()
        }
        return replace(self, **changed)

    @property
    def splits(self) -> dict[str, tuple[Document, ...]]:
        """The documents by the name of the split."""
        return {split: getattr(self, split) for split in SPLITS}

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}: {len(texts):,}" for split, texts in self.splits.items())
        kinds = f", classes: {', '.join(self.classes)}" if self.classes else ""
        return (
            f"Corpus {self.name!r}: documents {sizes}{kinds}\n"
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
    return _corpus(name, _dealt(source), source.made, source.licence, source.kind)


def read(
    path: str | os.PathLike[str], *, kind: str, name: str = "own", encoding: str = "utf-8"
) -> Corpus:
    """A corpus of your own from a file: 85 % for training, 5 % to validate and 10 % for test.

    What is invisible in the file does not enter the corpus, see ``files.read_text``. Lines and
    pairs that would leak into the test stay together, see ``splits.lines`` and ``splits.pairs``.

    Arguments:
        kind: "stream" (one long text, cut in its order), "lines" (a document in each line; of
            columns divided by tabs, the last), "pairs" (source, tab, target in each line),
            "classes" (class, tab, document in each line, or the split before both) or "titles"
            (title, tab, document in each line).
        encoding: that of a file without a byte-order mark.

    Raises ValueError when the file cannot be read as that, or is too small for three splits.
    """
    split = chosen("kind of text", kind, splits.KINDS)
    path = Path(os.path.expanduser(path))
    try:
        dealt = split(read_text(path, encoding), splits.SHARES)
        return _corpus(name, dealt, str(path), "your own", kind)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error}") from error


def windows(
    corpus: Corpus, tokenizer: Tokenizer, length: int, *, stride: int | None = None
) -> Dataset:
    """The documents, one after the other, in rows of ``length`` tokens that begin every ``stride``.

    Rows for validation and test do not overlap; what fills no row at the end is left out. Raises
    ValueError where a split fills no row.
    """
    check_counts(length=length, stride=length if stride is None else stride)
    length, step = int(length), int(length if stride is None else stride)
    cut: dict[str, Any] = {}
    for split, texts in corpus.splits.items():
        stream = torch.tensor(tokenizer.encode("\n".join(texts), strict=False))
        if len(stream) < length:
            raise ValueError(
                f"{split} of {corpus.name!r} has {len(stream)} tokens, not one row of {length}; "
                "give shorter rows or a longer text"
            )
        cut[split] = (stream.unfold(0, length, step if split == "train" else length).contiguous(),)
    return _dataset(corpus, tokenizer, cut, length)


def padded(corpus: Corpus, tokenizer: Tokenizer, length: int) -> Dataset:
    """One row of ``length`` for each document: tokens, EOS, PAD; those too long are left out.

    Raises ValueError where none of a split fits.
    """
    cut: dict[str, Any] = {}
    for split, texts in corpus.splits.items():
        encoded = (tokenizer.encode(t, strict=False) for t in texts)
        fitting = [tokens for tokens in encoded if len(tokens) < length]
        _check_some(fitting, "document", split, corpus, length)
        cut[split] = (_filled(fitting, tokenizer, length),)
    return _dataset(corpus, tokenizer, cut, length)


def labelled(corpus: Corpus, tokenizer: Tokenizer, length: int) -> Dataset:
    """A row of ``length`` tokens and a class for each document; those too long lose their ends.

    Raises ValueError for a corpus without classes.
    """
    check_count("length", length, least=2)
    cut: dict[str, Any] = {}
    for split, labels in corpus.labels.items():
        encoded = (tokenizer.encode(t, strict=False) for t in corpus.splits[split])
        short = [tokens[: length - 1] for tokens in encoded]
        cut[split] = (_filled(short, tokenizer, length), torch.tensor(labels))
    return _dataset(corpus, tokenizer, cut, length)


def pairs(corpus: Corpus, tokenizer: Tokenizer, length: int, *, reverse: bool = False) -> Dataset:
    """Two rows for each pair, source and target; ``reverse`` translates the other way.

    Pairs of which one side is too long are left out. Raises ValueError where none of a split fits.
    """
    cut: dict[str, Any] = {}
    for split, both in corpus.splits.items():
        sides = [pair[::-1] if reverse else pair for pair in both]
        encoded = ([tokenizer.encode(t, strict=False) for t in pair] for pair in sides)
        fitting = [pair for pair in encoded if max(map(len, pair)) < length]
        _check_some(fitting, "pair", split, corpus, length)
        cut[split] = tuple(_filled(side, tokenizer, length) for side in zip(*fitting, strict=True))
    return _dataset(corpus, tokenizer, cut, length)


def _filled(encoded: Any, tokenizer: Tokenizer, length: int) -> Tensor:
    return filled(encoded, length, pad=tokenizer.pad, eos=tokenizer.eos)


def _check_some(fitting: list[Any], what: str, split: str, corpus: Corpus, length: int) -> None:
    if not fitting:
        raise ValueError(
            f"no {what} of {split} in {corpus.name!r} fits rows of {length}; give longer rows"
        )


def _dataset(corpus: Corpus, tokenizer: Tokenizer, cut: dict[str, Any], length: int) -> Dataset:
    return Dataset(
        name=corpus.name,
        shape=(length,),
        classes=corpus.classes if len(cut["train"]) > 1 else (),
        tokenizer=tokenizer,
        licence=corpus.licence,
        source=corpus.source,
        **cut,
    )


def _corpus(name: str, dealt: splits.Splits, where: str, licence: str, kind: str = "") -> Corpus:
    notes = {split: tuple(note for _, note in dealt[split]) for split in SPLITS}
    texts: dict[str, Any] = {split: tuple(text for text, _ in dealt[split]) for split in SPLITS}
    named = {note[0] for split in SPLITS for note in notes[split]} if kind == "classes" else ()
    texts["classes"] = tuple(sorted(named))
    return Corpus(name=name, notes=notes, licence=licence, source=where, **texts)


def _words_alone(document: Document) -> Document:
    """A document without punctuation: a space in its place, where it stands between words."""
    if not isinstance(document, str):
        return tuple(map(_words_alone, document))
    spaced = re.sub(" +", " ", re.sub(r"[^\w\s']+", " ", document))
    return re.sub(f"(?<={splits.IDEOGRAPH}) +| +(?={splits.IDEOGRAPH})", "", spaced).strip()


@functools.cache
def _dealt(source: sources.Source) -> splits.Splits:
    """The documents of a bundled source, which are dealt out once."""
    content = lzma.decompress(bundled(source).read_bytes()).decode("utf-8")
    return splits.KINDS[source.kind](content, source.held_out)


def _own_file(name: str, root: str | os.PathLike[str] | None) -> Path | None:
    base = data_folder(root)
    if base is None:
        return None
    places = [base / f"{name}.txt", base / name / f"{name}.txt"]
    found = next((place for place in places if place.is_file()), None)
    if found is None and root is not None:
        raise FileNotFoundError(f"{base} has no text {name!r}; put {name}.txt there")
    return found


@functools.cache
def _made_pairs() -> dict[str, Any]:
    made = [(pair, None) for pair in rules.make(22_000, seed=0)]
    return {"train": made[:20_000], "validation": made[20_000:21_000], "test": made[21_000:]}


keep_contract(globals())
