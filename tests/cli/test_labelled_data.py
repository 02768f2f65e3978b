"""Data with classes, as an encoder reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import run

import gentext as gt
from gentext import data, text
from gentext.cli import labelled_data
from gentext.cli.trained import Trained, TrainingData
from gentext.data import prepared
from gentext.evaluation.baselines import ngram_baseline
from gentext.tokens.framing import framed_rows
from gentext.tokens.tokenizer import BPETokenizer, CharTokenizer

VAE = {"latent": 2, "hidden": 8}


def found(model, **more):
    return Trained(name="mine", file=Path("mine"), model=model, **more)


def digits(**more):
    model = gt.VAE(shape=(1, 8, 8), **VAE)
    return labelled_data.load("digits", found(model, **more), model)


def test_the_help_names_all_data_with_classes():
    shown = run("finetune", "--help").text
    assert all(name in shown for name in labelled_data.names())
    for name in labelled_data.names():
        loaded = text.load(name) if name in text.names() else data.load(name)
        assert len(loaded.classes) > 1


def test_data_with_a_part_for_validation_stay_as_they_are():
    ours, original = digits(), data.load("digits")
    for split in labelled_data.SPLITS:
        pairs = zip(getattr(ours, split), getattr(original, split), strict=True)
        assert all(a.equal(b) for a, b in pairs)


def test_data_without_one_give_a_tenth_of_the_training_always_the_same():
    model = gt.VAE(shape=(1, 28, 28), **VAE)
    once, again = (labelled_data.load("mnist", found(model), model) for _ in range(2))
    assert once.train[0].equal(again.train[0])
    assert len(once.validation[1]) == 200
    rows = [(*x.flatten().tolist(), y) for split in ("train", "validation")
            for x, y in zip(*(t.numpy() for t in getattr(once, split)), strict=True)]  # fmt: skip
    x, y = data.load("mnist").train
    whole = [(*a.flatten().tolist(), b) for a, b in zip(x.numpy(), y.numpy(), strict=True)]
    assert Counter(rows) == Counter(whole)
    assert once.test[0].equal(data.load("mnist").test[0])


def test_examples_without_a_label_are_left_out(monkeypatch):
    original = data.load("digits")
    x, y = original.train
    hidden = torch.where(torch.arange(len(y)) % 3 == 0, -1, y)
    own = replace(original, train=(x, hidden))
    monkeypatch.setattr(labelled_data.data_sets, "load", lambda name, full: own)
    kept = torch.arange(len(y)) % 3 != 0
    assert digits().train[0].equal(x[kept])
    assert digits().train[1].equal(y[kept])


def test_of_each_class_there_are_as_many_as_asked():
    whole = digits()
    few = labelled_data.few(whole, 5, seed=1)
    assert few.train[1].bincount().tolist() == [5] * 10
    shown = prepared.few_labels(whole, 5, seed=1).train[1] >= 0
    assert few.train[0].equal(whole.train[0][shown])
    with pytest.raises(ValueError, match="of class 8 there are 121 examples in the training data"):
        labelled_data.few(whole, 122, seed=1)


def test_an_encoder_of_two_levels_is_given_two():
    two = digits(data=TrainingData("digits", (1, 8, 8), levels=2))
    assert two.test[0].equal((data.load("digits").test[0] > 0.5).float())
    assert two.levels == 2


@pytest.fixture(scope="module")
def genres():
    return text.load("genre-zh")


def test_texts_are_those_of_the_book_in_the_encoder_s_tokens(genres):
    reader = CharTokenizer.fit(genres.train)
    model = gt.BERT(vocab_size=reader.size, context=20, layers=1, heads=1, width=4, pad=0)
    ours = labelled_data.load("genre-zh", found(model, tokenizer=reader), model)
    book = prepared.genres("zh", tokenizer=reader, length=20)
    assert ours.test[0].equal(book.test[0])
    assert ours.classes == book.classes
    assert ours.notes["test"] == genres.test
    few = labelled_data.few(ours, 3, seed=0)
    known = dict(zip(genres.train, genres.labels["train"], strict=True))
    for row, label, document in zip(*few.train, few.notes["train"], strict=True):
        assert known[document] == int(label)
        assert document.startswith(reader.decode(row.tolist()))


def test_the_original_bert_reads_texts_in_their_frame(genres):
    reader = CharTokenizer.fit(genres.train)
    sizes = {"context": 12, "layers": 1, "heads": 1, "width": 4}
    model = gt.OriginalBERT(vocab_size=reader.size, pad=0, **sizes)
    ours = labelled_data.load("genre-zh", found(model, tokenizer=reader), model)
    assert ours.test[0].equal(framed_rows(reader, genres.test, 12)[0])


def test_the_baseline_of_texts_reads_them_whole(genres):
    reader = CharTokenizer.fit(genres.train)
    model = gt.BERT(vocab_size=reader.size, context=4, layers=1, heads=1, width=4, pad=0)
    ours = labelled_data.load("genre-zh", found(model, tokenizer=reader), model)
    few = labelled_data.few(ours, 10, seed=0)
    called, predicted = labelled_data.baseline(few)
    labels = (few.train[1], few.validation[1])
    own = ngram_baseline(few.notes["train"], labels[0], genres.validation, labels[1])
    assert called == "n-grams of characters"
    assert predicted["test"].equal(own.predict(genres.test))


def test_the_share_of_unknown_characters_is_counted():
    assert labelled_data.share_unknown(["aab", "bcd?"], CharTokenizer("ab")) == 3 / 7
    assert labelled_data.share_unknown(["春眠"], BPETokenizer.fit(["a b"], size=260)) == 0
