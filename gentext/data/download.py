"""Downloads that are checked, resumed after a cut-off, and tried at one mirror after another.

A file is received as ``<file>.<mirror>.part`` and takes its name only once the SHA-256 of its
decompressed bytes is right, so a file under its own name is always whole. A part is kept only
where a later attempt at the same mirror can go on with it.

``GENTEXT_OFFLINE=1`` forbids the network. ``GENTEXT_MIRROR`` is the address of a mirror of your
own, tried first, which serves ``<address>/<data set>/<file>``.
"""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm

from gentext.core.signatures import keep_contract
from gentext.data.archives import Archive, RemoteFile
from gentext.data.files import is_whole

TIMEOUT = 30  # seconds without an answer
ATTEMPTS = 3  # at one mirror, while each brings something
CHUNK = 1 << 16  # bytes


class DownloadError(OSError):
    """A download failed; the message says why and how to go on."""


class MirrorError(Exception):
    """One mirror could not give one file."""


def download(name: str, archive: Archive, folder: Path) -> None:
    """Puts the files of ``archive`` into ``folder``; those that are there and whole stay.

    Arguments:
        name: of the data set, for messages.
        archive: its files and mirrors.
        folder: made if missing.

    Raises:
        DownloadError: no mirror could give a file, the network is forbidden, or the folder cannot
            be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes of one training may ask for the same file at once.
        with FileLock(folder / ".lock"):
            for file in archive.files:
                if not is_whole(folder / file.name, file):
                    _from_any_mirror(name, archive, file, folder)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(
            f"{name} cannot be kept in {folder} ({error.strerror or error}); make room or choose "
            f"another folder: `gentext data fetch {name} --root FOLDER`, then GENTEXT_DATA=FOLDER"
        ) from error


def _from_any_mirror(name: str, archive: Archive, file: RemoteFile, folder: Path) -> None:
    if os.environ.get("GENTEXT_OFFLINE", "0") not in ("", "0"):
        raise DownloadError(
            f"{file.name} of {name} is not in {folder} and GENTEXT_OFFLINE forbids the network; "
            f"unset it, or put the file into $GENTEXT_DATA/{name}/"
        )
    failures = []
    for address in _addresses(name, archive, file):
        # Mirrors may compress differently, so a part belongs to its mirror.
        part = folder / f"{file.name}.{zlib.crc32(address.encode()):08x}.part"
        try:
            _from_mirror(address, file, part)
        except MirrorError as error:
            failures.append(f"{address}: {error}")
            continue
        os.replace(part, folder / file.name)
        for stale in folder.glob(f"{file.name}.*.part"):
            stale.unlink()
        return
    raise DownloadError(
        f"no mirror could give {file.name} of {name} ({'; '.join(failures)}); try again later, set "
        f"GENTEXT_MIRROR to a mirror near you, or put the file into $GENTEXT_DATA/{name}/"
    )


def _addresses(name: str, archive: Archive, file: RemoteFile) -> list[str]:
    addresses = [mirror + file.name for mirror in archive.mirrors]
    own = os.environ.get("GENTEXT_MIRROR", "")
    if own and not own.startswith(("http://", "https://")):
        raise ValueError(
            f"GENTEXT_MIRROR is {own!r}, which is no http(s) address; for a folder set GENTEXT_DATA"
        )
    return [f"{own.rstrip('/')}/{name}/{file.name}", *addresses] if own else addresses


def _from_mirror(address: str, file: RemoteFile, part: Path) -> None:
    """Receives a file into ``part``, going on where it was cut off, and checks it."""
    for attempt in range(ATTEMPTS):
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(address, file, part, before)
            break
        except MirrorError:
            grown = part.exists() and part.stat().st_size > before
            if attempt == ATTEMPTS - 1 or not grown:
                raise
        except OSError:  # of the disk; a part would only take the room that is missing
            part.unlink(missing_ok=True)
            raise
    if not is_whole(part, file):
        part.unlink()
        raise MirrorError("its SHA-256 is wrong")


def _receive(address: str, file: RemoteFile, part: Path, start: int) -> None:
    """Appends to ``part`` what the mirror has from byte ``start`` on, or all of it."""
    try:
        response = _open(address, start)
    except urllib.error.HTTPError as error:
        error.close()
        if start and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # the part is complete already; its digest decides
        raise MirrorError(f"{error.code} {error.reason}") from None
    with closing(response):
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(total=total, initial=start, desc=file.name, unit="B", unit_scale=True)
        with bar, part.open("ab" if resumed else "wb") as out:
            for chunk in _chunks(response):
                out.write(chunk)
                bar.update(len(chunk))
        if total and part.stat().st_size < total:
            raise MirrorError(f"cut off after {part.stat().st_size:,} of {total:,} bytes")


def _open(address: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "gentext", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(str(getattr(error, "reason", error))) from error


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces; an error of the network is the mirror's, one of the disk is not."""
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise MirrorError(f"cut off ({error})") from error


keep_contract(globals())
