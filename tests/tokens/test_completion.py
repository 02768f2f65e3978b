"""Texts completed by a model whose next token is known, and by those of the chapters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gentext.core import Generates
from gentext.denoising.masked_diffusion import MaskedDiffusion
from gentext.sequences.bert import BERT
from gentext.sequences.gpt import GPT
from gentext.sequences.recurrent import RecurrentLM
from gentext.sequences.wavenet import WaveNet
from gentext.tokens.completion import check_fits, complete
from gentext.tokens.tokenizer import BOS, EOS, CharTokenizer


class Alphabet(RecurrentLM):
    """After any token comes the next one; after the last, the end."""

    def logits(self, tokens: Tensor) -> Tensor:
        following = torch.where(tokens == BOS, 4, torch.where(tokens == 6, EOS, tokens + 1))
        return 50.0 * torch.nn.functional.one_hot(following, 7)

    def begin(self, n: int, capacity: int) -> None:
        return None

    def read(self, tokens: Tensor, state: None) -> tuple[Tensor, None]:
        return self.logits(tokens)[:, -1], None


def test_a_text_is_completed_to_its_end() -> None:
    model, made = Alphabet(vocab_size=7, hidden=2), CharTokenizer("abc")
    assert complete(model, made, "") == "abc"
    assert complete(model, made, "b") == "bc"
    assert complete(model, made, "a", 1) == "ab"
    with pytest.raises(ValueError, match="'z' at place 0"):
        complete(model, made, "z")
    with pytest.raises(ValueError, match="knows 8 tokens, but the model 7"):
        complete(model, CharTokenizer("abcd"), "a")


SIZES = {"layers": 1, "heads": 1, "width": 8}
WRITERS = {
    "gpt": lambda: GPT(vocab_size=7, context=12, **SIZES),
    "recurrent": lambda: RecurrentLM(vocab_size=7, hidden=4),
    "wavenet": lambda: WaveNet(levels=7, channels=4, layers=2),
    "masked_diffusion": lambda: MaskedDiffusion(vocab_size=7, context=12, **SIZES),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_generates_completes_texts(name: str) -> None:
    model, made = WRITERS[name](), CharTokenizer("abc")
    assert isinstance(model, Generates)
    a, b = (
        complete(model, made, "ab", 6, temperature=0.9, generator=torch.Generator().manual_seed(s))
        for s in (1, 1)
    )
    assert a == b
    assert a.startswith("ab")
    assert len(a) <= 8
    with pytest.raises(ValueError, match="5 tokens, but the model 7"):
        check_fits(model, CharTokenizer("a"))


def test_an_encoder_generates_nothing() -> None:
    assert not isinstance(BERT(vocab_size=7, context=12, **SIZES), Generates)
