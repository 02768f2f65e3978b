"""Bundled texts: whole, split so that no text of the test is trained on, cut into rows."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

from gentext import data, text
from gentext.tokens.tokenizer import EOS, PAD, UNKNOWN, CharTokenizer
from gentext.tokens.wordpiece import WordPieceTokenizer


@pytest.mark.parametrize("name", text.names())
def test_every_text_is_there_and_split(name: str) -> None:
    corpus = text.load(name)
    assert all(corpus.splits.values())
    assert corpus.licence
    assert name in repr(corpus)
    for split, documents in corpus.splits.items():
        assert len(corpus.notes[split]) == len(documents)
    with pytest.raises(ValueError, match=r"gentext\.text\.load"):
        data.load(name)


def test_shakespeare_is_cut_at_lines_into_three() -> None:
    corpus = text.load("shakespeare")
    (train,), (validation,), (test,) = corpus.splits.values()
    total = len(train + validation + test)
    assert total == 1_145_849
    assert abs(len(test) / total - 0.1) < 1e-3
    assert abs(len(validation) / total - 0.05) < 1e-3
    assert train.endswith("\n")
    assert validation.endswith("\n")


def test_poems_that_share_a_line_are_in_one_split() -> None:
    corpus = text.load("tang")
    assert sum(map(len, corpus.splits.values())) == 10_312
    lines = {
        split: {line for poem in poems for line in re.split(r"\W+", poem) if line}
        for split, poems in corpus.splits.items()
    }
    assert not lines["train"] & lines["test"]
    assert not lines["train"] & lines["validation"]
    assert not lines["validation"] & lines["test"]
    form, author, title = corpus.notes["train"][0]
    assert form in ("五绝", "七绝")
    assert author
    assert title
    assert all(len(poem) in (24, 32) for poem in corpus.test)


def test_no_poem_of_the_test_is_a_variant_of_one_for_training() -> None:
    """Of the pairs of neighbouring characters in either, less than three tenths are in both."""
    corpus = text.load("tang")
    grams = {
        split: [set(itertools.pairwise(re.sub(r"\W", "", poem))) for poem in poems]
        for split, poems in corpus.splits.items()
    }
    places: dict[tuple[str, str], list[int]] = {}
    for k, held in enumerate(grams["test"]):
        for gram in held:
            places.setdefault(gram, []).append(k)
    for trained in grams["train"]:
        shared = Counter(k for gram in trained for k in places.get(gram, ()))
        for k, both in shared.items():
            assert both < 0.3 * len(trained | grams["test"][k])


@pytest.mark.parametrize("name", ["pairs", "names"])
def test_no_side_of_a_pair_is_in_two_splits(name: str) -> None:
    corpus = text.load(name)
    for side in (0, 1):
        texts = [{pair[side] for pair in pairs} for pairs in corpus.splits.values()]
        assert not texts[0] & texts[1]
        assert not texts[0] & texts[2]
        assert not texts[1] & texts[2]


def test_rows_of_a_stream_are_the_stream() -> None:
    corpus = text.load("shakespeare")
    tokenizer = CharTokenizer.fit(corpus.train)
    rows = text.windows(corpus, tokenizer, 64, stride=16)
    assert rows.shape == (64,)
    assert rows.tokenizer is tokenizer
    assert tokenizer.decode(rows.train[0][3].tolist()) == corpus.train[0][48:112]
    assert tokenizer.decode(rows.test[0].flatten().tolist()[:500]) == corpus.test[0][:500]
    with pytest.raises(ValueError, match="not one row of 900000; give shorter rows"):
        text.windows(corpus, tokenizer, 900_000)
    for wrong in ({"length": 0}, {"length": 64, "stride": 0}):
        with pytest.raises(ValueError, match="must be a whole number, at least 1"):
            text.windows(corpus, tokenizer, **wrong)


def test_rows_of_documents_end_and_are_filled_up() -> None:
    corpus = text.load("tang")
    corpus = replace(corpus, train=corpus.train[:50])
    tokenizer = CharTokenizer.fit(corpus.train)
    rows = text.padded(corpus, tokenizer, 33)
    for row, poem in zip(rows.train[0].tolist(), corpus.train, strict=True):
        assert tokenizer.decode(row) == poem
        assert row[len(poem)] == EOS
        assert set(row[len(poem) + 1 :]) <= {PAD}
    assert (rows.test[0] == UNKNOWN).any()
    short = text.padded(corpus, tokenizer, 30)
    assert len(short.test[0]) == sum(len(poem) == 24 for poem in corpus.test)
    with pytest.raises(ValueError, match=r"no document of train in 'tang' fits rows of 24; give"):
        text.padded(corpus, tokenizer, 24)


def test_rows_end_in_the_tokens_of_their_vocabulary() -> None:
    words = ["[UNK]", "a", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = WordPieceTokenizer.from_words(words)
    single = replace(text.load("tang"), train=("a a",), validation=("a",), test=("a",), notes={})
    assert text.padded(single, tokenizer, 4).train[0].tolist() == [[1, 1, 4, 2]]
    both = replace(single, train=(("a", "a a"),), validation=(("a", "a"),), test=(("a", "a"),))
    source, target = text.pairs(both, tokenizer, 4).train
    assert (source.tolist(), target.tolist()) == ([[1, 4, 2, 2]], [[1, 1, 4, 2]])


def test_pairs_go_both_ways() -> None:
    corpus = text.load("pairs")
    corpus = replace(corpus, train=corpus.train[:30])
    tokenizer = CharTokenizer.fit(side for pair in corpus.train for side in pair)
    there, back = (
        text.pairs(corpus, tokenizer, 100),
        text.pairs(corpus, tokenizer, 100, reverse=True),
    )
    for k, (en, zh) in enumerate(corpus.train):
        assert tokenizer.decode(there.train[0][k].tolist()) == en
        assert tokenizer.decode(there.train[1][k].tolist()) == zh
    assert torch.equal(there.train[0], back.train[1])
    assert torch.equal(there.train[1], back.train[0])


def test_a_text_of_ones_own_comes_before_the_bundled_one(tmp_path, monkeypatch) -> None:
    own = "".join(f"line {k}\n" for k in range(100))
    (tmp_path / "shakespeare.txt").write_text(own, "utf-8")
    corpus = text.load("shakespeare", root=tmp_path)
    assert corpus.train[0] + corpus.validation[0] + corpus.test[0] == own
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path))
    assert text.load("shakespeare").train == corpus.train
    assert len(text.load("tang").train) > 9000
    with pytest.raises(FileNotFoundError, match=r"put tang\.txt there"):
        text.load("tang", root=tmp_path)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (b"a\nb\nc\n", "prose", "'prose'.*stream, lines, pairs"),
        (b"a\nb\n", "lines", r"own\.txt cannot be read as lines: got 2 documents"),
        (b"", "stream", "0 characters is too short"),
        (b"\xef\xbb\xbf", "pairs", "got 0 documents"),
        (b"\xff\xfe\xff", "lines", "UTF-8"),
        (b"a\tb\nc\td\ne\n", "pairs", "source, a tab and a target; line 3 has not"),
    ],
)
def test_texts_that_cannot_be_read_say_why(tmp_path, content, kind, message) -> None:
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        text.read(tmp_path / "own.txt", kind=kind)


@pytest.mark.parametrize("kind", ["stream", "lines", "pairs"])
def test_a_text_of_ones_own_is_divided_as_promised(tmp_path, kind) -> None:
    rows = [f"story {k}: the cat sat\t好" if kind == "pairs" else f"a {k}\r" for k in range(1000)]
    (tmp_path / "own.txt").write_text("\ufeff" + "\n".join(rows), "utf-8")
    corpus = text.read(tmp_path / "own.txt", kind=kind)
    sizes = [len("\n".join(d)) if kind == "stream" else len(d) for d in corpus.splits.values()]
    for size, share in zip(sizes, (0.85, 0.05, 0.10), strict=True):
        assert size / sum(sizes) == pytest.approx(share, abs=0.01)
    characters = {c for part in corpus.splits.values() for document in part for c in str(document)}
    assert not characters & {"\ufeff", "\r"}


def test_a_file_of_another_encoding_is_read_where_it_is_named(tmp_path) -> None:
    lines = [f"第{k}行" for k in range(100)]
    (tmp_path / "own.txt").write_text("\n".join(lines), "gb18030")
    with pytest.raises(ValueError, match=r"own\.txt.*byte 0xb5 at place 0 \(line 1\).*gb18030"):
        text.read(tmp_path / "own.txt", kind="lines")
    corpus = text.read(tmp_path / "own.txt", kind="lines", encoding="gb18030")
    assert sorted(sum(corpus.splits.values(), ())) == sorted(lines)


def test_the_tilde_is_the_home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "tang.txt").write_text("\n".join(f"诗{k}" for k in range(100)), "utf-8")
    own = text.read("~/tang.txt", kind="lines")
    assert len(own.train) == 85
    assert text.load("tang", root="~").train == own.train
    monkeypatch.setenv("GENTEXT_DATA", "~")
    assert text.load("tang").train == own.train


def test_a_folder_of_texts_that_is_not_there_is_no_reason_for_the_bundled_one(monkeypatch) -> None:
    monkeypatch.setenv("GENTEXT_DATA", "/no/such/folder")
    with pytest.raises(FileNotFoundError, match=r"GENTEXT_DATA is '/no/such/folder', but there is"):
        text.load("tang")


def test_unknown_texts_and_damaged_ones_are_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"'bible'.*shakespeare, tang"):
        text.load("bible")
    source = replace(text.SOURCES["names"], sha256="0" * 64)
    monkeypatch.setitem(text.SOURCES, "names", source)
    text._dealt.cache_clear()
    with pytest.raises(ValueError, match="damaged"):
        text.load("names")


def test_pairs_of_which_none_fits_are_refused() -> None:
    corpus = text.load("pairs")
    with pytest.raises(ValueError, match=r"no pair of train in 'pairs' fits rows of 2"):
        text.pairs(corpus, CharTokenizer.fit(side for pair in corpus.train for side in pair), 2)


def test_a_warning_names_the_line_of_the_reader(tmp_path) -> None:
    opening = "once upon a time in a far away land there lived a king who"
    (tmp_path / "tang.txt").write_text("\n".join(f"{opening} had {k}" for k in range(100)), "utf-8")
    with pytest.warns(UserWarning, match="share passages") as warned:
        text.read(tmp_path / "tang.txt", kind="lines")
    assert warned[0].filename == __file__
    with pytest.warns(UserWarning, match="share passages") as warned:
        text.load("tang", root=tmp_path)
    assert warned[0].filename == __file__


GENRES = {"genre-zh": (1050, 150, 300), "genre-en": (500, 75, 150)}


@pytest.mark.parametrize("name", GENRES)
def test_genres_are_classes_of_equal_numbers(name: str) -> None:
    corpus = text.load(name)
    assert len(corpus.classes) == 3
    assert ", ".join(corpus.classes) in repr(corpus)
    for (split, labels), each in zip(corpus.labels.items(), GENRES[name], strict=True):
        assert Counter(labels) == {0: each, 1: each, 2: each}
        named = [note[0] for note in corpus.notes[split]]
        assert [corpus.classes[label] for label in labels] == named
    assert sum(map(len, corpus.splits.values())) == len(set(sum(corpus.splits.values(), ())))


def test_no_play_is_in_two_splits_and_no_held_out_one_in_the_text_of_shakespeare() -> None:
    """Passages begin as speeches of that text do, but where these are less than 25 characters."""
    corpus = text.load("genre-en")
    plays = {split: {note[1] for note in notes} for split, notes in corpus.notes.items()}
    assert [len(names) for names in plays.values()] == [25, 3, 8]
    assert len(set.union(*plays.values())) == 36
    whole = re.sub(r"\W+", " ", "".join(sum(text.load("shakespeare").splits.values(), ())))
    found: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for split, passages in corpus.splits.items():
        for passage, (_, play) in zip(passages, corpus.notes[split], strict=True):
            key = play if split == "train" else "held out"
            every[key] += 1
            found[key] += re.sub(r"\W+", " ", passage)[:25] in whole
    assert found["held out"] < 0.01 * every["held out"]
    for play in ("macbeth", "romeo and juliet", "julius caesar", "tempest", "merchant of venice"):
        assert found[play] > 0.5 * every[play]
    assert found["henry v"] < 0.05 * every["henry v"]


def test_no_held_out_poem_of_a_genre_shares_a_passage_with_what_is_trained_on() -> None:
    """A passage is 13 characters in a row, or the whole."""
    corpus = text.load("genre-zh").without_punctuation()
    tang = text.load("tang").without_punctuation()

    def passages(poems: tuple[str, ...]) -> set[str]:
        return {*poems} | {poem[i : i + 13] for poem in poems for i in range(len(poem) - 12)}

    held = [passages(part) for part in (corpus.validation, corpus.test)]
    assert not held[0] & held[1]
    assert not (held[0] | held[1]) & passages((*corpus.train, *tang.train))


def test_titles_are_those_of_the_quatrains_in_the_same_splits() -> None:
    corpus, tang = text.load("titles"), text.load("tang")
    assert sum(map(len, corpus.splits.values())) == 5760
    for split, pairs in corpus.splits.items():
        every = {
            poem: (form, author, title)
            for poem, (form, author, title) in zip(
                tang.splits[split], tang.notes[split], strict=True
            )
        }
        for (poem, title), (form, author) in zip(pairs, corpus.notes[split], strict=True):
            assert every[poem] == (form, author, title)
            assert 2 <= len(title) <= 8


def test_without_punctuation_words_and_apostrophes_stay() -> None:
    known = {"train": ("Who's there?--Romeo, arise;  -- 'tis I.", ("春晓，题一首。", "a—b"))}
    rest = dict.fromkeys(("validation", "test"), ("春眠 不觉晓。cat, 猫!",))
    corpus = text.Corpus(name="own", **known, **rest, notes={}, licence="", source="")
    bare = corpus.without_punctuation()
    assert bare.train == ("Who's there Romeo arise 'tis I", ("春晓题一首", "a b"))
    assert bare.test == bare.validation == ("春眠不觉晓cat猫",)
    poems = text.load("genre-zh").without_punctuation()
    assert not re.search(r"\W", "".join(sum(poems.splits.values(), ())))
    assert poems.labels == text.load("genre-zh").labels


def test_rows_with_labels_hold_the_beginning_of_each_document() -> None:
    corpus = text.load("genre-zh")
    letters = CharTokenizer.fit(corpus.train)
    made = text.labelled(corpus, letters, 50)
    assert made.classes == corpus.classes
    for split, documents in corpus.splits.items():
        tokens, labels = getattr(made, split)
        assert labels.tolist() == list(corpus.labels[split])
        for row, document in zip(tokens[:50].tolist(), documents, strict=False):
            begin = letters.encode(document, strict=False)[:49]
            assert row == [*begin, EOS, *[PAD] * (49 - len(begin))]
    with pytest.raises(ValueError, match="'tang' has no classes"):
        text.labelled(text.load("tang"), letters, 50)
    with pytest.raises(ValueError, match="length=1"):
        text.labelled(corpus, letters, 1)


def test_classes_of_ones_own_are_read_with_their_names(tmp_path) -> None:
    rows = [f"{('spam', 'ham')[k % 2]}\tletter {k} of mine" for k in range(100)]
    (tmp_path / "own.txt").write_text("\n".join(rows), "utf-8")
    corpus = text.read(tmp_path / "own.txt", kind="classes")
    assert corpus.classes == ("ham", "spam")
    assert [len(labels) for labels in corpus.labels.values()] == [85, 5, 10]
