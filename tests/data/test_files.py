"""Files of the reader's own: where they are found, how they are read, and which are refused."""

from __future__ import annotations

import unicodedata
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
    (tmp_path / "own").mkdir()
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
    text._dealt.cache_clear()
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


def test_the_tilde_is_the_home_of_the_reader(register, tiny, tmp_path, monkeypatch):
    register()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "own" / "mnist", tiny)
    assert is_tiny(data.load("mnist", root="~/own"), tiny)
    monkeypatch.setenv("GENTEXT_DATA", "~/own")
    assert is_tiny(data.load("mnist"), tiny)


@pytest.mark.parametrize("call", [data.load, data.fetch, data.describe])
def test_a_folder_that_is_not_there_is_no_reason_for_the_excerpt(monkeypatch, tmp_path, call):
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "typo", tmp_path / "file", "~nobody-of-this-name/data"):
        monkeypatch.setenv("GENTEXT_DATA", str(wrong))
        with pytest.raises(FileNotFoundError, match=r"GENTEXT_DATA is .*no such folder; correct"):
            call("mnist")
    monkeypatch.setenv("GENTEXT_DATA", "")
    assert call("fashion-mnist" if call is data.fetch else "mnist")


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root is .*typo.*no such folder"):
        data.load("mnist", root=tmp_path / "typo")


def test_an_array_by_the_name_of_an_archive_is_refused(tmp_path):
    with (tmp_path / "mnist.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match=r"mnist\.npz cannot be read \(it is a single array"):
        data.load("mnist", root=tmp_path)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.uint8(3), np.int64(3), "x_train"),
        (np.zeros((2, 28, 28), np.uint8), np.int64(3), "y_train"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, int), "lengths"),
        (np.zeros((2, 28, 28), np.uint8), np.array([0, 10]), r"labels of train .*0 to 9"),
        (np.zeros((2, 28, 28), np.uint8), np.array([-2, 1]), r"labels of train .*0 to 9"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, x, y, message):
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match=message):
        data.load("mnist", root=tmp_path)


BOMS = ["utf-8-sig", "utf-16", "utf-32"]  # encodings that write a byte-order mark


@pytest.mark.parametrize("encoding", ["utf-8", *BOMS])
def test_what_cannot_be_seen_does_not_enter_a_text(tmp_path, encoding):
    path = tmp_path / "own.txt"
    written = (
        "a\r\nb\rc\x85d\u2028e\u2029f\x0cg\xa0h\u2009i\u3000j so\xadft\u200b\u2060\ufeff\x07k\u202e"
    )
    path.write_bytes(written.encode(encoding))
    assert files.read_text(path) == "a\nb\nc\nd\ne\nf\ng h i\u3000j softk"


def test_what_can_be_seen_stays_and_is_composed(tmp_path):
    path = tmp_path / "own.txt"
    kept = "é 春风 ½ ① Ａ 👩\u200d👧 ❤\ufe0f क्\u200dष\t|"
    path.write_text(unicodedata.normalize("NFD", kept), "utf-8", newline="")
    assert files.read_text(path) == unicodedata.normalize("NFC", kept)
    assert files.read_text(path)[0] == "é"


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (
            "两行\n春".encode() + b"\xc4\xe3",
            "utf-8",
            r"byte 0xc4 at place 10 \(line 2\) is not utf-8",
        ),
        ("a\ud800".encode("utf-8", "surrogatepass"), "utf-8", "byte 0xed at place 1"),
        ("春天".encode("gb18030"), "utf-8", "encoding='gb18030'"),
        ("ab".encode("utf-16-le"), "utf-8", "NUL characters.*utf-16-le"),
        (b"\x00\x01\x02", "utf-8", "no text"),
        (b"\xff\xfe\x00\xd8", "utf-8", "not utf-16"),
        (b"a", "utf-9", "unknown encoding 'utf-9'"),
        (b"a", "base64", "unknown encoding 'base64'"),
    ],
)
def test_bytes_that_are_no_text_are_named_with_the_remedy(tmp_path, content, encoding, message):
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        files.read_text(tmp_path / "own.txt", encoding)
    with pytest.raises(ValueError, match="cannot be opened"):
        files.read_text(tmp_path / "none.txt")
