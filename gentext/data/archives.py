"""The full data sets that mirrors serve: their files, digests and addresses.

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

from gentext.core.signatures import keep_contract


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


keep_contract(globals())
