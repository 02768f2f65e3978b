"""A GPT small enough for its strings to be counted out."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gentext.sequences.gpt import GPT

SHAPE = {"vocab_size": 11, "context": 8, "layers": 2, "heads": 2, "width": 16}


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def make(spread: float = 0.5, **arguments) -> GPT:
    """A model whose weights are so large that its predictions differ from each other."""
    model = GPT(**{**SHAPE, **arguments}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=spread)
    return model


def all_strings(vocab_size: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocab_size), repeat=length)))
