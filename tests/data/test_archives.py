"""The files that mirrors serve: complete digests, sizes and addresses."""

from __future__ import annotations

import pytest

from gentext.data import archives
from gentext.data.sources import SOURCES


@pytest.mark.parametrize(
    ("name", "archive"), [("fashion-mnist", archives.FASHION), ("mnist", archives.MNIST)]
)
def test_published_digests_are_complete(name: str, archive: archives.Archive) -> None:
    assert SOURCES[name].archive is archive
    assert [len(file.sha256) for file in archive.files] == [64] * 4
    assert len(archive.mirrors) >= 3
    assert all(mirror.endswith("/") for mirror in archive.mirrors)


def test_the_size_of_a_download_is_the_sum_of_its_files() -> None:
    files = tuple(archives.RemoteFile(f"{k}", size, "") for k, size in enumerate((1500, 500)))
    assert archives.Archive("1", files, (), ()).megabytes == pytest.approx(0.002)
