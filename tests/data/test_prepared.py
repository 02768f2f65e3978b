"""Data as recipes take them: tables made continuous, pixels and names as tokens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch

from gentext import data, text
from gentext.data import files, prepared
from gentext.data.sentences import sentences
from gentext.data.sources import SOURCES
from gentext.tokens.tokenizer import (
    EOS,
    PAD,
    SPECIALS,
    UNKNOWN,
    CharTokenizer,
    Tokenizer,
    WordTokenizer,
    rows,
)

SPLITS = ("train", "validation", "test")


def test_the_shuttle_as_recipes_take_it_is_standardised_on_its_usual_rows():
    raw, usual = data.load("shuttle"), prepared.shuttle()
    unusual = prepared.shuttle(unusual=True)
    for split in ("train", "validation", "test"):
        labels = getattr(raw, split)[1]
        counts = [len(getattr(d, split)[0]) for d in (usual, unusual)]
        assert counts == labels.bincount().tolist()
    std, mean = torch.std_mean(usual.train[0], 0)
    torch.testing.assert_close(mean, torch.zeros(9), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(9), atol=1e-4, rtol=0)
    assert unusual.test[0].mean(0).abs().max() > 1  # in the units of the usual ones
    # The noise is less than a step between two whole numbers: their order stays.
    x, y = raw.train
    for column, scaled in zip(x[y == 0].T, usual.train[0].T, strict=True):
        values, group = column.unique(return_inverse=True)
        least, most = (
            torch.zeros(len(values)).scatter_reduce(0, group, scaled, how, include_self=False)
            for how in ("amin", "amax")
        )
        assert (most[:-1] < least[1:] + 1e-6).all()
    assert torch.equal(prepared.shuttle().test[0], usual.test[0])
    assert not torch.equal(prepared.shuttle(seed=1).test[0], usual.test[0])


def test_pixels_are_tokens_in_the_order_of_reading():
    images = data.load("digits")
    rows = prepared.pixels(images)
    assert rows.shape == (64,)
    assert rows.image_shape == (1, 8, 8)
    assert [len(s) for s in (rows.train, rows.validation, rows.test)] == [1, 1, 1]
    for row, image in zip(rows.test[0][:20], images.test[0], strict=False):
        assert row.tolist() == [round(float(v) * 16) for line in image[0] for v in line]
    assert rows.train[0].unique().tolist() == list(range(17))
    with pytest.raises(ValueError, match="'two-moons' has no grey levels"):
        prepared.pixels(data.load("two-moons"))


def test_binary_images_are_black_or_white_where_they_were_dark_or_light():
    grey, made = data.load("digits"), prepared.binary(data.load("digits"))
    assert made.levels == 2
    for split in SPLITS:
        levels = (getattr(grey, split)[0] * 16).round()
        assert torch.equal(getattr(made, split)[0] == 1, levels > 8)
        assert torch.equal(getattr(made, split)[1], getattr(grey, split)[1])
    assert made.train[0].unique().tolist() == [0, 1]


def test_a_plane_has_as_many_points_as_one_asks_for_and_the_same_ones_held_out():
    made, toy = prepared.plane("grid25", 1234), data.load("grid25")
    assert len(made.train[0]) == 1234
    assert torch.equal(made.test[0], toy.test[0])
    assert len(made.train) == len(made.test) == 1
    assert made.classes == ()
    assert torch.cdist(made.train[0].double(), toy.modes[0]).amin(1).max() < 0.3
    assert torch.equal(prepared.plane("grid25", 1234).train[0], made.train[0])


def test_few_labels_are_as_many_of_each_class_and_the_true_ones():
    full = data.load("digits")
    few, other = (prepared.few_labels(full, 7, seed=seed).train[1] for seed in (0, 1))
    known = few >= 0
    assert few[known].bincount().tolist() == [7] * 10
    assert torch.equal(few[known], full.train[1][known])
    assert (few[~known] == -1).all()
    assert not torch.equal(few, other)
    assert prepared.few_labels(full, 7).test is full.test
    for each in (0, -3):
        with pytest.raises(ValueError, match=f"each={each}"):
            prepared.few_labels(full, each)
    for other in (full.without_labels(), data.load("faces")):
        with pytest.raises(ValueError, match=rf"'{other.name}' has not one class for each"):
            prepared.few_labels(other, 7)


@pytest.fixture(scope="module")
def named() -> dict[str, data.Dataset]:
    return {key: prepared.captions(language=key) for key in ("en", "zh", "both")}


def test_captions_are_the_names_of_the_pictures(emoji, named):
    for split in SPLITS:
        x, notes = getattr(emoji, split)[0], emoji.notes[split]
        both = getattr(named["both"], split)
        for i, key in enumerate(("en", "zh")):
            pictures, tokens = getattr(named[key], split)
            assert torch.equal(pictures, x)
            assert torch.equal(both[0][i::2], x)
            assert torch.equal(both[1][i::2], tokens)
            assert named[key].notes[split] == notes == named["both"].notes[split][i::2]
            decode = named[key].tokenizer.decode
            for row, note in zip(tokens, notes, strict=True):
                known = UNKNOWN not in row
                assert (decode(row.tolist()) == getattr(note, key)) is known
                assert known or split != "train"


def test_captions_are_rows_of_tokens_of_one_vocabulary(named):
    assert len({d.tokenizer.to_json() for d in named.values()}) == 1
    for d in named.values():
        assert isinstance(d.tokenizer, Tokenizer)
        assert d.classes == ()
        for split in SPLITS:
            x, tokens = getattr(d, split)
            assert tokens.shape == (len(x), prepared.PROMPT)
            assert tokens.dtype == torch.int64
            assert 0 <= tokens.min() <= tokens.max() < d.tokenizer.size
            ends = (tokens == EOS).int()
            assert torch.equal(ends.sum(1), torch.ones(len(x), dtype=torch.long))
            after = ends.cumsum(1) - ends > 0
            assert torch.equal(tokens == PAD, after), "padding after the end, and nowhere else"


def test_captions_know_the_words_of_training_alone(named):
    d = named["both"]
    seen = {word.casefold() for n in d.notes["train"] for word in n.en.replace("-", " ").split()}
    known = {word.casefold() for word in d.tokenizer.words}
    assert seen <= known
    assert d.train[1].unique().tolist() == [PAD, EOS, *range(len(SPECIALS), d.tokenizer.size)]
    unseen = {w for n in d.notes["test"] for w in n.en.replace("-", " ").split()} - seen
    assert "penguin" in unseen
    with pytest.raises(ValueError, match="'penguin'"):
        rows(d.tokenizer, ["red penguin"], 16, strict=True)


@pytest.mark.parametrize("style", ["noto", "fluent"])
def test_captions_of_one_style(emoji, style):
    d = prepared.captions(language="zh", style=style, length=20)
    assert d.shape == (3, 32, 32)
    for split in SPLITS:
        kept = [k for k, note in enumerate(emoji.notes[split]) if note.style == style]
        assert torch.equal(getattr(d, split)[0], getattr(emoji, split)[0][kept])
        assert {note.style for note in d.notes[split]} == {style}
        assert getattr(d, split)[1].shape == (len(kept), 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "fr"}, "'fr'.*en, zh, both"),
        ({"style": "apple"}, "'apple'.*noto, fluent, both"),
        ({"length": 4}, "tokens with EOS; rows are 4"),
    ],
)
def test_captions_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prepared.captions(**options)


def test_genres_are_rows_of_tokens_and_classes():
    for language, length in (("zh", prepared.VERSE), ("en", prepared.PASSAGE)):
        corpus, made = text.load(f"genre-{language}"), prepared.genres(language)
        assert made.shape == (length,)
        assert made.classes == corpus.classes
        for split in SPLITS:
            tokens, labels = getattr(made, split)
            assert labels.tolist() == list(corpus.labels[split])
            assert (tokens == EOS).sum(1).eq(1).all()
        decoded = [made.tokenizer.decode(row) for row in made.train[0][:100].tolist()]
        assert decoded == list(corpus.train[:100])


def test_genres_without_punctuation_and_in_the_tokens_of_another_model():
    words = WordTokenizer.fit(text.load("shakespeare").train)
    made = prepared.genres("en", tokenizer=words, length=20)
    assert made.tokenizer is words
    assert made.shape == (20,)
    bare = prepared.genres(punctuation=False)
    assert not set(bare.tokenizer.alphabet) & set("，。？！、；：")
    assert torch.equal(bare.test[1], prepared.genres().test[1])
    with pytest.raises(ValueError, match=r"'fr'.*zh, en"):
        prepared.genres("fr")


def test_few_labels_of_genres_are_as_many_of_each():
    few = prepared.few_labels(prepared.genres(), 33).train[1]
    assert few[few >= 0].bincount().tolist() == [33] * 3


def test_titles_are_rows_of_poems_and_of_titles():
    corpus, made = text.load("titles"), prepared.titles()
    for split in SPLITS:
        pairs = getattr(corpus, split)
        assert [len(side) for side in getattr(made, split)] == [len(pairs)] * 2
        for number, side in enumerate(getattr(made, split)):
            for row, pair in zip(side[:100].tolist(), pairs, strict=False):
                assert split != "train" or made.tokenizer.decode(row) == pair[number]
    assert made.shape == (prepared.POEM,)
    letters = CharTokenizer.fit(corpus.test[0])
    assert prepared.titles(tokenizer=letters).tokenizer is letters


@pytest.fixture(scope="module")
def both_languages() -> data.Dataset:
    return prepared.bilingual()


def test_a_bert_of_both_languages_reads_pairs_of_one_text(both_languages: data.Dataset) -> None:
    """[CLS] a [SEP] b [SEP] and its segments; half of the pairs follow one another."""
    tokens, segments, follows = both_languages.train
    end = both_languages.tokenizer.eos
    assert tokens.shape == segments.shape == (len(follows), prepared.BOTH)
    assert ((tokens == end).sum(1) == 2).all()
    assert (tokens[:, 0] == both_languages.tokenizer.bos).all()
    assert abs(float(follows.double().mean()) - 0.5) < 1e-3
    first_end = (tokens == end).int().argmax(1, keepdim=True)
    places = torch.arange(prepared.BOTH)
    assert torch.equal(segments == 1, (places > first_end) & (tokens != PAD))


def test_neither_held_out_texts_nor_translations_are_read(both_languages: data.Dataset) -> None:
    """Of first sentences that fit whole, nearly all in training are there, and none held out."""
    tokenizer = both_languages.tokenizer
    rows_read = both_languages.train[0].tolist()
    read = {tuple(row[1 : row.index(tokenizer.eos)]) for row in rows_read}

    def short(documents: Iterable[str]) -> set[tuple[int, ...]]:
        first = [sentences(document)[0] for document in documents if len(sentences(document)) > 1]
        encoded = [tuple(tokenizer.encode(sentence)) for sentence in first]
        return {tokens for tokens in encoded if 12 <= len(tokens) <= 20}

    for name in ("tang", "genre-zh", "genre-en"):
        corpus = text.load(name)
        learnt, held_out = short(corpus.train), short(corpus.test)
        assert len(learnt & read) > 0.9 * len(learnt) > 90
        assert not held_out & read
    ends = [[k for k, token in enumerate(row) if token == tokenizer.eos] for row in rows_read]
    whole = {
        (tuple(row[1:a]), tuple(row[a + 1 : b]))
        for row, (a, b), follows in zip(rows_read, ends, both_languages.train[2], strict=True)
        if follows
    }
    of_translations = [
        [
            tuple(tuple(tokenizer.encode(half.strip())) for half in prepared._halves(side)) in whole
            for side in pair
        ]
        for pair in text.load("pairs").train
    ]
    assert all(sum(one) > 0.4 * prepared.OF_EACH for one in zip(*of_translations, strict=True))
    assert not any(a and b for a, b in of_translations)


def test_halves_are_cut_between_words() -> None:
    assert prepared._halves("She found two birds") == ("She found", " two birds")
    assert prepared._halves("她找到了鸟。") == ("她找到", "了鸟。")
    assert prepared._halves("六") == ("", "六")


def test_levels_of_sounds_are_the_bytes_of_the_file():
    d = prepared.sound_levels(data.load("drums"))
    with np.load(files.bundled(SOURCES["drums"])) as stored:
        for split in ("train", "validation", "test"):
            (k,) = getattr(d, split)
            assert k.dtype == torch.int64
            assert (k.numpy() == stored[f"x_{split}"]).all()
    assert (d.rate, d.classes, len(d.notes["test"])) == (16_000, (), 31)
    few = prepared.sound_levels(data.load("drums"), 8).train[0]
    assert few.unique().tolist() == list(range(8))
    with pytest.raises(ValueError, match="'digits' has no rate: it holds no sounds"):
        prepared.sound_levels(data.load("digits"))
