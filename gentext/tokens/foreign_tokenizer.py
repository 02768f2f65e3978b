"""Tokenizers that others publish: BERT's and GPT-2's from the files of a Hugging Face folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gentext.core.signatures import keep_contract
from gentext.tokens.tokenizer import BPETokenizer
from gentext.tokens.wordpiece import WordPieceTokenizer

JSON, WORDS, VOCABULARY, MERGES = "tokenizer.json", "vocab.txt", "vocab.json", "merges.txt"
CONFIG = "tokenizer_config.json"
NORMALIZER = {  # fields of the configuration, and what they are called in tokenizer.json
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
END = "<|endoftext|>"


def has_tokenizer(folder: str | os.PathLike[str]) -> bool:
    """Whether ``folder`` has files that ``load_tokenizer`` reads."""
    path = Path(os.path.expanduser(folder))
    both = (path / VOCABULARY).is_file() and (path / MERGES).is_file()
    return both or any((path / name).is_file() for name in (JSON, WORDS))


def load_tokenizer(folder: str | os.PathLike[str]) -> WordPieceTokenizer | BPETokenizer:
    """BERT's or GPT-2's tokenizer, from the folder of a checkpoint.

    It stands in ``tokenizer.json`` or else, BERT's in ``vocab.txt``, GPT-2's in ``vocab.json`` and
    ``merges.txt``. Whether capitals, accents and Chinese characters are kept as they are is said by
    ``tokenizer_config.json``, where there is one; without it capitals become small letters.

    Raises ValueError where none of these files is there, or one is not what it ought to be.
    """
    path = Path(os.path.expanduser(folder))
    if not has_tokenizer(path):
        raise ValueError(
            f"{path} has no tokenizer: give a folder with {JSON}, with {WORDS} (BERT), or with "
            f"{VOCABULARY} and {MERGES} (GPT-2)"
        )
    config = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    try:
        if (path / JSON).is_file():
            return _from_json(read_json(path / JSON), config)
        return _from_words(path, config) if (path / WORDS).is_file() else _from_merges(path, config)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"the tokenizer in {path} is damaged ({error!r})") from error


def read_utf8(path: Path) -> str:
    """The text of a file in UTF-8, of which every line ends in "\\n"; ValueError otherwise."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be opened ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x} at place "
            f"{error.start}): save it as UTF-8"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ValueError where it has none."""
    try:
        found = json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}): download it anew") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object, but a {type(found).__name__}: download it anew")
    return found


def _from_json(found: dict[str, Any], config: dict[str, Any]) -> WordPieceTokenizer | BPETokenizer:
    kind = found["model"].get("type")
    if kind == "BPE":
        return BPETokenizer(json.dumps(found))
    if kind != "WordPiece":
        raise ValueError(f"{JSON} has a tokenizer of the kind {kind!r}: give a WordPiece or BPE")
    normalizer = found.get("normalizer") or {}
    if normalizer.get("type") == "BertNormalizer":
        named = {ours: config[name] for name, ours in NORMALIZER.items() if name in config}
        found = {**found, "normalizer": {**normalizer, **named}}
    return WordPieceTokenizer(json.dumps(found))


def _from_words(path: Path, config: dict[str, Any]) -> WordPieceTokenizer:
    lines = read_utf8(path / WORDS).removesuffix("\n").split("\n")
    stripped = config.get("strip_accents")
    return WordPieceTokenizer.from_words(
        lines,
        lowercase=config.get("do_lower_case", True),
        accents=None if stripped is None else not stripped,
        chinese=config.get("tokenize_chinese_chars", True),
    )


def _from_merges(path: Path, config: dict[str, Any]) -> BPETokenizer:
    import tokenizers as library

    lines = (line.partition(" ") for line in read_utf8(path / MERGES).split("\n"))
    pairs = [(first, second) for first, _, second in lines if first and first != "#version:"]
    try:
        inner = library.Tokenizer(library.models.BPE(read_json(path / VOCABULARY), pairs))
    except Exception as error:  # the library knows no narrower class
        raise ValueError(
            f"{VOCABULARY} and {MERGES} in {path} do not fit one another ({error})"
        ) from error
    space = bool(config.get("add_prefix_space", False))
    inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=space)
    inner.decoder = library.decoders.ByteLevel()
    inner.add_special_tokens([END])
    return BPETokenizer(inner.to_str())


keep_contract(globals())
