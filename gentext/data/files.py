"""Finding, checking and reading the files of a data set on this machine."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import lzma
import os
import re
import unicodedata
import zipfile
import zlib
from pathlib import Path

import numpy as np
import platformdirs

from gentext.core.signatures import keep_contract
from gentext.data.archives import RemoteFile
from gentext.data.sources import SOURCES, Source

BUNDLED = Path(__file__).parents[1] / "datasets"
DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
TYPES = {"images": "uint8", "table": "int16", "sounds": "uint8"}  # of values, by kind of source

# The encodings that a file says itself, the longest marks first.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
NEW_LINE = b"\n"
LINE_ENDS = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
SPACES = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
# Neither ZWJ and ZWNJ nor selectors of variants, which change what is seen.
INVISIBLE = re.compile(
    "[\x01-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)

Splits = dict[str, tuple[np.ndarray, ...]]  # split -> images or rows, labels, any notes


def cache_folder(name: str) -> Path:
    """Where a download of the full set ``name`` is kept."""
    archive = SOURCES[name].archive
    if archive is None:
        raise ValueError(f"{name!r} comes whole with the package and needs no cache; load it")
    return platformdirs.user_cache_path("gentext") / f"{name}-{archive.version}"


def data_folder(root: str | os.PathLike[str] | None = None) -> Path | None:
    """The reader's own folder: ``root``, or else ``$GENTEXT_DATA``, or None if neither is given.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    given = (os.environ.get("GENTEXT_DATA") or None) if root is None else root
    if given is None:
        return None
    folder = Path(os.path.expanduser(given))
    if not folder.is_dir():
        what = "GENTEXT_DATA" if root is None else "root"
        raise FileNotFoundError(
            f"{what} is {str(given)!r}, but there is no such folder; correct it or leave it out"
        )
    return folder


def own_folder(name: str, root: str | os.PathLike[str] | None = None) -> Path | None:
    """The reader's folder with data of this name, in ``root`` or else in ``$GENTEXT_DATA``.

    Raises:
        FileNotFoundError: there is no such folder, or ``root`` is given and has no such data.
    """
    base = data_folder(root)
    if base is None:
        return None
    archive = SOURCES[name].archive
    folders = [base / inner for inner in (name, *(archive.folders if archive else ()))]
    if root is not None:
        folders.append(base)
    found = next((folder for folder in folders if _holds(name, folder)), None)
    if found is None and root is not None:
        files = f"{_file_names(name)} or {name}.npz" if archive else f"{name}.npz"
        raise FileNotFoundError(f"{base} has no data of {name!r}; put {files} there")
    return found


def system_folder(name: str) -> Path | None:
    """The folder of a system package with the full set ``name``, if it is installed."""
    archive = SOURCES[name].archive
    folder = Path(archive.system) if archive and archive.system else None
    return folder if folder and _holds(name, folder) else None


def kept_folder(name: str) -> Path | None:
    """The cache, if the download was finished, or else the folder of a system package."""
    archive = SOURCES[name].archive
    if archive and all((cache_folder(name) / file.name).is_file() for file in archive.files):
        return cache_folder(name)
    return system_folder(name)


def how_to_get(name: str) -> str:
    """What the full set ``name`` is and the ways to get it, in one sentence."""
    source, archive = SOURCES[name], SOURCES[name].archive
    if archive is None:
        return (
            f"nobody serves more of {name!r} than is bundled ({source.bundled}): load it without "
            f"full, or put {name}.npz of your own into $GENTEXT_DATA/{name}/"
        )
    return (
        f"the full {source.title} ({source.full} images, {archive.megabytes:.1f} MB to download, "
        f"licence {source.licence}) is not on this machine: download it by `gentext data "
        f"fetch {name}` (in Python load({name!r}, full=True, download=True)), or put "
        f"{_file_names(name)} into $GENTEXT_DATA/{name}/"
    )


def _file_names(name: str) -> str:
    archive = SOURCES[name].archive
    return ", ".join(file.name for file in archive.files) if archive else ""


def _holds(name: str, folder: Path) -> bool:
    archive = SOURCES[name].archive
    files = [_idx_path(folder, file) for file in archive.files] if archive else []
    return (folder / f"{name}.npz").is_file() or any(path.is_file() for path in files)


def _idx_path(folder: Path, file: RemoteFile) -> Path:
    extracted = folder / file.name.removesuffix(".gz")
    return extracted if extracted.is_file() else folder / file.name


def bundled(source: Source) -> Path:
    """The bundled file of a source; ValueError where it is not the one that was published."""
    path = BUNDLED / source.file
    if not path.is_file() or _digest(path.read_bytes()) != source.sha256:
        raise ValueError(f"{source.file} of gentext is damaged: install the package anew")
    return path


def read_bundled(name: str) -> Splits:
    """The bundled arrays of ``name``."""
    return _read_npz(SOURCES[name], bundled(SOURCES[name]))


def read_folder(name: str, folder: Path) -> Splits:
    """The arrays of ``name`` from ``<name>.npz`` or else the original idx files in ``folder``.

    Raises:
        ValueError: a file is missing, damaged, or not what it should be.
    """
    archive = SOURCES[name].archive
    if archive is None or (folder / f"{name}.npz").is_file():
        return _read_npz(SOURCES[name], folder / f"{name}.npz")
    arrays = [read_idx(_idx_path(folder, file), file) for file in archive.files]
    return {"train": (arrays[0], arrays[1]), "test": (arrays[2], arrays[3])}


def is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether ``path`` exists and decompresses to the bytes that ``file`` promises."""
    return path.is_file() and _digest(_content(path)) == file.sha256


def read_idx(path: Path, file: RemoteFile) -> np.ndarray:
    """The array in an idx file, compressed or extracted, once its digest was found right.

    Raises:
        ValueError: the file is missing or is not the published one.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; put it beside the other files of this data set")
    content = _content(path)
    if _digest(content) != file.sha256:
        raise ValueError(
            f"{path} is damaged or is not the published {file.name} (its SHA-256 differs); "
            "delete it and fetch it again"
        )
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file without what cannot be seen in it.

    A byte-order mark names the encoding, before ``encoding`` does. Every line end becomes "\\n",
    every space " ", but for the ideographic one. Soft hyphens, spaces of no width, marks of
    direction and control characters are left out; joiners stay, since letters and emoji need them.
    Characters are composed (Unicode's form NFC).

    Raises:
        ValueError: the file cannot be opened, has other bytes, or holds no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be opened ({error.strerror or error})") from error
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), encoding)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"byte 0x{content[error.start]:02x} at place {error.start} (line "
            f"{content.count(NEW_LINE, 0, error.start) + 1}) is not {encoding}; save it as UTF-8, "
            "or give its encoding, such as encoding='gb18030' or 'cp1252'"
        ) from error
    except LookupError as error:
        raise ValueError(f"unknown encoding {encoding!r}; give one such as 'utf-8'") from error
    if "\0" in text:
        raise ValueError(
            "it has NUL characters, so it is no text, or is in another encoding, such as "
            "encoding='utf-16-le'"
        )
    text = INVISIBLE.sub("", SPACES.sub(" ", LINE_ENDS.sub("\n", text)))
    return unicodedata.normalize("NFC", text)


def _content(path: Path) -> bytes:
    """The decompressed bytes of a file; none at all if the compression is broken."""
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return b""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _read_npz(source: Source, path: Path) -> Splits:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it is a single array")
        with loaded as arrays:
            splits = [s for s in ("train", "validation", "test") if f"x_{s}" in arrays]
            read: Splits = {s: (arrays[f"x_{s}"], arrays[f"y_{s}"]) for s in splits}
            if source.noted and all(f"notes_{s}" in arrays for s in splits):
                read = {s: (*read[s], arrays[f"notes_{s}"]) for s in splits}
    except DAMAGED as error:
        raise ValueError(f"{path} cannot be read ({error}); write it anew") from error
    _check_arrays(source, path, read)
    _check_labels(source, path, read)
    return read


def _check_arrays(source: Source, path: Path, read: Splits) -> None:
    """Raise ValueError unless there are values, labels and any notes of the right types."""
    wrong = any(x.dtype != TYPES[source.kind] or not x.ndim for x, *_ in read.values())
    if wrong or not {"train", "test"} <= read.keys():
        raise ValueError(
            f"{path} needs x_train, y_train, x_test and y_test with "
            f"{'rows' if source.kind == 'table' else source.kind} as {TYPES[source.kind]}; "
            "write it anew by numpy.savez"
        )
    fields = getattr(source.noted, "_fields", ())
    noted = [notes for _, _, *rest in read.values() for notes in rest]
    if any(notes.ndim != 2 or notes.shape[1] != len(fields) for notes in noted):
        raise ValueError(f"{path} needs notes of {len(fields)} columns: {', '.join(fields)}")


def _check_labels(source: Source, path: Path, read: Splits) -> None:
    """Raise ValueError unless labels are whole numbers of a class, or −1 where none is known."""
    for split, (_, y, *_) in read.items():
        if y.dtype.kind not in "biu" or not y.ndim:
            raise ValueError(
                f"{path} needs labels that are whole numbers, one an example: y_{split}.astype(int)"
            )
        if (
            source.classes
            and y.size
            and not -1 <= int(y.min()) <= int(y.max()) < len(source.classes)
        ):
            raise ValueError(
                f"{path} has labels of {split} from {y.min()} to {y.max()}; the classes of "
                f"{source.title} are 0 to {len(source.classes) - 1}"
            )


keep_contract(globals())
