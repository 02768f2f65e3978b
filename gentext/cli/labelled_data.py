"""Data with a class for each example, as an encoder reads them, and what is to be beaten on them.

Of texts the strings are kept beside the tokens, as ``notes`` of the data set.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gentext import data as data_sets
from gentext.cli.trained import Trained
from gentext.core import OfShape, OfTokens, chosen
from gentext.data import Dataset, prepared, text
from gentext.data.sources import SOURCES
from gentext.evaluation.baselines import ngram_baseline
from gentext.sequences.original_bert import OriginalBERT
from gentext.tokens.completion import check_fits
from gentext.tokens.framing import framed_rows
from gentext.transfer.probe import LinearProbe

SPLITS = ("train", "validation", "test")
HELD_OUT = 10  # one of so many examples validates, where data have no part for it
LEAST_KNOWN = 0.5  # share of the characters of texts that a vocabulary is to know


def names() -> list[str]:
    """The names of the images and texts that have a class for each example."""
    return [
        name
        for name, source in SOURCES.items()
        if source.kind == "classes" or (source.kind == "images" and source.classes)
    ]


def load(name: str, found: Trained, encoder: Any, *, full_data: bool = False) -> Dataset:
    """The data ``name`` as ``encoder`` reads them, which came with what is ``found``.

    Examples without a label are left out; data without a part for validation give one of
    ``HELD_OUT`` training examples. Raises ValueError for an unknown name, and where the encoder was
    built for other examples.
    """
    source = SOURCES[chosen("labelled data set", name, names())]
    if full_data and source.archive is None:
        raise ValueError(
            f"there are no more data of {name} than come with gentext; leave out full_data=True"
        )
    if source.kind == "classes":
        data = _texts(name, found, encoder)
    else:
        data = _images(data_sets.load(name, full=full_data), found, encoder)
    for split in SPLITS:
        known = [bool((y >= 0).all()) for y in getattr(data, split)[1:]]
        if not all(known):
            data = _only(data, split, (getattr(data, split)[1] >= 0).nonzero()[:, 0])
    return data if data.validation else _divided(data)


def few(data: Dataset, each: int, *, seed: int) -> Dataset:
    """Only ``each`` examples of each class to train on; ValueError where there are fewer."""
    counts = data.train[1].bincount(minlength=len(data.classes))
    least = int(counts.argmin())
    if counts[least] < each:
        raise ValueError(
            f"got labels_per_class={each}, but of class {data.classes[least]} there are "
            f"{int(counts[least])} examples in the training data of {data.name}; ask for fewer"
        )
    shown = prepared.few_labels(data, each, seed=seed).train[1] >= 0
    return _only(data, "train", shown.nonzero()[:, 0])


def baseline(data: Dataset) -> tuple[str, dict[str, Tensor]]:
    """What a linear classifier of the raw examples is called, and what it predicts, by split.

    It is trained on the same labels, and its penalty is the best on the validation data.
    """
    y, y_validation = data.train[1], data.validation[1]
    if data.tokenizer is None:
        probe = LinearProbe.fit(
            data.train[0], y, (data.validation[0], y_validation), classes=len(data.classes)
        )
        predicted = {split: probe.predict(getattr(data, split)[0]) for split in SPLITS}
        return "linear probe on raw values", predicted
    unit = "characters" if data.name.endswith("zh") else "words"
    texts: Any = data.notes
    ngrams = ngram_baseline(texts["train"], y, texts["validation"], y_validation, unit=unit)
    return f"n-grams of {unit}", {split: ngrams.predict(texts[split]) for split in SPLITS}


def share_unknown(texts: Any, tokenizer: Any) -> float:
    """The share of the characters of texts that are in no token of a vocabulary."""
    counts = Counter(character for document in texts for character in document)
    lost = [
        count
        for character, count in counts.items()
        if "\ufffd" in tokenizer.decode(tokenizer.encode(character, strict=False))
    ]
    return sum(lost) / counts.total()


def _images(data: Dataset, found: Trained, encoder: Any) -> Dataset:
    """The images, in two levels for an encoder of such."""
    if isinstance(encoder, OfTokens):
        raise ValueError(
            f"{found.name} reads rows of tokens, and {data.name} are images of shape {data.shape}; "
            "give an encoder of images"
        )
    shape = tuple(encoder.shape) if isinstance(encoder, OfShape) else "unknown"
    if shape != data.shape:
        raise ValueError(
            f"{found.name} reads examples of shape {shape}, and those of {data.name} are of shape "
            f"{data.shape}; give an encoder of this shape, or other data"
        )
    two = found.data is not None and found.data.levels == 2
    return replace(prepared.binary(data) if two else data, notes={})


def _texts(name: str, found: Trained, encoder: Any) -> Dataset:
    """The texts in the tokens of the encoder, in rows as long as it reads at most."""
    if not isinstance(encoder, OfTokens):
        shape = tuple(getattr(encoder, "shape", ()))
        raise ValueError(
            f"{found.name} reads examples of shape {shape}, and {name} are texts; give an encoder "
            "of texts, such as bert_poems"
        )
    reader = found.tokenizer
    if reader is None:
        raise ValueError(
            f"{found.file} has no tokenizer to read {name} with; write it once more in Python: "
            "gentext.checkpoint.save(path, model, tokenizer=...)"
        )
    check_fits(encoder, reader)
    corpus, language = text.load(name), name[-2:]
    if (unknown := share_unknown(corpus.train, reader)) > LEAST_KNOWN:
        raise ValueError(
            f"{found.name} has a vocabulary of {reader.size} tokens, which lacks "
            f"{unknown:.0%} of the characters of {name}; give an encoder of such texts"
        )
    usual = prepared.VERSE if language == "zh" else prepared.PASSAGE
    length = min(getattr(encoder, "context", usual), usual)
    data = prepared.genres(language, tokenizer=reader, length=length)
    if isinstance(encoder, OriginalBERT):
        framed: Any = {
            split: (framed_rows(reader, texts, length)[0], getattr(data, split)[1])
            for split, texts in corpus.splits.items()
        }
        data = replace(data, **framed)
    return replace(data, notes=corpus.splits)


def _divided(data: Dataset) -> Dataset:
    """The data, some of whose training examples validate, always the same."""
    order = torch.randperm(len(data.train[0]), generator=torch.Generator().manual_seed(0))
    held = max(1, len(order) // HELD_OUT)
    notes = {**data.notes, "validation": data.notes["train"]} if data.notes else {}
    both = replace(data, validation=data.train, notes=notes)
    return _only(_only(both, "validation", order[:held]), "train", order[held:])


def _only(data: Dataset, split: str, rows: Tensor) -> Dataset:
    """The data with only these examples of a split."""
    notes = dict(data.notes)
    if notes:
        notes[split] = tuple(notes[split][k] for k in rows.tolist())
    kept: Any = {split: tuple(t[rows] for t in getattr(data, split))}
    return replace(data, notes=notes, **kept)
