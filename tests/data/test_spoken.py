"""Strings of digits are the recordings they are made of, and held-out voices stay unheard."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gentext import data, spoken
from gentext.data import files

SPLITS = ("train", "validation", "test")
TEST_VOICES = {"Andy", "f4", "klatt3", "m4"}


@pytest.fixture(scope="module")
def strings() -> data.Dataset:
    return spoken.digit_strings(train=60, validation=12, test=24)


@pytest.fixture(scope="module")
def recorded() -> dict[tuple[str, str, int], torch.Tensor]:
    """Each recording between its first and its last level off the middle, from the file."""
    found = {}
    with np.load(files.BUNDLED / "spoken.npz") as arrays:
        for split in SPLITS:
            columns = (arrays[f"{key}_{split}"] for key in ("x", "y", "notes"))
            for x, y, (language, voice) in zip(*columns, strict=True):
                loud = np.flatnonzero((x < 127) | (x > 128))
                compressed = x[loud[0] : loud[-1] + 1] / 127.5 - 1
                sound = np.sign(compressed) * (256 ** np.abs(compressed) - 1) / 255
                found[str(language), str(voice), int(y)] = torch.from_numpy(sound).float()
    return found


def heard(dataset: data.Dataset, split: str) -> set[tuple[str, str]]:
    return {(note.language, note.voice) for note in dataset.notes[split]}


def test_a_string_is_the_concatenation_of_its_digits_with_silence_about_them(strings, recorded):
    for split in SPLITS:
        rows = zip(*getattr(strings, split), strings.notes[split], strict=True)
        for x, length, y, count, note in rows:
            rebuilt = torch.zeros(strings.shape)
            assert len(note.spans) == count
            for digit, (start, end) in zip(y[:count].tolist(), note.spans, strict=True):
                rebuilt[start:end] = recorded[(note.language, note.voice, digit)]
            torch.testing.assert_close(x, rebuilt, rtol=1e-4, atol=1e-6)
            assert (y[count:] == -1).all()
            assert (x[length:] == 0).all()
            assert note.spans[-1][1] <= length


def test_energy_is_where_the_digits_are(strings):
    for x, length, _, _, note in zip(*strings.test, strings.notes["test"], strict=True):
        said = torch.zeros(len(x), dtype=torch.bool)
        for start, end in note.spans:
            said[start:end] = True
            assert x[start] != 0
            assert x[end - 1] != 0
            assert x[start:end].square().mean() > 1e-3
        assert (x[~said] == 0).all()
        assert not said[length:].any()


def test_pauses_and_numbers_of_digits_are_those_asked_for(strings):
    rests, counts = set(), set()
    for x, length, _, count, note in zip(*strings.train, strings.notes["train"], strict=True):
        ends = [0, *(end for _, end in note.spans)]
        starts = [*(start for start, _ in note.spans), int(length)]
        rests |= {start - end for start, end in zip(starts, ends, strict=True)}
        counts.add(int(count))
        assert len(x) >= length
    assert counts == {3, 4, 5}
    assert min(rests) >= 400
    assert max(rests) <= 2000
    assert min(rests) < 500
    assert max(rests) > 1900
    one = spoken.digit_strings(train=2, validation=2, test=2, digits=(7, 7), pause=(0, 0))
    assert one.test[3].tolist() == [7, 7]
    assert one.notes["test"][0].spans[0][0] == 0
    assert one.notes["test"][0].spans[-1][1] == one.test[1][0]


@pytest.mark.parametrize("language", ["en", "zh", "both"])
def test_no_voice_is_heard_in_two_splits(language):
    wanted = {"both": {"en", "zh"}}.get(language, {language})
    few = spoken.digit_strings(language, train=150, validation=40, test=80, digits=(1, 1))
    for d in (few, spoken.single_digits(language)):
        voices = {split: {voice for _, voice in heard(d, split)} for split in SPLITS}
        assert [len(voices[split]) for split in SPLITS] == [10, 2, 4]
        assert len(set.union(*voices.values())) == 16
        assert voices["test"] == TEST_VOICES
        assert all({spoken for spoken, _ in heard(d, split)} == wanted for split in SPLITS)


def test_each_recording_is_once_among_the_single_digits(recorded):
    for split in ("voice", "random"):
        d = spoken.single_digits(split=split)
        assert [len(getattr(d, name)[0]) for name in SPLITS] == [200, 40, 80]
        seen = {}
        for name in SPLITS:
            for x, length, y, count, note in zip(*getattr(d, name), d.notes[name], strict=True):
                assert count == 1
                assert note.spans == ((0, length),)
                assert not x[length:].any()
                seen[(note.language, note.voice, int(y))] = x[:length]
        assert seen.keys() == recorded.keys()
        for key, x in recorded.items():
            torch.testing.assert_close(seen[key], x, rtol=1e-4, atol=1e-6)


def test_a_random_split_holds_out_equal_shares_of_each_digit_and_knows_the_voices():
    d = spoken.single_digits("zh", split="random")
    for split, share in zip(SPLITS, (10, 2, 4), strict=True):
        assert getattr(d, split)[2].flatten().bincount().tolist() == [share] * 10
    assert heard(d, "test") <= heard(d, "train")


def test_the_same_seed_gives_the_same_strings_and_another_one_others():
    def made(seed: int, train: int = 5) -> data.Dataset:
        return spoken.digit_strings("zh", train=train, validation=3, test=3, seed=seed)

    first, again, other, more = made(1), made(1), made(2), made(1, train=9)
    for split in SPLITS:
        assert all(map(torch.equal, getattr(first, split), getattr(again, split)))
        assert first.notes[split] == again.notes[split]
        assert first.notes[split] != other.notes[split]
    assert more.notes["test"] == first.notes["test"]
    assert more.notes["train"][:5] == first.notes["train"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"language": "de"}, "unknown language 'de'"),
        ({"train": 0}, "train must be a whole number"),
        ({"test": 10**6}, "test must be at most 100000"),
        ({"digits": (5, 3)}, "give the smaller number first"),
        ({"digits": (0, 3)}, "digits must be a whole number, at least 1"),
        ({"digits": (3, 10**6)}, "at most 100"),
        ({"digits": (3,)}, "give the least and the most"),
        ({"pause": (-0.1, 0.1)}, "pause must be at least 0"),
        ({"pause": (0.0, 1e9)}, "at most 10"),
        ({"seed": -1}, "seed"),
    ],
)
def test_other_strings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        spoken.digit_strings(**arguments)


def test_a_file_of_ones_own_without_voices_is_refused(tmp_path, monkeypatch):
    x, y = np.full((3, 6000), 128, np.uint8), np.arange(3)
    np.savez(tmp_path / "spoken.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    assert data.load("spoken", root=tmp_path).notes == {}
    (tmp_path / "spoken").mkdir()
    (tmp_path / "spoken.npz").rename(tmp_path / "spoken" / "spoken.npz")
    monkeypatch.setenv("GENTEXT_DATA", str(tmp_path))
    for call in (spoken.single_digits, spoken.digit_strings):
        with pytest.raises(ValueError, match=r"has no train with notes in en or zh; add x_train"):
            call()
    with pytest.raises(ValueError, match="unknown split 'voices'"):
        spoken.single_digits(split="voices")
