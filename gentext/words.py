"""Text to numbers and back, word by word in English and character by character in Chinese.

One vocabulary serves both languages, for short texts such as the names of pictures. A hyphen is a
word of its own, so that "eight-thirty" shares its parts with other times.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from gentext.tokenizer import CHINESE, SPECIALS, UNKNOWN, known

PIECE = re.compile(rf"{CHINESE}|-|(?:(?!{CHINESE})[^\s-])+")
TIGHT = re.compile(rf"{CHINESE}|-")  # what has no space beside it


class WordTokenizer:
    """One token for each word or Chinese character of ``words``, numbered from 4 in its order.

    Texts of known words come back where single spaces divide the words and none stand beside
    Chinese characters or hyphens. What is unknown as it is written is looked for with other
    capitals and the other form of the apostrophe.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.size = len(SPECIALS) + len(self.words)
        self._number = {word: k for k, word in enumerate(self.words, len(SPECIALS))}
        self._alike: dict[str, int] = {}
        for word, number in self._number.items():
            self._alike.setdefault(_key(word), number)
        if not self.words or len(self._number) < len(self.words):
            raise ValueError(
                f"got {len(self.words)} words, {len(self._number)} of them different; give each "
                "one once, and one at least"
            )
        broken = [word for word in self.words if not PIECE.fullmatch(word)]
        if broken:
            raise ValueError(
                f"{broken[0]!r} is not one word or one Chinese character: give its parts"
            )

    @classmethod
    def fit(cls, texts: Iterable[str]) -> WordTokenizer:
        """The words and Chinese characters of ``texts``, the commonest first."""
        counts = Counter(piece for text in texts for piece in PIECE.findall(text))
        return cls(sorted(counts, key=lambda piece: (-counts[piece], piece)))

    def encode(self, text: str, *, strict: bool = True) -> list[int]:
        """The numbers of the words and Chinese characters.

        Raises ValueError at an unknown one; with ``strict`` off, it becomes UNKNOWN.
        """
        pieces = PIECE.findall(text)
        tokens = [self._find(piece) for piece in pieces]
        if strict and UNKNOWN in tokens:
            raise ValueError(
                f"{pieces[tokens.index(UNKNOWN)]!r} is not among this model's {len(self.words)} "
                "words and characters: leave it out or write it otherwise"
            )
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens, without specials; an unknown one is shown as U+FFFD.

        Raises ValueError for numbers that are no tokens.
        """
        first, tokens = len(SPECIALS), known(tokens, self.size)
        kept = [t for t in tokens if t >= first or t == UNKNOWN]
        text = ""
        for word in ("\ufffd" if t == UNKNOWN else self.words[t - first] for t in kept):
            tight = not text or TIGHT.match(text[-1]) or TIGHT.match(word)
            text += word if tight else f" {word}"
        return text

    def _find(self, piece: str) -> int:
        return self._number.get(piece) or self._alike.get(_key(piece), UNKNOWN)

    def to_json(self) -> str:
        """The kind and the words."""
        return json.dumps({"kind": "words", "words": self.words}, ensure_ascii=False)


def _key(word: str) -> str:
    return word.casefold().replace("'", "\u2019")
