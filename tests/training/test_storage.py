"""Files of tensors: what cannot be read is refused, and what cannot be written leaves no trace."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gentext.training import storage

WEIGHTS = {"w": torch.arange(600.0), "half": torch.ones(3, dtype=torch.bfloat16)}
OTHERS = {"w": torch.zeros(9)}


@pytest.fixture
def saved(tmp_path):
    return storage.write(tmp_path / "sub" / "m.safetensors", WEIGHTS, {"class": "VAE"})


def holds(path, tensors):
    read = storage.read(path)[1]
    return read.keys() == tensors.keys() and all(read[n].equal(t) for n, t in tensors.items())


def test_tensors_and_header_come_back(saved):
    assert holds(saved, WEIGHTS)
    header, _ = storage.read(saved)
    assert header.items() >= {"class": "VAE", "format": 1, "torch": torch.__version__}.items()


def test_the_home_folder_and_the_folder_of_a_training_are_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.write("~/run/checkpoint.safetensors", WEIGHTS, {}).is_relative_to(tmp_path)
    assert holds("~/run", WEIGHTS)
    assert storage.located(Path("~/run")) == tmp_path / "run" / storage.NAME


def test_nothing_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint .*none\.safetensors"):
        storage.read(tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"no checkpoint\.safetensors in the folder .*give the"):
        storage.read(tmp_path)


# What is no file of ours


@pytest.mark.parametrize("length", [0, 4, 20, 500, -1])
def test_a_truncated_file_is_damaged(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        storage.read(saved)


def test_one_flipped_bit_in_a_weight_is_found(saved):
    content = bytearray(saved.read_bytes())
    content[-100] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged \(its checksum differs\)"):
        storage.read(saved)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    for metadata in (None, {"format": "pt"}, {"gentext": "not JSON"}, {"gentext": "[]"}):
        save_file({"weight": torch.zeros(2)}, tmp_path / "foreign.safetensors", metadata)
        with pytest.raises(ValueError, match="was not written by gentext"):
            storage.read(tmp_path / "foreign.safetensors")


def test_a_newer_format_asks_for_an_update(tmp_path):
    header = {"format": storage.FORMAT + 1, "gentext": "9.0", "checksum": 0}
    save_file(OTHERS, tmp_path / "m.safetensors", {"gentext": json.dumps(header)})
    with pytest.raises(ValueError, match=r"format 2 \(gentext 9\.0\).*pip install --upgrade"):
        storage.read(tmp_path / "m.safetensors")


# What cannot be written


def writes_half(monkeypatch, error):
    """From now on, a file takes half of what is written and then fails."""

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, content):
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            raise error

    full = lambda path, mode: Full(path.open(mode))  # noqa: E731
    monkeypatch.setattr(storage, "open", full, raising=False)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left to write .*; free some"),
        (errno.EDQUOT, "no space left"),
        (errno.EIO, "cannot write .*Input/output error"),
    ],
)
def test_when_space_runs_out_the_old_file_stays(saved, monkeypatch, number, message):
    writes_half(monkeypatch, OSError(number, os.strerror(number)))
    with pytest.raises(ValueError, match=message):
        storage.write(saved, OTHERS, {})
    assert os.listdir(saved.parent) == [saved.name]
    assert holds(saved, WEIGHTS)


def test_ctrl_c_while_writing_leaves_the_old_file(saved, monkeypatch):
    writes_half(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        storage.write(saved, OTHERS, {})
    assert os.listdir(saved.parent) == [saved.name]
    assert holds(saved, WEIGHTS)


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=r"cannot write .*choose a folder in which you may write"):
        storage.write(tmp_path / "file" / "m.safetensors", WEIGHTS, {})
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder, which is a folder; name a file in it"):
        storage.write(tmp_path / "folder", WEIGHTS, {})
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_read_only_folder_is_named_and_kept(saved):
    """In a process without the privileges that would let root write anywhere."""
    code = f"""
        import os, sys
        from gentext.training import storage
        import safetensors.torch
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            storage.write({str(saved)!r}, {{}}, {{}})
        except ValueError as error:
            sys.exit(str(error))
        """
    for folder in (saved.parent, *saved.parent.parents[:3]):
        folder.chmod(0o755)
    saved.parent.chmod(0o555)
    before = saved.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    saved.parent.chmod(0o755)
    assert f"cannot write {saved} (Permission denied)" in done.stderr
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_what_a_killed_process_left_is_replaced(saved):
    saved.with_name(f".{saved.name}.partial").write_bytes(b"half")
    storage.write(saved, OTHERS, {})
    assert os.listdir(saved.parent) == [saved.name]
    assert holds(saved, OTHERS)
