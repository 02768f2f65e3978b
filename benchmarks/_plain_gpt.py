"""The peer of the benchmarks of GPT: a plain one, as tutorials write it with PyTorch's modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.sequences.gpt import GPT


class PlainBlock(nn.Module):
    """A block with norms first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.gelu = nn.GELU(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        """(n, t, width) to the same."""
        n, t, width = x.shape
        q, k, v = self.c_attn(self.ln_1(x)).split(width, dim=2)
        q, k, v = (
            part.view(n, t, self.heads, width // self.heads).transpose(1, 2) for part in (q, k, v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = y.transpose(1, 2).contiguous().view(n, t, width)
        x = x + self.c_proj(y)
        return x + self.c_out(self.gelu(self.c_fc(self.ln_2(x))))


class PlainGPT(nn.Module):
    """A GPT of the same maths and weights as ``model``."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        vocab_size, width = model.tokens.weight.shape
        heads = model.arguments["heads"]
        self.wte = nn.Embedding(vocab_size, width)
        self.wpe = nn.Embedding(len(model.positions.weight), width)
        self.h = nn.ModuleList(PlainBlock(width, heads) for _ in model.blocks)
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        with torch.no_grad():
            for mine, theirs in zip(self.parameters(), _in_order(model), strict=True):
                mine.copy_(theirs)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy in nats."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(place)
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def _in_order(model: GPT) -> list[Tensor]:
    """The parameters of ``model`` in the order of those of ``PlainGPT``."""
    modules: list[nn.Module] = [model.tokens, model.positions]
    for block in model.blocks:
        attention, feed_forward = block.attention, block.feed_forward
        modules += [block.norm1, block.norm2, attention.qkv, attention.out]  # type: ignore[list-item, union-attr]
        modules += [feed_forward.up, feed_forward.down]  # type: ignore[list-item, union-attr]
    return [p for module in [*modules, model.norm] for p in module.parameters()]
