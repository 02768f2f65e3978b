"""WordPiece, the tokens of BERT: words cut into the longest pieces that a vocabulary has.

Text is cleaned, Chinese characters are set apart, words are divided at spaces and punctuation, and
each word is read from its beginning; pieces that continue one begin with ``##``. The work is done
by the ``tokenizers`` library.

Source: Wu et al., 2016; Devlin et al., NAACL 2019.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from gentext.core.signatures import keep_contract

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHINESE = "[\u3000-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0002fa1f]"
BESIDE = re.compile(rf"(?<={CHINESE}) | (?={CHINESE})")  # spaces


class WordPieceTokenizer:
    """One token for each piece of a word or Chinese character.

    Its special tokens have numbers of its own: ``pad``, ``unknown``, ``bos``, which is [CLS],
    ``eos``, which is [SEP], and ``mask``. Where a text has "[MASK]" or another of them written out,
    it is read as that token. It is made of the library's JSON; see also ``from_words``.
    """

    def __init__(self, tokenizers: str) -> None:
        import tokenizers as library

        try:
            self._inner = library.Tokenizer.from_str(tokenizers)
            model = self._inner.model
        except Exception as error:  # the library knows no narrower class
            raise ValueError(f"this is no WordPiece tokenizer ({error}); save it anew") from error
        if not isinstance(model, library.models.WordPiece):
            kind = type(model).__name__
            raise ValueError(f"this is a tokenizer of the kind {kind}, and no WordPiece")
        self._inner.no_truncation()  # which a file may have switched on
        self._inner.no_padding()
        numbers = self._inner.get_vocab()
        lacking = [name for name in SPECIALS if name not in numbers]
        if lacking:
            raise ValueError(
                f"the vocabulary has no {' and no '.join(lacking)}: give that of a BERT, which has "
                f"all of {', '.join(SPECIALS)}"
            )
        self.pad, self.unknown, self.bos, self.eos, self.mask = (numbers[name] for name in SPECIALS)
        self.size: int = max(numbers.values()) + 1

    @classmethod
    def from_words(
        cls,
        words: Sequence[str],
        *,
        lowercase: bool = True,
        accents: bool | None = None,
        chinese: bool = True,
    ) -> WordPieceTokenizer:
        """The tokenizer of a vocabulary, in which each word or piece has its place as its number.

        Arguments:
            lowercase: whether capitals become small letters.
            accents: whether accents stay; by default they do where capitals do.
            chinese: whether Chinese characters are set apart.
        """
        import tokenizers as library

        vocabulary = {word: number for number, word in enumerate(words)}
        inner = library.Tokenizer(library.models.WordPiece(vocabulary, unk_token="[UNK]"))
        inner.normalizer = library.normalizers.BertNormalizer(
            lowercase=bool(lowercase),
            strip_accents=None if accents is None else not accents,
            handle_chinese_chars=bool(chinese),
        )
        inner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        inner.decoder = library.decoders.WordPiece()
        inner.add_special_tokens([name for name in SPECIALS if name in vocabulary])
        return cls(inner.to_str())

    def encode(self, text: str, *, strict: bool = True) -> list[int]:
        """The tokens of a text, without [CLS] and [SEP].

        Raises ValueError at a word of unknown characters; with ``strict`` off, it becomes [UNK].
        """
        encoded = self._inner.encode(text, add_special_tokens=False)
        tokens = list(encoded.ids)
        if strict and self.unknown in tokens:
            start, end = encoded.offsets[tokens.index(self.unknown)]
            raise ValueError(
                f"{text[start:end]!r} at place {start} is not among this model's {self.size} "
                "pieces of words: leave it out or write it otherwise"
            )
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of the tokens, without specials; an unknown one is shown as U+FFFD.

        Spaces beside Chinese characters and punctuation are left out. Raises ValueError for
        numbers that are no tokens.
        """
        listed = [int(token) for token in tokens]
        if listed and not 0 <= min(listed) <= max(listed) < self.size:
            raise ValueError(
                f"got tokens from {min(listed)} to {max(listed)}, but this tokenizer has 0 to "
                f"{self.size - 1}: decode by the one that encoded them"
            )
        special = {self.pad, self.bos, self.eos, self.mask}
        kept = [self._piece(token) for token in listed if token not in special]
        return BESIDE.sub("", str(self._inner.decoder.decode(kept))) if kept else ""

    def _piece(self, token: int) -> str:
        return "\ufffd" if token == self.unknown else self._inner.id_to_token(token) or ""

    def to_json(self) -> str:
        """The kind and the library's own JSON."""
        fields: dict[str, Any] = {"kind": "wordpiece", "tokenizers": self._inner.to_str()}
        return json.dumps(fields, ensure_ascii=False)


keep_contract(globals())
