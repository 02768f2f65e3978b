"""Tokenizers from the files of others, against ``transformers`` and the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_wordpiece import TEXTS, WORDS
from tokenizers import ByteLevelBPETokenizer

from gentext.tokens.completion import complete
from gentext.tokens.foreign_tokenizer import has_tokenizer, load_tokenizer
from gentext.tokens.tokenizer import BPETokenizer, from_json
from gentext.tokens.wordpiece import WordPieceTokenizer

ENGLISH = ["Hello world", " Hello  worlds!", "it's 12 o'clock\n", "春眠不觉晓 naïve 🙂", ""]
CASES = ({"do_lower_case": False}, {"do_lower_case": True}, {"strip_accents": False})


def bert(path: Path, **config: Any) -> Path:
    """A folder with the vocabulary of a BERT, and its configuration where there is one."""
    (path / "vocab.txt").write_bytes("".join(f"{word}\n" for word in WORDS).encode())
    if config:
        (path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return path


def gpt2(path: Path) -> Path:
    """A folder with vocab.json and merges.txt, as learned from a few words."""
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(
        ["Hello world, hello worlds"] * 9,
        vocab_size=275,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    learned.save_model(str(path))
    return path


@pytest.mark.parametrize("config", [{}, *CASES], ids=str)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_bert_from_its_words(tmp_path: Path, config: dict[str, bool], ends: str) -> None:
    transformers = pytest.importorskip("transformers")
    bert(tmp_path, **config)
    text = (tmp_path / "vocab.txt").read_text("utf-8")
    (tmp_path / "vocab.txt").write_bytes(text.replace("\n", ends).encode())
    made = load_tokenizer(tmp_path)
    theirs = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert isinstance(made, WordPieceTokenizer)
    assert made.size == len(WORDS)
    for text in TEXTS:
        assert made.encode(text, strict=False) == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize("config", CASES, ids=str)
def test_bert_from_tokenizer_json(tmp_path: Path, config: dict[str, bool]) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "words").mkdir()
    theirs = transformers.BertTokenizer.from_pretrained(bert(tmp_path / "words", **config))
    theirs.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    made = load_tokenizer(tmp_path)
    for text in TEXTS:
        assert made.encode(text, strict=False) == theirs.encode(text, add_special_tokens=False)


def test_the_configuration_is_above_tokenizer_json(tmp_path: Path) -> None:
    lower = WordPieceTokenizer.from_words(WORDS)._inner
    lower.save(str(tmp_path / "tokenizer.json"))
    assert load_tokenizer(tmp_path).encode("The") == [WORDS.index("the")]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}', "utf-8")
    assert load_tokenizer(tmp_path).encode("The") == [WORDS.index("The")]


def test_gpt2_from_its_pairs_and_from_tokenizer_json(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.GPT2Tokenizer.from_pretrained(gpt2(tmp_path))
    theirs.save_pretrained(tmp_path / "json")
    (tmp_path / "json" / "merges.txt").unlink(missing_ok=True)
    for made in (load_tokenizer(tmp_path), load_tokenizer(tmp_path / "json")):
        assert isinstance(made, BPETokenizer)
        assert made.size == len(theirs)
        assert (made.pad, made.bos, made.eos) == (theirs.eos_token_id,) * 3
        for text in ENGLISH:
            tokens = made.encode(text)
            assert tokens == theirs.encode(text)
            assert made.decode(tokens) == text
        assert from_json(made.to_json()).encode(ENGLISH[0]) == made.encode(ENGLISH[0])
    assert len(made.encode("Hello")) == 1


class Writer(torch.nn.Module):
    """Writes token 2 and then the end of GPT-2's texts."""

    def __init__(self, vocab_size: int, end: int) -> None:
        super().__init__()
        self.vocab_size, self.end = vocab_size, end
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def generate(self, tokens: torch.Tensor, n: int, *, stop: int, **_: Any) -> torch.Tensor:
        written = torch.tensor([[2, self.end, 7]])
        place = written[0].tolist().index(stop)
        return torch.cat([tokens, written[:, :place]], 1)


def test_a_text_of_gpt2_ends_with_its_own_token_and_not_with_ours(tmp_path: Path) -> None:
    made = load_tokenizer(gpt2(tmp_path))
    model = Writer(made.size, made.eos)
    assert complete(model, made, "Hello") == "Hello" + made.decode([2])


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    assert not has_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"has no tokenizer.*vocab\.txt.*merges\.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no JSON"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}', "utf-8")
    with pytest.raises(ValueError, match="of the kind 'Unigram'"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": 3}', "utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "latin-1"])
def test_a_vocabulary_in_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    words = ["[PAD]", "é" if encoding == "latin-1" else "春"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding)
    with pytest.raises(ValueError, match=r"vocab\.txt is not UTF-8 \(byte 0x.*save it as UTF-8"):
        load_tokenizer(tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), "utf-8-sig")
    assert load_tokenizer(tmp_path).pad == 0


def test_merges_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}', "utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\nb c\n", "utf-8")
    with pytest.raises(ValueError, match="do not fit one another"):
        load_tokenizer(tmp_path)
