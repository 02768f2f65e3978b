"""Text to numbers and back: characters, words, and byte pairs by the ``tokenizers`` library.

Every vocabulary that is made here begins with the same four special tokens; those of others, such
as BERT's in :mod:`gentext.tokens.wordpiece`, have them elsewhere, as ``pad``, ``bos`` and ``eos``
say. Whatever else it holds stands in the
tokenizer's JSON, which a checkpoint carries along, so that a model never meets another's numbers.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from gentext.core import chosen
from gentext.core.shapes import Tokens
from gentext.core.signatures import keep_contract
from gentext.tokens.wordpiece import WordPieceTokenizer

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unknown>")
PAD, BOS, EOS, UNKNOWN = 0, 1, 2, 3  # their numbers
MOST = 2**20  # tokens that are learned; the library sets memory aside for all that are asked for
CHINESE = "[\u4e00-\u9fff]"
PIECE = re.compile(rf"{CHINESE}|-|(?:(?!{CHINESE})[^\s-])+")  # a word or a Chinese character
TIGHT = re.compile(rf"{CHINESE}|-")  # what has no space beside it


@runtime_checkable
class Tokenizer(Protocol):
    """What all kinds share; ``pad``, ``bos`` and ``eos`` are numbers of special tokens."""

    size: int
    pad: int
    bos: int
    eos: int

    def encode(self, text: str, *, strict: bool = True) -> list[int]:
        """The tokens of a text."""

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens."""

    def to_json(self) -> str:
        """All there is to know about it."""


class CharTokenizer:
    """One token for each character of ``alphabet``, numbered from 4 in its order."""

    pad, bos, eos = PAD, BOS, EOS

    def __init__(self, alphabet: str) -> None:
        if len(set(alphabet)) != len(alphabet) or not alphabet:
            raise ValueError(
                f"got an alphabet of {len(alphabet)} characters, {len(set(alphabet))} of them "
                "different; give each one once, and one at least"
            )
        self.alphabet = alphabet
        self.size = len(SPECIALS) + len(alphabet)
        self._number = {c: k for k, c in enumerate(alphabet, len(SPECIALS))}

    @classmethod
    def fit(cls, texts: Iterable[str], *, at_most: int | None = None) -> CharTokenizer:
        """The characters of ``texts``, the commonest first, ``at_most`` so many."""
        counts = Counter(c for text in texts for c in text)
        ranked = sorted(counts, key=lambda c: (-counts[c], c))
        return cls("".join(ranked[:at_most]))

    def encode(self, text: str, *, strict: bool = True) -> list[int]:
        """The numbers of the characters.

        Raises ValueError at an unknown one; with ``strict`` off, it becomes UNKNOWN.
        """
        tokens = [self._number.get(c, UNKNOWN) for c in text]
        if strict and UNKNOWN in tokens:
            place = tokens.index(UNKNOWN)
            raise ValueError(
                f"character {text[place]!r} at place {place} is not in this model's alphabet of "
                f"{len(self.alphabet)} characters: leave it out or write it otherwise"
            )
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The characters of the tokens, without specials; an unknown one is shown as U+FFFD.

        Raises ValueError for numbers that are no tokens.
        """
        first, tokens = len(SPECIALS), _checked(tokens, self.size)
        kept = (t for t in tokens if t >= first or t == UNKNOWN)
        return "".join("\ufffd" if t == UNKNOWN else self.alphabet[t - first] for t in kept)

    def to_json(self) -> str:
        """The kind and the alphabet."""
        return json.dumps({"kind": "characters", "alphabet": self.alphabet}, ensure_ascii=False)


class WordTokenizer:
    """One token for each word or Chinese character of ``words``, numbered from 4 in its order.

    Texts of known words come back where single spaces divide the words and none stand beside
    Chinese characters or hyphens. What is unknown as it is written is looked for with other
    capitals and the other form of the apostrophe.
    """

    pad, bos, eos = PAD, BOS, EOS

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
        first, tokens = len(SPECIALS), _checked(tokens, self.size)
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


class BPETokenizer:
    """Byte-pair encoding of UTF-8 bytes (Sennrich et al. 2016; Radford et al. 2019).

    It begins with the 256 bytes, so no text is unknown, and adds the pairs that were merged most.
    Learning, encoding and decoding are done by the ``tokenizers`` library, whose JSON it is made
    of; :mod:`gentext.tokens.bpe` shows how, by plain counting. In GPT-2's the one special token,
    ``<|endoftext|>``, stands for all three.
    """

    def __init__(self, tokenizers: str) -> None:
        try:
            self._inner = _library().Tokenizer.from_str(tokenizers)
        except Exception as error:  # the library knows no narrower class
            raise ValueError(f"this is no byte-pair tokenizer ({error}); save it anew") from error
        self._inner.encode_special_tokens = True  # "<bos>" in a text is five letters
        self._inner.no_truncation()  # which a file may have switched on
        self._inner.no_padding()
        self.size: int = self._inner.get_vocab_size()
        self.pad, self.bos, self.eos = map(self._special, SPECIALS[:3])

    @classmethod
    def fit(cls, texts: Iterable[str], *, size: int, apart: str | None = None) -> BPETokenizer:
        """Learns a vocabulary of ``size`` tokens, the 4 specials and 256 bytes among them.

        ``apart`` is a regular expression of what is never merged with its neighbours, such as
        CHINESE for single characters.
        """
        least = len(SPECIALS) + 256
        if not least <= size <= MOST:
            raise ValueError(
                f"got size={size}; there are {least} bytes and specials: give more, and at most "
                f"{MOST:,} tokens in all"
            )
        library = _library()
        inner = library.Tokenizer(library.models.BPE())
        words = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.pre_tokenizer = words
        if apart is not None:
            cut = library.pre_tokenizers.Split(library.Regex(apart), "isolated")
            inner.pre_tokenizer = library.pre_tokenizers.Sequence([cut, words])
        inner.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIALS),
            initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner.to_str())

    def encode(self, text: str, *, strict: bool = True) -> list[int]:
        """The tokens of any text; ``strict`` changes nothing, since every byte is known."""
        return list(self._inner.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens, without specials; broken UTF-8 is shown as U+FFFD."""
        return str(self._inner.decode([int(t) for t in tokens], skip_special_tokens=True))

    def _special(self, name: str) -> int:
        for known in (name, "<|endoftext|>"):
            number = self._inner.token_to_id(known)
            if number is not None:
                return int(number)
        raise ValueError(f"this byte-pair tokenizer has neither {name} nor <|endoftext|>")

    def pieces(self, text: str) -> list[str]:
        """The tokens of a text as text; a part of a character is shown as U+FFFD."""
        return [self.decode([token]) for token in self.encode(text)]

    def sizes(self, text: str) -> list[int]:
        """How many bytes of UTF-8 each token of a text stands for."""
        # The library writes every byte of a token as one character.
        return [len(token) for token in self._inner.encode(text, add_special_tokens=False).tokens]

    def to_json(self) -> str:
        """The kind and the library's own JSON."""
        return json.dumps({"kind": "bpe", "tokenizers": self._inner.to_str()}, ensure_ascii=False)


TOKENIZERS: dict[str, Callable[..., Tokenizer]] = {
    "characters": CharTokenizer,
    "words": WordTokenizer,
    "bpe": BPETokenizer,
    "wordpiece": WordPieceTokenizer,
}


def from_json(text: str) -> Tokenizer:
    """The tokenizer that ``to_json`` described; ``ValueError`` for anything else."""
    try:
        fields = {**json.loads(text)}
        made: Tokenizer = chosen("tokenizer", fields.pop("kind"), TOKENIZERS)(**fields)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"this is no tokenizer of gentext ({error!r}); save it anew") from error
    return made


def rows(
    tokenizer: Tokenizer, texts: Sequence[str], length: int, *, strict: bool = False
) -> Tokens:
    """Each text as a row of ``length`` tokens: its own, EOS, then PAD.

    Raises ValueError when one does not fit.
    """
    encoded = [tokenizer.encode(text, strict=strict) for text in texts]
    for text, tokens in zip(texts, encoded, strict=True):
        if len(tokens) >= length:
            raise ValueError(
                f"{text[:40]!r} has {len(tokens) + 1} tokens with EOS; rows are {length}"
            )
    return filled(encoded, length, pad=tokenizer.pad, eos=tokenizer.eos)


def filled(encoded: Sequence[list[int]], length: int, *, pad: int = PAD, eos: int = EOS) -> Tokens:
    """Rows of ``length``: tokens of which there are fewer, ``eos``, then ``pad``."""
    table = torch.full((len(encoded), length), pad)
    for row, tokens in zip(table, encoded, strict=True):
        row[: len(tokens) + 1] = torch.tensor([*tokens, eos])
    return table


def _checked(tokens: Iterable[int], size: int) -> list[int]:
    """The tokens as a list; raises ValueError for numbers that none of ``size`` has."""
    listed = list(tokens)
    if listed and not 0 <= min(listed) <= max(listed) < size:
        raise ValueError(
            f"got tokens from {min(listed)} to {max(listed)}, but this tokenizer has 0 to "
            f"{size - 1}: decode by the one that encoded them"
        )
    return listed


def _library() -> Any:
    import tokenizers

    return tokenizers


def _key(word: str) -> str:
    return word.casefold().replace("'", "\u2019")


keep_contract(globals())
