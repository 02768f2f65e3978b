"""Data as recipes train on them: images of few levels, continuous tables, tokens of all kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gentext.core import check_count, chosen
from gentext.core.signatures import keep_contract
from gentext.data import text, toys
from gentext.data.dataset import Dataset, load
from gentext.data.sentences import next_sentences, sentences
from gentext.sequences.wavenet import mu_law_encode
from gentext.tokens.tokenizer import (
    CHINESE,
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    rows,
)

POEM = 33  # characters of the longest quatrain, and the end of the text
VERSE = 121  # characters of the longest poem of a genre, and the end of the text
PASSAGE = 160  # byte pairs that nearly all passages of Shakespeare need
SENTENCE = 64  # the longest row of a pair to translate
BOTH = 48  # tokens of a pair of sentences with its frame
SOURCE = "bundled: tang, genre-zh, shakespeare and genre-en; made by code: pairs"
SHORT = 8  # characters of a sentence that may stand in several texts by chance
OF_EACH = 5000  # sentences of "pairs" in each language that a BERT reads
PROMPT = 16  # the longest name of an emoji, and the end of the text
LANGUAGES = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}
STYLES = {"noto": ("noto",), "fluent": ("fluent",), "both": ("noto", "fluent")}


def images(dataset: Dataset, change: Callable[[Tensor], Tensor], **fields: Any) -> Dataset:
    """The same data with the first tensor of each split changed."""
    splits: dict[str, Any] = {
        split: (change(tensors[0]), *tensors[1:]) if tensors else ()
        for split in ("train", "validation", "test")
        for tensors in (getattr(dataset, split),)
    }
    return replace(dataset, **splits, **fields)


def binary(dataset: Dataset) -> Dataset:
    """The same images with every value above one half set to 1 and the others to 0."""
    return images(dataset, lambda x: (x > 0.5).float(), levels=2)


def shuttle(*, unusual: bool = False, seed: int = 0) -> Dataset:
    """The usual rows of the table ``shuttle``, made continuous, its long tails shortened.

    Uniform noise in [0, 1) is added to the whole numbers. Each column is shifted by its median,
    divided by its interquartile range, mapped by arsinh (which is linear near 0, logarithmic far
    away), and brought to mean 0 and standard deviation 1. With ``unusual`` the other rows, in the
    same units.
    """
    dataset = load("shuttle")
    generator = torch.Generator().manual_seed(seed)
    splits = {name: getattr(dataset, name) for name in ("train", "validation", "test")}
    rows = {
        name: (x + torch.rand(x.shape, generator=generator), y) for name, (x, y) in splits.items()
    }
    x, y = rows["train"]
    low, median, high = torch.quantile(x[y == 0], x.new_tensor([0.25, 0.5, 0.75]), dim=0)

    def shortened(x: Tensor) -> Tensor:
        return ((x - median) / (high - low)).asinh()

    std, mean = torch.std_mean(shortened(x[y == 0]), 0)
    kept: dict[str, Any] = {
        name: ((shortened(x[y == int(unusual)]) - mean) / std,) for name, (x, y) in rows.items()
    }
    return replace(dataset, classes=(), **kept)


def plane(name: str, n: int = 200_000) -> Dataset:
    """The toy ``name`` with ``n`` points to train on, so many that none is learned by heart."""
    points = toys.sample(name, n, generator=torch.Generator().manual_seed(3))[0]
    return replace(load(name).without_labels(), train=(points,), classes=())


def few_labels(dataset: Dataset, each: int, *, seed: int = 0) -> Dataset:
    """The same data with all but ``each`` labels of each class hidden as −1.

    Raises ValueError for data without a class for each example, and for fewer labels than one.
    """
    check_count("each", each)
    if len(dataset.train) != 2 or dataset.train[1].ndim != 1:
        raise ValueError(f"{dataset.name!r} has not one class for each example; take data that do")
    x, y = dataset.train
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    hidden = torch.full_like(y, -1)
    for label in y.unique():
        kept = order[y[order] == label][:each]
        hidden[kept] = label
    return replace(dataset, train=(x, hidden))


def pixels(dataset: Dataset) -> Dataset:
    """The images as rows of tokens, 0 to levels − 1 from dark to light, row by row of the image."""
    if dataset.levels is None:
        raise ValueError(f"{dataset.name!r} has no grey levels to make tokens of")
    most, size = dataset.levels - 1, math.prod(dataset.shape)
    return images(
        dataset.without_labels(),
        lambda x: (x * most).round().long().flatten(1),
        image_shape=dataset.shape,
        shape=(size,),
    )


def sound_levels(dataset: Dataset, levels: int = 256) -> Dataset:
    """The sounds as rows of tokens, their mu-law levels 0 to ``levels`` − 1, without their classes.

    Raises ValueError for data that are no sounds.
    """
    if dataset.rate is None:
        raise ValueError(f"{dataset.name!r} has no rate: it holds no sounds; load one that does")
    return images(dataset.without_labels(), lambda x: mu_law_encode(x, levels), classes=())


def codes(model: Any, dataset: Dataset, name: str) -> Dataset:
    """The codes that a VQ-VAE gives to images, as rows of tokens; ``name`` is the model's."""
    with torch.no_grad():
        return images(
            dataset.without_labels(),
            lambda x: torch.cat([model.encode(part).flatten(1) for part in x.split(500)]),
            name=f"codes of {name}",
            shape=(math.prod(model.map),),
            levels=len(model.quantizer.codebook),
        )


def shakespeare(length: int) -> Dataset:
    """Shakespeare in overlapping rows of ``length`` characters."""
    corpus = text.load("shakespeare")
    stride = max(1, length // 4)
    return text.windows(corpus, CharTokenizer.fit(corpus.train), length, stride=stride)


def poems() -> Dataset:
    """Quatrains of the Tang, one in each row of POEM characters."""
    corpus = text.load("tang")
    return text.padded(corpus, CharTokenizer.fit(corpus.train), POEM)


def translations(*, reverse: bool = False) -> Dataset:
    """The rule-made pairs, English to Chinese, in byte pairs learned from both languages."""
    corpus = text.load("pairs")
    sides = (side for pair in corpus.train for side in pair)
    tokenizer = BPETokenizer.fit(sides, size=1024, apart=CHINESE)
    return text.pairs(corpus, tokenizer, SENTENCE, reverse=reverse)


def titles(*, tokenizer: Tokenizer | None = None) -> Dataset:
    """Quatrains of the Tang and their titles, both in rows of POEM characters.

    Arguments:
        tokenizer: one of your own, such as that of a model that was trained before.
    """
    corpus = text.load("titles")
    sides = (side for pair in corpus.train for side in pair)
    return text.pairs(corpus, tokenizer or CharTokenizer.fit(sides), POEM)


def genres(
    language: str = "zh",
    *,
    punctuation: bool = True,
    tokenizer: Tokenizer | None = None,
    length: int | None = None,
) -> Dataset:
    """Texts and their genres: rows of tokens (n, length), then classes (n,).

    Arguments:
        language: "zh", poems in characters, or "en", passages of plays in byte pairs.
        punctuation: whether it stays; in the Chinese poems it tells much of the genre.
        tokenizer: one of your own, such as that of a model that was trained before.
        length: tokens of a row, VERSE or PASSAGE if not given; longer texts lose their ends.
    """
    corpus = text.load(f"genre-{chosen('language', language, ('zh', 'en'))}")
    if not punctuation:
        corpus = corpus.without_punctuation()
    usual = VERSE if language == "zh" else PASSAGE
    if tokenizer is None and language == "zh":
        tokenizer = CharTokenizer.fit(corpus.train)
    elif tokenizer is None:
        tokenizer = BPETokenizer.fit(corpus.train, size=1024)
    return text.labelled(corpus, tokenizer, usual if length is None else length)


def bilingual(length: int = BOTH) -> Dataset:
    """Pairs of sentences in Chinese or in English, and whether the second follows the first.

    They are of the texts "tang", "genre-zh", "shakespeare" and "genre-en", without their classes;
    and halves of sentences of "pairs", of which each is read in one of its languages only. One
    vocabulary of byte pairs and Chinese characters serves them all. A sentence from elsewhere is
    one of the same text. Poems and passages with a sentence of more than 8 characters that a text
    holds out are left out; shorter ones may stand in several.
    """
    corpora = [text.load(name) for name in ("tang", "genre-zh", "shakespeare", "genre-en")]
    corpora, pairs = _without_held_out(corpora), text.load("pairs")
    learnt = [document for corpus in corpora for document in corpus.train]
    sides = (side for pair in pairs.train for side in pair)
    tokenizer = BPETokenizer.fit([*learnt, *sides], size=4096, apart=CHINESE)
    corpora += [_halved(pairs, 0), _halved(pairs, 1)]
    parts = [next_sentences(corpus, tokenizer, length) for corpus in corpora]
    joined: dict[str, Any] = {
        split: tuple(map(torch.cat, zip(*(getattr(part, split) for part in parts), strict=True)))
        for split in text.SPLITS
    }
    licence = "; ".join(dict.fromkeys(part.licence for part in parts[:-2]))
    return replace(parts[0], name="bilingual", source=SOURCE, licence=licence, **joined)


def _without_held_out(corpora: Sequence[text.Corpus]) -> list[text.Corpus]:
    """The same, less poems and passages for training with a sentence that one of them holds out."""
    held = {
        sentence
        for corpus in corpora
        for document in (*corpus.validation, *corpus.test)
        for sentence in sentences(document)
        if len(sentence) > SHORT
    }
    return [
        replace(corpus, train=tuple(d for d in corpus.train if held.isdisjoint(sentences(d))))
        if len(corpus.train) > 1
        else corpus
        for corpus in corpora
    ]


def _halved(pairs: text.Corpus, language: int) -> text.Corpus:
    """Sentences of one language as documents of two halves, the others of each split than those
    of the other language."""
    documents: dict[str, Any] = {}
    for split, of_both in pairs.splits.items():
        few = min(OF_EACH, len(of_both) // 2)
        chosen_ones = of_both[-few:] if language else of_both[:few]
        documents[split] = tuple("\n\n".join(_halves(pair[language])) for pair in chosen_ones)
    return replace(pairs, notes={}, **documents)


def _halves(sentence: str) -> tuple[str, str]:
    """Both halves of a sentence, cut between words."""
    middle = len(sentence) // 2
    if " " in sentence:
        middle = min((abs(k - middle), k) for k, c in enumerate(sentence) if c == " ")[1]
    return sentence[:middle], sentence[middle:]


def captions(*, language: str = "both", style: str = "both", length: int = PROMPT) -> Dataset:
    """Emoji, and their names as prompts: x (n, 3, 32, 32), then tokens (n, length).

    One vocabulary serves English words and Chinese characters, and is the same whatever is chosen:
    that of the names in training. Words that occur in other names only become UNKNOWN. Rows are
    those of ``tokenizer.rows``, so a prompt of your own is
    ``rows(dataset.tokenizer, ["red heart"], length, strict=True)``.

    Arguments:
        language: "en", "zh", or "both", which gives each picture twice, once under each name.
        style: "noto", "fluent", or "both".
        length: tokens of a row; a name ends in EOS, and PAD fills it up.

    Raises ValueError for other choices, for a length that is too small for a name, and where
    emoji.npz of your own has no names.
    """
    languages = chosen("language", language, LANGUAGES)
    styles = chosen("style", style, STYLES)
    dataset = load("emoji")
    if not dataset.notes:
        raise ValueError(f"{dataset.source} has no names; add notes_train and so on to emoji.npz")
    fitted = WordTokenizer.fit(
        getattr(note, key) for note in dataset.notes["train"] for key in LANGUAGES["both"]
    )
    splits: dict[str, Any] = {}
    notes: dict[str, tuple[Any, ...]] = {}
    for split, noted in dataset.notes.items():
        kept = [k for k, note in enumerate(noted) if note.style in styles for _ in languages]
        notes[split] = tuple(noted[k] for k in kept)
        names = [getattr(noted[k], languages[i % len(languages)]) for i, k in enumerate(kept)]
        x = getattr(dataset, split)[0]
        splits[split] = (x[torch.tensor(kept)], rows(fitted, names, length))
    return replace(dataset, classes=(), tokenizer=fitted, notes=notes, **splits)


keep_contract(globals())
