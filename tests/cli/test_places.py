"""Where results are written."""

import os
import sys

import pytest

from gentext.cli import places


def refused(words, out, suffixes=(".csv", ".png")):
    with pytest.raises(ValueError, match=words):
        places.check(out, suffixes, "rows")


def test_a_file_that_can_be_written_is_taken(tmp_path):
    folder = tmp_path / "新" / "b c"
    for out in (tmp_path / "x.csv", tmp_path / "x.PNG", folder / "x.csv"):
        places.check(out, (".csv", ".png"), "rows")
    assert not folder.parent.exists()  # nothing is made before there is something to write
    assert places.made(folder / "x.csv") == folder / "x.csv"
    assert folder.is_dir()


def test_what_cannot_be_a_result_is_refused(tmp_path, monkeypatch):
    refused(r"is a folder; give a file in it, such as .*result\.csv", tmp_path)
    refused(r"--out .*x\.txt does not end in \.csv or \.png, as rows do", tmp_path / "x.txt")
    refused("does not end in", tmp_path / "x")
    (tmp_path / "file").write_text("", "utf-8")
    refused("file, which is no folder", tmp_path / "file" / "x.csv")
    (tmp_path / "old.csv").write_text("", "utf-8")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for out in (tmp_path / "new" / "x.csv", tmp_path / "old.csv"):
        refused("cannot be written; choose a folder in which you may write", out)


def test_a_folder_is_taken_unless_it_holds_such_a_file(tmp_path, monkeypatch):
    new = tmp_path / "a" / "b"
    for out in (tmp_path, new):
        places.check_folder(out, "c.safetensors")
    assert not new.parent.exists()
    (tmp_path / "c.safetensors").write_text("", "utf-8")
    with pytest.raises(ValueError, match=r"already holds a c\.safetensors; choose another folder"):
        places.check_folder(tmp_path, "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors is a file; give a folder"):
        places.check_folder(tmp_path / "c.safetensors", "c.safetensors")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(ValueError, match="cannot be written"):
        places.check_folder(new, "c.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such permissions there")
def test_a_folder_without_permission_is_refused(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o500)
    refused("cannot be written", tmp_path / "x.csv")
    tmp_path.chmod(0o700)
