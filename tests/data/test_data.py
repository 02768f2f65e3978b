"""Data sets: what is bundled, where the full sets are found, and how downloads fail."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import random
import socketserver
import threading
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gentext import data, recipes
from gentext.data import download, files, prepared
from gentext.data.sources import SOURCES, Archive, RemoteFile
from gentext.tokens.tokenizer import EOS, PAD, SPECIALS, UNKNOWN, Tokenizer, WordTokenizer, rows

IMAGES = ("fashion-mnist", "mnist", "faces", "emoji", "digits")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(autouse=True)
def own_machine(monkeypatch, tmp_path):
    """No settings and no cache of whoever runs the tests."""
    for variable in ("GENTEXT_DATA", "GENTEXT_MIRROR", "GENTEXT_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda name: tmp_path / "cache")


# What is bundled.


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


def test_classes_are_balanced_in_the_excerpts():
    fashion, mnist = data.load("fashion-mnist"), data.load("mnist")
    assert fashion.train[1].bincount().tolist() == [300] * 10
    assert fashion.test[1].bincount().tolist() == [100] * 10
    assert mnist.train[1].bincount().tolist() == [200] * 10
    assert mnist.test[1].bincount().tolist() == [50] * 10
    assert len(fashion.classes) == len(mnist.classes) == 10


@pytest.mark.parametrize("name", ["mnist", "faces", "emoji"])
def test_no_test_image_is_in_the_training_set(name):
    d = data.load(name)
    rows = [
        set(map(bytes, s[0].mul(255).round().byte().flatten(1).numpy())) for s in (d.train, d.test)
    ]
    assert len(rows[0]) == len(d.train[0])
    assert not rows[0] & rows[1]


def test_faces_have_named_attributes_within_their_ranges():
    d = data.load("faces")
    y = torch.cat([d.train[1], d.test[1]])
    assert y.shape == (6000, len(d.attributes)) == (6000, 8)
    highest = dict(zip(d.attributes, y.amax(0).tolist(), strict=True))
    assert {highest.pop("skin"), highest.pop("hair_color")} == {7, 10}
    assert set(highest.values()) == {1}
    assert y.min() == 0


def test_faces_show_the_skin_that_their_attribute_names():
    d = data.load("faces")
    with np.load(files.BUNDLED / "faces.npz", allow_pickle=False) as arrays:
        colours = [bytes.fromhex(c.removeprefix("#")) for c in arrays["skin_colors"]]
    palette = torch.tensor([list(c) for c in colours])
    x, skin = d.test[0].mul(255).round().long(), d.test[1][:, d.attributes.index("skin")]
    pixels = (x[:, None] == palette[:, :, None, None]).all(2).sum((2, 3))
    shown = pixels.sum(1) > 0  # a beard or long hair may hide it
    assert shown.float().mean() > 0.9
    assert torch.equal(pixels.argmax(1)[shown], skin[shown])


def test_faces_stand_upright_with_the_channels_first():
    with np.load(files.BUNDLED / "faces.npz", allow_pickle=False) as arrays:
        pictures = torch.from_numpy(arrays["x"][-600:])  # height, width, channels
    x = data.load("faces").test[0].mul(255).round().byte()
    assert all(torch.equal(x[:, c], pictures[..., c]) for c in range(3))


def test_digits_are_those_of_scikit_learn_split_as_the_book_says():
    datasets = pytest.importorskip("sklearn.datasets")
    selection = pytest.importorskip("sklearn.model_selection")
    x, y = datasets.load_digits(return_X_y=True)
    rest, test = selection.train_test_split(
        np.arange(len(x)), test_size=360, stratify=y, random_state=0
    )
    train, validation = selection.train_test_split(
        rest, test_size=180, stratify=y[rest], random_state=0
    )
    d = data.load("digits")
    for split, kept in ((d.train, train), (d.validation, validation), (d.test, test)):
        assert torch.equal(split[0].flatten(1) * 16, torch.tensor(x[kept]).float())
        assert split[1].tolist() == y[kept].tolist()
        shares = split[1].bincount() / len(kept)
        assert (shares - torch.tensor(y).bincount() / len(y)).abs().max() < 0.01


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="the package dataset-fashion-mnist is absent")
def test_excerpt_is_the_first_images_of_each_class_of_the_full_set():
    excerpt, full = data.load("fashion-mnist"), data.load("fashion-mnist", full=True)
    assert str(DEBIAN) in full.source
    assert full.train[1].bincount().tolist() == [6000] * 10
    for part, whole, count in ((excerpt.train, full.train, 300), (excerpt.test, full.test, 100)):
        for label in range(10):
            mine = part[0][part[1] == label]
            assert torch.equal(mine, whole[0][whole[1] == label][:count])


def test_the_shuttle_is_a_table_of_whole_numbers_with_rare_unusual_rows():
    d = data.load("shuttle")
    assert [len(s[0]) for s in (d.train, d.validation, d.test)] == [39_097, 5_000, 5_000]
    assert d.levels is None
    for x, y in (d.train, d.validation, d.test):
        assert x.dtype == torch.float32
        assert torch.equal(x, x.round())
        assert set(y.unique().tolist()) == {0, 1}
        assert 0.05 < y.float().mean() < 0.1


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


# Emoji.

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def emoji() -> data.Dataset:
    return data.load("emoji")


def test_the_pictures_of_one_emoji_are_in_one_split_under_one_name(emoji):
    codes = {split: {note.code for note in emoji.notes[split]} for split in SPLITS}
    assert [len(codes[split]) for split in SPLITS] == [861, 50, 115]
    assert len(set.union(*codes.values())) == 861 + 50 + 115
    everything = [note for split in SPLITS for note in emoji.notes[split]]
    assert len({(note.code, note.style) for note in everything}) == len(everything) == 2047
    assert Counter(note.style for note in everything) == {"noto": 1026, "fluent": 1021}
    for key in ("en", "zh"):
        named = {note.code: getattr(note, key) for note in everything}
        assert all(named[note.code] == getattr(note, key) for note in everything)
        assert len(set(named.values())) == len(named), "no name is in two splits"
    pictures = [set(map(bytes, getattr(emoji, s)[0].mul(255).byte().numpy())) for s in SPLITS]
    assert len(set.union(*pictures)) == sum(map(len, pictures)), "no picture is in two splits"
    assert sum(map(len, pictures)) == 2046, "Fluent draws one face for two cats"


def test_emoji_have_a_class_and_the_names_of_unicode(emoji):
    known = {
        note.en: (note, emoji.classes[y])
        for split in SPLITS
        for note, y in zip(emoji.notes[split], getattr(emoji, split)[1].tolist(), strict=True)
    }
    for name, zh, kind in [
        ("swan", "天鹅", "Animals & Nature"),
        ("avocado", "鳄梨", "Food & Drink"),
        ("rocket", "火箭", "Travel & Places"),
        ("pool 8 ball", "台球", "Activities"),
    ]:
        note, found = known[name]
        assert (note.zh, found) == (zh, kind)
    for split in SPLITS:
        labels = getattr(emoji, split)[1]
        assert labels.unique().tolist() == list(range(6))
        kinds = dict(zip((n.code for n in emoji.notes[split]), labels.tolist(), strict=True))
        assert [kinds[note.code] for note in emoji.notes[split]] == labels.tolist()


@pytest.mark.parametrize(
    ("name", "colour"),
    [
        ("red heart", (1, 0, 0)),
        ("green heart", (0, 1, 0)),
        ("blue heart", (0, 0, 1)),
        ("yellow heart", (1, 1, 0)),
    ],
)
def test_hearts_have_the_colour_of_their_name_on_white(emoji, name, colour):
    everything = torch.cat([getattr(emoji, split)[0] for split in SPLITS])
    notes = [note for split in SPLITS for note in emoji.notes[split]]
    pictures = everything[[k for k, note in enumerate(notes) if note.en == name]]
    assert len(pictures) == 2
    middle, lit = pictures[:, :, 12:20, 12:20].mean((2, 3)), torch.tensor(colour) == 1
    assert (middle[:, lit].amin(1) > middle[:, ~lit].amax(1) + 0.2).all()
    # A heart stands upright: two bumps above, a point below, and paper in the corners.
    assert (pictures[:, :, [0, 0, -1, -1], [0, -1, 0, -1]] == 1).all()
    ink = (pictures.mean(1) < 0.95).float().sum(2)
    assert (ink[:, :16].sum(1) > 1.2 * ink[:, 16:].sum(1)).all()


def test_emoji_are_colourful_and_stand_on_white(emoji):
    x = emoji.train[0]
    assert x.is_contiguous()
    corners = x[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 1).float().mean() > 0.8
    assert (x.amax(1) - x.amin(1) > 0.5).float().mean() > 0.2


def test_no_more_emoji_can_be_had_than_are_bundled(tmp_path):
    for call in (
        lambda: data.load("emoji", full=True),
        lambda: data.load("emoji", full=True, download=True),
        lambda: data.fetch("emoji"),
        lambda: data.fetch("emoji", root=tmp_path),
    ):
        with pytest.raises(FileNotFoundError, match=r"'emoji'.*1,717.*GENTEXT_DATA/emoji/"):
            call()


def own_emoji(folder: Path, notes: np.ndarray | None) -> None:
    x = np.zeros((3, 32, 32, 3), np.uint8)
    x[..., 0] = 255
    arrays = {
        f"{key}_{split}": v
        for split in ("train", "test")
        for key, v in (("x", x), ("y", np.arange(3)), ("notes", notes))
        if v is not None
    }
    np.savez(folder / "emoji.npz", **arrays)


def test_emoji_of_ones_own_may_have_notes(tmp_path, monkeypatch):
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path))
    (tmp_path / "emoji").mkdir()
    notes = np.array([("1F354", "noto", f"burger {k}", "汉堡") for k in range(3)])
    own_emoji(tmp_path / "emoji", notes)
    for full in (False, True):
        d = data.load("emoji", root=tmp_path, full=full)
        assert [note.en for note in d.notes["test"]] == ["burger 0", "burger 1", "burger 2"]
        assert (d.train[0][:, 0] == 1).all()
        assert (d.train[0][:, 1:] == 0).all()
    assert data.fetch("emoji") == tmp_path / "emoji"
    assert prepared.captions(language="zh", style="both").tokenizer.words[:3] == (
        "burger",
        "堡",
        "汉",
    )
    own_emoji(tmp_path / "emoji", notes[:, :3])
    with pytest.raises(ValueError, match="4 columns"):
        data.load("emoji", root=tmp_path)
    own_emoji(tmp_path / "emoji", None)
    assert not data.load("emoji", root=tmp_path).notes
    with pytest.raises(ValueError, match=r"no names.*notes_train"):
        prepared.captions()


def test_members_packed_by_lzma_that_are_damaged_are_refused(tmp_path):
    content = bytearray((files.BUNDLED / "emoji.npz").read_bytes())
    with zipfile.ZipFile(files.BUNDLED / "emoji.npz") as packed:
        assert {entry.compress_type for entry in packed.infolist()} == {zipfile.ZIP_LZMA}
    content[5000:5100] = bytes(100)
    (tmp_path / "emoji.npz").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        data.load("emoji", root=tmp_path)


# Emoji and their names.


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


def test_notes_are_one_for_each_example(emoji):
    few = {"train": emoji.notes["train"][:5], "validation": (), "test": ()}
    with pytest.raises(ValueError, match="1717 examples but 5 notes"):
        replace(emoji, notes=few)
    assert emoji.without_labels().notes is emoji.notes


# Words.


@pytest.mark.parametrize(
    "text",
    ["red heart", "汉堡", "T恤", "X射线", "eight-thirty", "man’s shoe", "pool 8 ball", "DVD", ""],
)
def test_words_and_chinese_characters_come_back(text):
    made = WordTokenizer.fit([text, "more words 更多的字"])
    assert made.decode(made.encode(text)) == text


def test_texts_of_random_words_come_back():
    rng = random.Random(0)
    words = ["red", "Heart", "-", "’s", "x1", "é", "红", "心", "龘"]
    made = WordTokenizer(words)
    for _ in range(200):
        chosen = rng.choices(range(len(words)), k=rng.randrange(8))
        tokens = [k + len(SPECIALS) for k in chosen]
        assert made.encode(made.decode(tokens)) == tokens
    assert made.size == len(words) + len(SPECIALS)


def test_the_commonest_word_is_first_and_capitals_are_forgiven():
    made = WordTokenizer.fit(["cat face", "cat", "t-shirt T-Rex", "cat face 猫", "cat’s Tail -"])
    assert made.words == ("-", "cat", "face", "Rex", "T", "Tail", "cat’s", "shirt", "t", "猫")
    for text in ("t-shirt", "T-Rex", "Tail"):
        assert made.decode(made.encode(text)) == text
    assert made.decode(made.encode("Cat FACE tail")) == "cat face Tail"
    assert made.encode("cat's") == made.encode("CAT’S") == made.encode("cat’s")


def test_an_unknown_word_is_named_or_marked():
    made = WordTokenizer(["red", "红", "heart"])
    with pytest.raises(ValueError, match=r"'lion' is not among .* 3 words"):
        made.encode("red lion heart")
    assert made.encode("red lion 红狮", strict=False) == [4, UNKNOWN, 5, UNKNOWN]
    assert made.decode([1, 4, UNKNOWN, 6, EOS, PAD]) == "red \ufffd heart"
    with pytest.raises(ValueError, match="from 7 to 7, but this tokenizer has 0 to 6"):
        made.decode([7])


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "one at least"), (("a", "a"), "1 of them different"), (("a b",), "'a b' is not one")],
)
def test_a_vocabulary_has_each_word_once(words, message):
    with pytest.raises(ValueError, match=message):
        WordTokenizer(words)


@pytest.mark.parametrize("name", [*IMAGES, "shuttle"])
def test_bundled_files_are_those_the_registry_describes(name):
    content = (files.BUNDLED / f"{name}.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest() == SOURCES[name].sha256


def test_bundled_files_are_small():
    assert sum(path.stat().st_size for path in files.BUNDLED.iterdir()) < 10e6


@pytest.mark.parametrize("name", ["digits", "faces", "shuttle"])
def test_what_is_bundled_whole_is_its_own_full_set(name):
    assert torch.equal(data.load(name).train[0], data.load(name, full=True).train[0])
    assert data.fetch(name) == files.BUNDLED


# The interface.


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
    with pytest.raises(ValueError, match=r"'cifar'.*fashion-mnist.*digits.*two-moons"):
        call("cifar")


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
        ((torch.zeros(3, 4),), r"shape \(3, 4\)"),
        ((torch.zeros(3, 2), torch.zeros(2)), r"lengths \[3, 2\]"),
        ((torch.tensor([[0.0, torch.nan]]),), "NaN"),
    ],
)
def test_a_data_set_of_your_own_is_checked(train, message):
    with pytest.raises(ValueError, match=message):
        data.Dataset(name="own", train=train, test=(), shape=(2,))


# Tokens.


def test_tokens_are_data_like_others():
    x, y = torch.arange(12).view(4, 3), torch.zeros(4, 2, dtype=torch.long)
    d = data.Dataset(name="own", train=(x, y), test=(x[:1], y[:1]), shape=(3,), tokenizer="made")
    assert d.train[0].dtype == torch.int64
    assert d.without_labels().tokenizer == "made"
    assert "train: 4, test: 1, shape: (3,)" in repr(d)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(n, \*\(5,\)\)"):
        data.Dataset(name="own", train=(x,), test=(), shape=(5,))


def test_pixels_are_tokens_in_the_order_of_reading():
    images = data.load("digits")
    rows = recipes.pixels(images)
    assert rows.shape == (64,)
    assert rows.image_shape == (1, 8, 8)
    assert [len(s) for s in (rows.train, rows.validation, rows.test)] == [1, 1, 1]
    for row, image in zip(rows.test[0][:20], images.test[0], strict=False):
        assert row.tolist() == [round(float(v) * 16) for line in image[0] for v in line]
    assert rows.train[0].unique().tolist() == list(range(17))
    with pytest.raises(ValueError, match="'two-moons' has no grey levels"):
        recipes.pixels(data.load("two-moons"))


# Data of the reader's own.


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


@pytest.fixture
def tiny() -> dict[str, bytes]:
    """The four files of a tiny MNIST, decompressed, with noise so that they do not shrink."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte.gz": rng.integers(256, size=(400, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte.gz": np.arange(400, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte.gz": rng.integers(256, size=(20, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte.gz": np.arange(20, dtype=np.uint8) % 10,
    }
    return {name: idx(array) for name, array in arrays.items()}


@pytest.fixture
def register(monkeypatch, tiny):
    """Makes the tiny files the full MNIST, served by the mirrors that are given."""

    def put(*mirrors: str) -> Archive:
        entries = (
            RemoteFile(name, len(content), hashlib.sha256(content).hexdigest())
            for name, content in tiny.items()
        )
        archive = Archive("tiny", tuple(entries), mirrors, folders=("MNIST/raw",))
        monkeypatch.setitem(SOURCES, "mnist", replace(SOURCES["mnist"], archive=archive))
        return archive

    return put


def write(folder: Path, contents: dict[str, bytes], compressed: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if compressed:
            (folder / name).write_bytes(gzip.compress(content))
        else:
            (folder / name.removesuffix(".gz")).write_bytes(content)


def is_tiny(d: data.Dataset, tiny: dict[str, bytes]) -> bool:
    pixels = np.frombuffer(tiny["train-images-idx3-ubyte.gz"], np.uint8, offset=16)
    same = np.array_equal(d.train[0].mul(255).round().byte().numpy().ravel(), pixels)
    return same and d.test[1].tolist() == list(range(10)) * 2


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("inner", ["", "mnist", "MNIST/raw"])
def test_root_reads_original_files_in_each_layout(register, tiny, tmp_path, inner, compressed):
    register()
    write(tmp_path / "own" / inner, tiny, compressed)
    d = data.load("mnist", root=tmp_path / "own")
    assert is_tiny(d, tiny)
    assert str(tmp_path / "own") in d.source


def test_environment_folder_is_used_where_it_has_the_data(register, tiny, tmp_path, monkeypatch):
    register()
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path / "own"))
    assert len(data.load("mnist").train[0]) == 2000
    write(tmp_path / "own" / "mnist", tiny)
    assert is_tiny(data.load("mnist"), tiny)
    assert data.fetch("mnist") == tmp_path / "own" / "mnist"
    assert data.describe("mnist").found == str(tmp_path / "own" / "mnist")


def test_npz_of_ones_own_is_taken_as_it_is(tmp_path):
    x, y = np.full((5, 28, 28), 51, np.uint8), np.arange(5)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    d = data.load("mnist", root=tmp_path)
    assert d.train[0].unique().tolist() == pytest.approx([0.2])
    assert d.test[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": np.zeros((2, 28, 28), np.uint8)}, "y_train"),
        (dict.fromkeys(("x_train", "y_train"), np.zeros((2, 28, 28), np.uint8)), "x_test"),
        (dict.fromkeys(("x_train", "y_train", "x_test", "y_test"), np.zeros((2, 28, 28))), "uint8"),
        (
            dict.fromkeys(
                ("x_train", "y_train", "x_test", "y_test"), np.zeros((2, 9, 9), np.uint8)
            ),
            "shape",
        ),
    ],
)
def test_npz_with_other_content_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.load("mnist", root=tmp_path)


def test_npz_that_is_none_or_holds_pickles_is_refused(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        data.load("mnist", root=tmp_path)
    np.savez(tmp_path / "mnist.npz", x_train=np.array([{}]), y_train=np.array([{}]))
    with pytest.raises(ValueError, match="cannot be read"):
        data.load("mnist", root=tmp_path)


def test_root_without_the_data_is_an_error_that_names_the_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte.gz.*mnist.npz"):
        data.load("mnist", root=tmp_path)
    with pytest.raises(ValueError, match="made by code"):
        data.load("two-moons", root=tmp_path)


@pytest.mark.parametrize("damage", [lambda b: b[:-40], lambda b: b[:50] + b"\0" + b[51:]])
def test_damaged_file_is_refused(register, tiny, tmp_path, damage):
    register()
    write(tmp_path, tiny)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"t10k-images.*SHA-256.*fetch it again"):
        data.load("mnist", root=tmp_path)


def test_missing_file_among_others_is_named(register, tiny, tmp_path):
    register()
    write(tmp_path, tiny)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(ValueError, match=r"train-labels.*missing"):
        data.load("mnist", root=tmp_path)


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


# Downloads, from a server on this machine.


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``/<behaviour>/<file>``; the behaviours are the ways in which mirrors go wrong."""

    contents: dict[str, bytes]
    requests: list[tuple[str, str, str | None]]

    def do_GET(self):
        _, behaviour, name = self.path.rsplit("/", 2)
        wanted = self.headers["Range"]
        self.requests.append((behaviour, name, wanted))
        if behaviour == "missing":
            return self.send_error(404)
        content = b"<html>log in first</html>" if behaviour == "portal" else self.contents[name]
        ranged = wanted is not None and "deaf" not in behaviour
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if ranged else 0
        if ranged and start >= len(content):
            return self.send_error(416)
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if behaviour == "short":
            body = body[:100_000]
        elif behaviour.startswith("cut") and wanted is None:
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tiny):
    """The address of a server of the tiny files and the list of requests that it got."""
    compressed = {name: gzip.compress(content, mtime=0) for name, content in tiny.items()}
    handler = type("Server", (Handler,), {"contents": compressed, "requests": []})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", handler.requests
        running.shutdown()
        thread.join()


def left_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_download_fills_the_cache_and_is_not_repeated(register, server, tiny):
    address, requests = server
    register(f"{address}/good/")
    assert is_tiny(data.load("mnist", full=True, download=True), tiny)
    assert left_in(files.cache_folder("mnist")) == sorted(tiny)
    assert len(requests) == 4
    data.load("mnist", full=True)
    data.fetch("mnist")
    assert len(requests) == 4


def test_fetch_into_a_folder_of_ones_own(register, server, tiny, tmp_path, monkeypatch):
    register(f"{server[0]}/good/")
    assert data.fetch("mnist", root=tmp_path / "disk") == tmp_path / "disk" / "mnist"
    assert is_tiny(data.load("mnist", root=tmp_path / "disk"), tiny)
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path / "disk"))
    assert is_tiny(data.load("mnist", full=True), tiny)


def test_cut_off_download_goes_on_where_it_stopped(register, server, tiny):
    address, requests = server
    register(f"{address}/cut/")
    data.fetch("mnist")
    assert is_tiny(data.load("mnist", full=True), tiny)
    half = len(gzip.compress(tiny["train-images-idx3-ubyte.gz"], mtime=0)) // 2
    first, second = [r for r in requests if r[1] == "train-images-idx3-ubyte.gz"]
    assert (first[2], second[2]) == (None, f"bytes={half}-")


def test_a_server_deaf_to_ranges_is_read_from_the_start_again(register, server, tiny):
    register(f"{server[0]}/cut-deaf/")
    data.fetch("mnist")
    assert is_tiny(data.load("mnist", full=True), tiny)


def test_a_part_left_by_an_interrupted_run_is_resumed(register, server, tiny, monkeypatch):
    address, requests = server
    register(f"{address}/short/")
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    with pytest.raises(download.DownloadError, match=r"cut off after [\d,]+ of [\d,]+ bytes"):
        data.fetch("mnist")
    (part,) = left_in(files.cache_folder("mnist"))
    assert part.endswith(".part")
    kept = (files.cache_folder("mnist") / part).stat().st_size
    requests.clear()
    with pytest.raises(download.DownloadError):
        data.fetch("mnist")
    assert requests[0][2] == f"bytes={kept}-"
    monkeypatch.setattr(download, "ATTEMPTS", 10)
    data.fetch("mnist")
    assert left_in(files.cache_folder("mnist")) == sorted(tiny)


def test_a_complete_part_is_only_checked(register, server, tiny, monkeypatch):
    address, requests = server
    register(f"{address}/good/")
    with monkeypatch.context() as killed:
        killed.setattr(download, "is_whole", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        folder = files.cache_folder("mnist")
        write(folder, {})
        file = SOURCES["mnist"].archive.files[0]
        with pytest.raises(KeyboardInterrupt):
            download._from_mirror(f"{address}/good/{file.name}", file, folder / "a.part")
    download._from_mirror(f"{address}/good/{file.name}", file, folder / "a.part")
    assert gzip.decompress((folder / "a.part").read_bytes()) == tiny[file.name]
    assert requests[1][2] == f"bytes={(folder / 'a.part').stat().st_size}-"


def test_wrong_checksum_is_an_error_and_leaves_nothing(register, server):
    register(f"{server[0]}/portal/")
    with pytest.raises(download.DownloadError, match=r"SHA-256 is wrong.*try again") as caught:
        data.fetch("mnist")
    assert "\n" not in str(caught.value)
    assert left_in(files.cache_folder("mnist")) == []


def test_next_mirror_takes_over(register, server, tiny):
    address, requests = server
    register("http://127.0.0.1:9/", f"{address}/missing/", f"{address}/portal/", f"{address}/good/")
    data.fetch("mnist")
    assert is_tiny(data.load("mnist", full=True), tiny)
    assert [r[0] for r in requests] == ["missing", "portal", "good"] * 4
    assert left_in(files.cache_folder("mnist")) == sorted(tiny)


def test_part_of_a_mirror_that_was_given_up_is_removed(register, server, tiny, monkeypatch):
    address, requests = server
    register(f"{address}/short/", f"{address}/good/")
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    data.fetch("mnist")
    assert ("good", "train-images-idx3-ubyte.gz", None) in requests, "nothing is mixed"
    assert left_in(files.cache_folder("mnist")) == sorted(tiny)


def test_two_at_once_download_once(register, server, tiny):
    address, requests = server
    register(f"{address}/good/")
    pair = [threading.Thread(target=data.fetch, args=("mnist",)) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    assert sorted(r[1] for r in requests) == sorted(tiny)
    assert left_in(files.cache_folder("mnist")) == sorted(tiny)


def test_all_mirrors_missing_lists_each_with_its_reason(register, server):
    address, _ = server
    register("http://127.0.0.1:9/", f"{address}/missing/")
    with pytest.raises(download.DownloadError) as caught:
        data.load("mnist", full=True, download=True)
    for fact in ("127.0.0.1:9", "refused", f"{address}/missing/", "404", "GENTEXT_MIRROR"):
        assert fact in str(caught.value)
    assert left_in(files.cache_folder("mnist")) == []


def test_mirror_of_ones_own_comes_first_and_others_follow(register, server, monkeypatch):
    address, requests = server
    register(f"{address}/good/")
    monkeypatch.setenv("GENTEXT_MIRROR", f"{address}/my/")
    data.fetch("mnist")
    assert {r[0] for r in requests} == {"mnist"}, "served as <address>/<data set>/<file>"
    requests.clear()
    monkeypatch.setenv("GENTEXT_MIRROR", "http://127.0.0.1:9")
    data.fetch("mnist", root=files.cache_folder("mnist"))
    assert {r[0] for r in requests} == {"good"}


def test_mirror_that_is_no_address_is_refused(register, monkeypatch):
    register("http://127.0.0.1:9/")
    monkeypatch.setenv("GENTEXT_MIRROR", "/mnt/data")
    with pytest.raises(ValueError, match=r"'/mnt/data'.*GENTEXT_DATA"):
        data.fetch("mnist")


def test_offline_forbids_the_network_and_says_so(register, server, monkeypatch, tiny):
    address, requests = server
    register(f"{address}/good/")
    monkeypatch.setenv("GENTEXT_OFFLINE", "1")
    with pytest.raises(download.DownloadError, match="GENTEXT_OFFLINE"):
        data.fetch("mnist")
    assert requests == []
    write(files.cache_folder("mnist"), tiny)
    assert is_tiny(data.load("mnist", full=True, download=True), tiny)


def test_fetch_replaces_a_damaged_file_of_the_cache(register, server, tiny):
    address, requests = server
    register(f"{address}/good/")
    write(files.cache_folder("mnist"), tiny)
    (files.cache_folder("mnist") / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bjunk")
    data.fetch("mnist")
    assert [r[1] for r in requests] == ["t10k-labels-idx1-ubyte.gz"]
    assert is_tiny(data.load("mnist", full=True), tiny)


def test_folder_that_cannot_be_written_is_an_error_with_a_remedy(register, server, tmp_path):
    register(f"{server[0]}/good/")
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(download.DownloadError, match=r"cannot be kept in .*--root FOLDER"):
        data.fetch("mnist")
    assert (tmp_path / "cache").read_text() == "a file where the folder should be"


def test_full_disk_is_an_error_and_leaves_nothing(register, server, monkeypatch):
    address, requests = server
    register(f"{address}/good/", f"{address}/good/")
    opened = Path.open

    def full(path, mode="r", *arguments):
        file = opened(path, mode, *arguments)
        if path.suffix != ".part":
            return file
        file.write(b"some bytes still fit")
        return _FullDisk(file)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(download.DownloadError, match=r"No space left on device.*make room"):
        data.fetch("mnist")
    assert len(requests) == 1, "a full disk is no fault of the mirror"
    assert left_in(files.cache_folder("mnist")) == []


class _FullDisk:
    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_published_digests_are_complete():
    for name in ("fashion-mnist", "mnist"):
        archive = SOURCES[name].archive
        assert [len(file.sha256) for file in archive.files] == [64] * 4
        assert len(archive.mirrors) >= 3
        assert all(mirror.endswith("/") for mirror in archive.mirrors)
