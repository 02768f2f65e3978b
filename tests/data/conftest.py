"""The machine of nobody in particular, a tiny full set, and the emoji, for the tests of data."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import tiny_mnist

from gentext import data
from gentext.data import files
from gentext.data.archives import Archive, RemoteFile
from gentext.data.sources import SOURCES


@pytest.fixture(autouse=True)
def own_machine(monkeypatch, tmp_path):
    """No settings and no cache of whoever runs the tests."""
    for variable in ("GENTEXT_DATA", "GENTEXT_MIRROR", "GENTEXT_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(files.platformdirs, "user_cache_path", lambda name: tmp_path / "cache")


@pytest.fixture
def tiny() -> dict[str, bytes]:
    """The four files of a tiny MNIST, decompressed."""
    return tiny_mnist.contents()


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


@pytest.fixture(scope="module")
def emoji() -> data.Dataset:
    return data.load("emoji")
