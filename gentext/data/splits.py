"""Documents dealt out for training, validation and test, so that no test repeats the training.

Documents that share a passage are a family, which is never divided. The families are shuffled, and
each goes to the test where it still fits, else to validation, else to training; so one that is too
large to be held out is trained on, and the shares are kept.

Notation: a document is a text, or a pair of texts, with what is noted of it; ``held_out`` are the
percent for validation and for test.
"""

from __future__ import annotations

import random
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any

Documents = list[Any]  # (a text or a pair of texts, what is noted of it)
Splits = dict[str, Documents]

SHARES = (5, 10)  # percent for validation and for test; the rest is for training
RUN = 13  # words in a row that are no coincidence (Brown et al. 2020, of GPT-3, take as many)
CLAUSE = 5  # words of the shortest clause that may be one's own,
PART = 5  # and no mere formula, where it is a fifth of its text at least
IDEOGRAPH = "[\u3040-\u30ff\u3400-\u9fff\U00020000-\U000323af]"  # each counts as a word
WORD = re.compile(rf"{IDEOGRAPH}|(?:(?!{IDEOGRAPH})\S)+")
TITLE = re.compile(f"{IDEOGRAPH}{{2,8}}")  # neither a number in a series nor a preface
MARKS = re.compile(r"""[,.;:!?"()\[\]{}<>|…—–“”‘«»、。，．；：！？（）【】《》〈〉「」『』।؟،؛]+""")

TOGETHER = (
    "so many of these {:,} documents share passages that families cannot be kept apart: they are "
    "divided one by one, and the test resembles what is trained on; leave out what they share, "
    "such as a common opening"
)


def stream(text: str, held_out: tuple[int, int] = SHARES) -> Splits:
    """One long text cut in three, in its order: training, validation, test.

    Cuts are at ends of lines where there are some near, else between words, else anywhere. Raises
    ValueError where the text is too short for three parts.
    """
    validation, test = held_out
    first, second = (
        _cut(text, len(text) * percent // 100) for percent in (100 - validation - test, 100 - test)
    )
    parts = {"train": text[:first], "validation": text[first:second], "test": text[second:]}
    if not all(part.strip() for part in parts.values()):
        raise ValueError(
            f"a text of {len(text)} characters is too short to hold out {validation} % of it and "
            f"{test} %; give a longer one"
        )
    return {split: [(part, None)] for split, part in parts.items()}


def lines(text: str, held_out: tuple[int, int] = SHARES) -> Splits:
    """A document in each line, after columns of notes divided by tabs; families by ``families``.

    Raises ValueError where too few documents are different, and three at least are needed.
    """
    columns = [line.split("\t") for line in text.split("\n")]
    documents = [(last, tuple(notes)) for *notes, last in columns if last.strip()]
    texts = [text for text, _ in documents]
    return _dealt(documents, [families(texts), texts], held_out)


def pairs(text: str, held_out: tuple[int, int] = SHARES) -> Splits:
    """A source, a tab and a target in each line; of pairs with one source the first is kept.

    Pairs with one target are a family, unless there are too many of them to be held out: a target
    that is so common, such as "yes", is no sign of the source. Raises ValueError for a line of
    another form, and for fewer than three different sources.
    """
    unique: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        sides = line.split("\t")
        if line.strip() and (len(sides) != 2 or not all(side.strip() for side in sides)):
            raise ValueError(
                f"a line of pairs has a source, a tab and a target; line {number} has not: "
                f"{line[:40]!r}"
            )
        if line.strip():
            unique.setdefault(sides[0], (sides[0], sides[1]))
    common = Counter(target for _, target in unique.values())
    most = max(2, _room(len(unique), held_out[0]))
    keys = [pair if common[pair[1]] > most else pair[1] for pair in unique.values()]
    return _dealt([(pair, None) for pair in unique.values()], [keys, [*unique]], held_out)


def classes(text: str, held_out: tuple[int, int] = SHARES) -> Splits:
    """A class, any notes and a document in each line, divided by tabs.

    Where each line begins with the name of a split, and a tab, that is its split; otherwise they
    are dealt out as ``lines``. Raises ValueError for a line without a class or a document, for a
    split without a line, and where too few documents are different.
    """
    rows = [line.split("\t") for line in text.split("\n") if line.strip()]
    made: Splits = {"train": [], "validation": [], "test": []}
    marked = all(row[0] in made for row in rows)
    for row in rows:
        if len(row) < 2 + marked or not all(part.strip() for part in (row[marked], row[-1])):
            raise ValueError(
                f"a line has a class, a tab and a document; {' '.join(row)[:40]!r} has not"
            )
    if not marked:
        return lines(text, held_out)
    for split, *notes, document in rows:
        made[split].append((document, tuple(notes)))
    if not all(made.values()):
        raise ValueError("give lines of train, of validation and of test; one of them has none")
    return made


def titles(text: str, held_out: tuple[int, int] = SHARES) -> Splits:
    """Any notes, a title and a document in each line, divided by tabs; the splits of ``lines``.

    Pairs of a document and its title are made of those whose title is 2 to 8 Chinese characters.
    Raises ValueError where a split has none.
    """
    made: Splits = {
        split: [
            ((document, notes[-1]), notes[:-1])
            for document, notes in documents
            if notes and TITLE.fullmatch(notes[-1])
        ]
        for split, documents in lines(text, held_out).items()
    }
    if not all(made.values()):
        raise ValueError("too few titles are 2 to 8 Chinese characters; give more, or kind='pairs'")
    return made


def families(texts: Sequence[str]) -> list[int]:
    """A number for each text, the same where two share a passage, or are linked by others that do.

    A passage is a whole text, a clause of 5 words that is a fifth of its text at least, or a run of
    13 words. Capitals and punctuation make no difference, and a Chinese character is a word. Shared
    runs are found where they begin or end a text, and anywhere from 25 words on.
    """
    parent = list(range(len(texts)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    first: dict[str, int] = {}
    for k, text in enumerate(texts):
        wholes, words = _passages(text)
        # Every thirteenth run is remembered, and the last: all would take much memory.
        for passage in (*wholes, *_runs(words, RUN), *_runs(words[-RUN:])):
            first.setdefault(passage, k)
    for k, text in enumerate(texts):  # anew, since what a text contains may stand after it
        wholes, words = _passages(text)
        for passage in (*wholes, *_runs(words)):
            if passage in first:
                parent[root(k)] = root(first[passage])
    return [root(k) for k in range(len(texts))]


def _passages(text: str) -> tuple[list[str], list[str]]:
    """The whole text with its clauses that may be its own, and all its words."""
    clauses = [WORD.findall(clause) for clause in MARKS.split(text.casefold())]
    words = [word for clause in clauses for word in clause]
    own = (clause for clause in clauses if len(clause) >= max(CLAUSE, len(words) / PART))
    return [" ".join(clause) for clause in (words or [text], *own)], words


def _runs(words: list[str], step: int = 1) -> list[str]:
    """The runs of words that begin at every ``step``-th."""
    return [" ".join(words[i : i + RUN]) for i in range(0, len(words) - RUN + 1, step)]


def _dealt(
    documents: Documents, groupings: Sequence[Sequence[Hashable]], held_out: tuple[int, int]
) -> Splits:
    """The documents in families of equal keys: by the first of the groupings that can be dealt out.

    Raises ValueError where none can; warns where it is not the first.
    """
    for number, keys in enumerate(groupings):
        grouped: dict[Hashable, Documents] = {}
        for document, key in zip(documents, keys, strict=True):
            grouped.setdefault(key, []).append(document)
        order = list(grouped.values())
        random.Random(0).shuffle(order)
        splits = _deal(order, held_out)
        if splits and number:
            warnings.warn(TOGETHER.format(len(documents)), stacklevel=_depth() + 1)
        if splits:
            return splits
    raise ValueError(
        f"got {len(documents)} documents, {len(grouped)} of them different: too few to hold some "
        "out for validation and test; give more, or leave out what is repeated"
    )


def _deal(families: Sequence[Documents], held_out: tuple[int, int]) -> Splits | None:
    """Each family to the first split with room for it; None where half of a room stays empty."""
    total = sum(map(len, families))
    room = {"test": _room(total, held_out[1]), "validation": _room(total, held_out[0])}
    splits: Splits = {"test": [], "validation": [], "train": []}
    for family in families:
        fitting = (split for split in room if len(splits[split]) + len(family) <= room[split])
        splits[next(fitting, "train")] += family
    enough = all(2 * len(splits[split]) >= room[split] for split in room)
    return splits if enough and splits["train"] else None


def _depth() -> int:
    """How many calls lie between the caller of this and the reader's own line, itself included."""
    frames = traceback.walk_stack(sys._getframe(1))
    own = [frame.f_globals.get("__name__", "").startswith("gentext.") for frame, _ in frames]
    return max(number for number, is_own in enumerate(own, 1) if is_own)


def _room(total: int, percent: int) -> int:
    return -(-percent * total // 100)


def _cut(text: str, wanted: int) -> int:
    """The place to cut a text at ``wanted`` or up to 2.5 % before: after a line, or else a word."""
    ends = (text.rfind(mark, wanted - len(text) // 40, wanted) for mark in "\n ")
    return next((end + 1 for end in ends if end >= 0), wanted)


KINDS: dict[str, Callable[[str, tuple[int, int]], Splits]] = {
    "stream": stream,
    "lines": lines,
    "pairs": pairs,
    "classes": classes,
    "titles": titles,
}
