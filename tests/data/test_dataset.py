"""The interface of data sets: what ``load`` gives, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_mnist import is_tiny, write

from gentext import data
from gentext.data import files
from gentext.data.sources import SOURCES
from gentext.sequences.wavenet import mu_law_encode


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("fashion-mnist", (3000, 0, 1000)),
        ("mnist", (2000, 0, 500)),
        ("faces", (5400, 0, 600)),
        ("emoji", (1717, 100, 230)),
        ("digits", (1257, 180, 360)),
    ],
)
def test_images_are_floats_in_the_unit_interval_on_their_grey_levels(name, sizes):
    d = data.load(name)
    assert tuple(len(s[0]) if s else 0 for s in (d.train, d.validation, d.test)) == sizes
    for split in filter(None, (d.train, d.validation, d.test)):
        x, y = split
        assert x.dtype == torch.float32
        assert x.shape == (len(x), *d.shape)
        assert y.dtype == torch.int64
        assert y.shape[0] == len(x)
        level = x.double() * (d.levels - 1)
        assert (level - level.round()).abs().max() < 1e-4
    assert d.train[0].min() == 0
    assert d.train[0].max() == 1


@pytest.mark.parametrize(
    ("name", "rate", "sizes"),
    [
        ("drums", 16_000, (180, 32, 31)),
        ("notes", 8000, (139, 38, 63)),
        ("spoken", 8000, (200, 40, 80)),
    ],
)
def test_sounds_are_floats_of_a_rate_on_their_mu_law_levels(name, rate, sizes):
    d = data.load(name)
    assert d.rate == rate
    assert data.load("digits").rate is None
    assert tuple(len(s[0]) for s in (d.train, d.validation, d.test)) == sizes
    with np.load(files.bundled(SOURCES[name])) as stored:
        for split in ("train", "validation", "test"):
            x, y = getattr(d, split)
            assert x.dtype == torch.float32
            assert x.shape == (len(y), *d.shape)
            assert x.abs().max() <= 1
            assert (x.abs().amax(1) > 0.01).all()
            k = stored[f"x_{split}"]
            middle = k / 127.5 - 1
            sound = np.sign(middle) * (256 ** np.abs(middle) - 1) / 255
            np.testing.assert_allclose(x.numpy(), sound, rtol=1e-4, atol=1e-7)
            assert (mu_law_encode(x).numpy() == k).all()


@pytest.mark.parametrize("name", ["digits", "faces", "shuttle", "drums", "notes", "spoken"])
def test_what_is_bundled_whole_is_its_own_full_set(name):
    assert torch.equal(data.load(name).train[0], data.load(name, full=True).train[0])
    assert data.fetch(name) == files.BUNDLED


def test_without_labels_keeps_only_the_examples():
    d = data.load("digits")
    bare = d.without_labels()
    assert [len(s) for s in (bare.train, bare.validation, bare.test)] == [1, 1, 1]
    assert bare.train[0] is d.train[0]
    assert len(data.load("mnist").without_labels().validation) == 0


def test_repr_tells_sizes_shape_source_and_licence_in_a_few_lines():
    text = repr(data.load("digits"))
    for fact in ("1,257", "180", "360", "(1, 8, 8)", "scikit-learn", "BSD-3"):
        assert fact in text
    assert len(text) < 500


@pytest.mark.parametrize("call", [data.load, data.fetch, data.describe])
def test_unknown_name_lists_the_known_ones(call):
    with pytest.raises(ValueError, match=r"'cifar': see `gentext data list` for all \d+"):
        call("cifar")
    with pytest.raises(ValueError, match=r"did you mean 'mnist'\?"):
        call("mnists")
    with pytest.raises(ValueError, match=r"load it by gentext\.text\.load\('tang'\)"):
        call("tang")


@pytest.mark.parametrize("name", data.names())
def test_description_states_content_sizes_and_licence(name):
    d, told = data.load(name), data.describe(name)
    assert f"{len(d.train[0]):,}" in told.bundled
    assert f"{len(d.test[0]):,}" in told.bundled
    assert told.licence == d.licence
    assert told.content in str(told)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((), "empty"),
        ((torch.zeros(0, 2),), "empty"),
        ((torch.tensor(3.0),), "a mere number"),
        ((torch.zeros(3, 2), torch.tensor(1)), "a mere number"),
        ((torch.zeros(3, 4),), r"shape \(3, 4\)"),
        ((torch.zeros(3, 2), torch.zeros(2)), r"lengths \[3, 2\]"),
        ((torch.tensor([[0.0, torch.nan]]),), "NaN"),
    ],
)
def test_a_data_set_of_your_own_is_checked(train, message):
    with pytest.raises(ValueError, match=message):
        data.Dataset(name="own", train=train, test=(), shape=(2,))


@pytest.mark.parametrize(
    "train", [torch.zeros(3, 2), [torch.zeros(3, 2)], (torch.zeros(3, 2).numpy(),), None]
)
def test_what_is_no_tuple_of_tensors_is_refused(train):
    d = data.Dataset(name="own", train=(torch.zeros(3, 2),), test=(), shape=(2,))
    object.__setattr__(d, "train", train)  # types are checked in tests before this is reached
    with pytest.raises(ValueError, match=r"train of 'own' is no tuple of tensors; give \(x,\), or"):
        d.__post_init__()


def test_tokens_are_data_like_others():
    x, y = torch.arange(12).view(4, 3), torch.zeros(4, 2, dtype=torch.long)
    d = data.Dataset(name="own", train=(x, y), test=(x[:1], y[:1]), shape=(3,), tokenizer="made")
    assert d.train[0].dtype == torch.int64
    assert d.without_labels().tokenizer == "made"
    assert "train: 4, test: 1, shape: (3,)" in repr(d)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(n, \*\(5,\)\)"):
        data.Dataset(name="own", train=(x,), test=(), shape=(5,))


def test_notes_are_one_for_each_example(emoji):
    few = {"train": emoji.notes["train"][:5], "validation": (), "test": ()}
    with pytest.raises(ValueError, match="1717 examples but 5 notes"):
        replace(emoji, notes=few)
    with pytest.raises(ValueError, match="1717 examples but 0 notes"):
        replace(emoji, notes={"test": emoji.notes["test"]})
    assert emoji.without_labels().notes is emoji.notes


def test_full_set_is_never_replaced_by_the_excerpt(register):
    register()
    with pytest.raises(FileNotFoundError) as caught:
        data.load("mnist", full=True)
    for fact in ("60,000 + 10,000", "MB", "licence", "download=True", "gentext data fetch mnist"):
        assert fact in str(caught.value)
    assert "GENTEXT_DATA/mnist/" in str(caught.value)


def test_excerpt_stays_the_default_when_the_full_set_is_here(register, tiny):
    register()
    write(files.cache_folder("mnist"), tiny)
    assert len(data.load("mnist").train[0]) == 2000
    assert is_tiny(data.load("mnist", full=True), tiny)


def test_no_more_emoji_can_be_had_than_are_bundled(tmp_path):
    for call in (
        lambda: data.load("emoji", full=True),
        lambda: data.load("emoji", full=True, download=True),
        lambda: data.fetch("emoji"),
        lambda: data.fetch("emoji", root=tmp_path),
    ):
        with pytest.raises(FileNotFoundError, match=r"'emoji'.*1,717.*GENTEXT_DATA/emoji/"):
            call()
