"""What is noted of an example has the type that its name promises."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
import pytest

from gentext import data
from gentext.data import noted
from gentext.data.sources import SOURCES

NOTED = [name for name, source in SOURCES.items() if source.noted]


def test_data_with_notes_are_emoji_and_sounds():
    assert NOTED == ["emoji", "drums", "notes", "spoken"]


@pytest.mark.parametrize("name", NOTED)
def test_notes_are_one_for_each_example_and_of_their_types(name):
    d, kind = data.load(name), SOURCES[name].noted
    types = typing.get_type_hints(kind)
    for split in ("train", "validation", "test"):
        assert len(d.notes[split]) == len(getattr(d, split)[0])
        for note in d.notes[split]:
            assert type(note) is kind
            assert all(type(value) is types[key] for key, value in note._asdict().items())


def test_sounds_of_ones_own_may_have_notes_of_their_columns(tmp_path):
    x, y = np.full((3, 4096), 200, np.uint8), np.arange(3)
    arrays: dict[str, Any] = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
    rows = np.array([(0, 60), (8, 61), (16, 62)])
    np.savez(tmp_path / "notes.npz", **arrays, notes_train=rows, notes_test=rows)
    d = data.load("notes", root=tmp_path)
    assert d.notes["test"][1] == noted.Note(8, 61)
    assert d.train[0].unique().tolist() == pytest.approx([(256 ** (200 / 127.5 - 1) - 1) / 255])
    np.savez(tmp_path / "notes.npz", **arrays, notes_train=rows.T, notes_test=rows.T)
    with pytest.raises(ValueError, match=r"needs notes of 2 columns: program, pitch"):
        data.load("notes", root=tmp_path)
    np.savez(tmp_path / "notes.npz", **{**arrays, "x_train": x / 255})
    with pytest.raises(ValueError, match=r"with sounds as uint8"):
        data.load("notes", root=tmp_path)
