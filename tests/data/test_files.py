"""Files of the reader's own: where they are found, how they are read, and which are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_mnist import is_tiny, write

from gentext import data, text
from gentext.data import files, prepared
from gentext.data.sources import SOURCES

FILES = [source.file for source in SOURCES.values() if source.file]


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


@pytest.mark.parametrize("labels", [np.array(["boot", "bag"]), np.array([0.0, 1.5])])
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path, labels):
    x = np.zeros((2, 28, 28), np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=labels, x_test=x, y_test=labels)
    with pytest.raises(ValueError, match=r"mnist\.npz needs labels that are whole numbers"):
        data.load("mnist", root=tmp_path)


@pytest.mark.parametrize("load", [lambda: data.load("digits"), lambda: text.load("names")])
def test_a_bundled_file_that_is_damaged_or_gone_is_refused(tmp_path, monkeypatch, load):
    monkeypatch.setattr(files, "BUNDLED", tmp_path)
    text._content.cache_clear()
    for damage in (lambda: None, lambda: [(tmp_path / f).write_bytes(b"PK") for f in FILES]):
        damage()
        with pytest.raises(ValueError, match=r"is damaged: install the package anew"):
            load()


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
