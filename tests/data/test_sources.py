"""The table of sources, and whether what is bundled holds what the table says."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from gentext import data, text, toys
from gentext.data import files
from gentext.data.sources import SOURCES, TENSORS, TEXTS, names

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SPLITS = ("train", "validation", "test")


def test_a_name_is_that_of_tensors_or_of_a_text():
    assert {*names(TENSORS), *names(TEXTS)} == {*SOURCES}
    assert names(TENSORS) == data.names()
    assert names(TEXTS) == text.names()
    for name in toys.names():
        assert SOURCES[name].kind == "points"


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_tells_content_licence_and_how_it_was_made(name):
    source = SOURCES[name]
    assert source.content
    assert source.licence
    assert source.made.startswith("bundled" if source.file else "made by code")
    assert (source.levels is not None) == (source.kind == "images")
    assert bool(source.shape) == bool(source.bundled) == (source.kind in TENSORS)
    assert bool(source.full) == (source.archive is not None)


def test_bundled_files_are_those_that_the_table_describes():
    described = {source.file: source.sha256 for source in SOURCES.values() if source.file}
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files.BUNDLED.iterdir()
    }
    assert digests == described


def test_bundled_files_are_small():
    assert sum(path.stat().st_size for path in files.BUNDLED.iterdir()) < 10e6


def test_classes_are_balanced_in_the_excerpts():
    fashion, mnist = data.load("fashion-mnist"), data.load("mnist")
    assert fashion.train[1].bincount().tolist() == [300] * 10
    assert fashion.test[1].bincount().tolist() == [100] * 10
    assert mnist.train[1].bincount().tolist() == [200] * 10
    assert mnist.test[1].bincount().tolist() == [50] * 10
    assert len(fashion.classes) == len(mnist.classes) == 10


@pytest.mark.parametrize(
    ("name", "field", "counts"),
    [
        ("drums", "kit", (7, 2, 2)),
        ("notes", "program", (57, 15, 21)),
        ("spoken", "voice", (10, 2, 4)),
    ],
)
def test_no_kit_program_or_voice_is_in_two_splits(name, field, counts):
    d = data.load(name)
    kinds = [{getattr(note, field) for note in d.notes[split]} for split in SPLITS]
    assert tuple(map(len, kinds)) == counts
    assert len(set.union(*kinds)) == sum(counts)
    sounds = [x.numpy().tobytes() for split in SPLITS for x in getattr(d, split)[0]]
    assert len({*sounds}) == len(sounds)


def test_every_class_of_sounds_is_trained_on_and_tested():
    for name in ("drums", "notes", "spoken"):
        d = data.load(name)
        for split in ("train", "test"):
            assert getattr(d, split)[1].unique().tolist() == list(range(len(d.classes)))
    spoken = data.load("spoken")
    for split, (_, y) in zip(SPLITS, (spoken.train, spoken.validation, spoken.test), strict=True):
        said = Counter(
            (*note, int(digit)) for note, digit in zip(spoken.notes[split], y, strict=True)
        )
        assert {*said.values()} == {1}  # each voice says each digit once in each language
        assert len(said) == 20 * len({note.voice for note in spoken.notes[split]})


def test_a_note_is_of_the_family_and_about_the_pitch_that_are_noted():
    """MIDI numbers programs by families of eight, and semitones from A = 440 Hz as 69."""
    d = data.load("notes")
    for split in SPLITS:
        x, y = getattr(d, split)
        assert [note.program // 8 for note in d.notes[split]] == y.tolist()
        organ = y == d.classes.index("organ")  # whose tone is steady and has a strong first partial
        pitch = torch.tensor([note.pitch for note in d.notes[split]])[organ]
        spectrum = torch.fft.rfft(x[organ, 1024:]).abs()
        f = torch.fft.rfftfreq(x.shape[1] - 1024, 1 / d.rate)
        partials = 440 * 2 ** ((pitch[:, None] - 69) / 12) * 2.0 ** torch.arange(-2, 4)
        near = (f[:, None, None] - partials).abs().amin(2).T < 8
        assert ((spectrum**2 * near).sum(1) / (spectrum**2).sum(1) > 0.3).float().mean() > 0.7


def test_licences_of_drums_are_counted_in_the_table():
    d = data.load("drums")
    licences = Counter(note.licence for split in SPLITS for note in d.notes[split])
    assert licences == {"MIT": 132, "CC0-1.0": 94, "CC-BY-3.0": 17}
    for words in ("132 of FluidR3: MIT", "80 of Sonic Pi and 14 of Audiophob: CC0", "17 of rumpf"):
        assert words in d.licence
    kits = {note.kit for split in SPLITS for note in d.notes[split] if note.licence == "CC-BY-3.0"}
    assert kits == {"rumpf_kit_z01_h2"}


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
        pictures = torch.from_numpy(arrays["x_test"])  # height, width, channels
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
