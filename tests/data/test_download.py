"""Downloads, from a server on this machine, and how they fail."""

from __future__ import annotations

import errno
import gzip
import http.server
import socketserver
import threading
from pathlib import Path

import pytest
from tiny_mnist import is_tiny, write

from gentext import data
from gentext.data import download, files
from gentext.data.sources import SOURCES


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
