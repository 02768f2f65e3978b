"""GPT: a Transformer decoder as a distribution over sequences, and what it costs in numbers.

Causality lets a prefix be computed once and kept; sizes, operations and the variance at the start
are formulas of the shape; a small model can draft what a large one checks, without changing its
law.

Notation: ``L`` layers, ``d`` width, ``V`` vocabulary, ``T`` places; ``p`` the probabilities of the
model, ``q`` those of the draft.

Source: Radford et al., 2018 and 2019.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core.checks import check_dropout, check_heads
from gentext.core.shapes import Logits, Tokens
from gentext.sequences import decoding
from gentext.sequences.autoregressive import Autoregressive
from gentext.sequences.transformer import TransformerBlock, causal_mask

SPREAD = 0.02  # standard deviation of the weights at the start

State = tuple[Tensor, int, Any]  # cache (n, L, heads, 2, capacity, d/heads), how many read, weights


class GPT(Autoregressive):
    """p(x_t | x_<t) by a Transformer decoder with norms first, learned positions and a tied head.

    Args: ``vocab_size`` tokens, ``bos`` among them; ``context`` the most tokens it can read, of
    which ``bos`` is the first; ``layers`` blocks of ``heads`` heads; ``width`` of the features;
    ``dropout``; ``pad`` the token that fills rows up and counts nothing, if there is one.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        context: int,
        layers: int,
        heads: int,
        width: int,
        dropout: float = 0.0,
        bos: int = 1,
        pad: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"vocab_size": vocab_size, "context": context, "layers": layers}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but got {value}")
        for name, token in {"bos": bos, "pad": pad}.items():
            if token is not None and not 0 <= token < vocab_size:
                raise ValueError(
                    f"got {name}={token}; it must be one of the {vocab_size} tokens, 0 to "
                    f"{vocab_size - 1}: enlarge vocab_size or name another"
                )
        check_heads(width, heads)
        check_dropout(dropout)
        self.vocab_size, self.context, self.bos, self.pad = vocab_size, context, bos, pad
        self.tokens, self.positions = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, dropout=dropout, activation="gelu-tanh")
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the weights: N(0, 0.02²), the maps that end the 2L branches by √(2L) narrower.

        So the branches together add the variance 0.02² d to the features, however deep the model.

        Equation: :eq:`eq-gpt-init`
        """
        ends = (".out.weight", ".down.weight")
        for name, parameter in self.named_parameters():
            if "norm" in name:
                nn.init.constant_(parameter, float(name.endswith("weight")))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
            else:
                narrower = math.sqrt(2 * len(self.blocks)) if name.endswith(ends) else 1.0
                nn.init.normal_(parameter, std=SPREAD / narrower)

    def logits(self, tokens: Tensor) -> Logits:
        """The logits of the token after each place of ``tokens``; give ``bos`` yourself."""
        self.check_tokens(tokens)
        x = self.dropout(self.tokens(tokens) + self.positions.weight[: tokens.shape[1]])
        for block in self.blocks:
            x = block(x, causal=True)
        return F.linear(self.norm(x), self.tokens.weight)

    def begin(self, n: int, capacity: int) -> State:
        """An empty cache for ``n`` sequences of at most ``capacity`` tokens, and the weights."""
        if not 1 <= capacity <= len(self.positions.weight):
            raise ValueError(
                f"got capacity={capacity}; it must be from 1 to the context, {self.context}"
            )
        layers = [_Layer(block) for block in self.blocks]
        like, heads = self.tokens.weight, layers[0].heads
        size = like.shape[1] // heads
        return like.new_empty(n, len(layers), heads, 2, capacity, size), 0, layers

    def step(self, token: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (n,); gives the logits (n, v) of the next. The cache is written to.

        Equation: :eq:`eq-gpt-kv`
        """
        return self.read(token[:, None], state)

    def read(self, tokens: Tokens, state: State) -> tuple[Tensor, State]:
        """Read ``tokens`` (n, t) at once; gives the logits (n, v) after the last of them."""
        x, state = self._extend(tokens, state)
        return F.linear(self.norm(x[:, -1]), self.tokens.weight), state

    def extend(self, tokens: Tokens, state: State) -> tuple[Logits, State]:
        """Read ``tokens`` (n, t) at once; gives the logits (n, t, v) after each of them."""
        x, state = self._extend(tokens, state)
        return F.linear(self.norm(x), self.tokens.weight), state

    @torch.no_grad()
    def _extend(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """The features of the next ``tokens``, by the keys and values of those before them."""
        cache, position, layers = state
        t = tokens.shape[1]
        end = position + t
        if end > cache.shape[4]:
            raise ValueError(
                f"got {t} tokens after {position}, but this cache has room for {cache.shape[4]}: "
                "begin with a larger capacity"
            )
        x = F.embedding(tokens, self.tokens.weight) + self.positions.weight[position:end]
        mask = causal_mask(end, x.device)[position:] if t > 1 else None
        new, all_ = cache.narrow(4, position, t).unbind(1), cache.narrow(4, 0, end).unbind(1)
        rows = x.flatten(0, 1)
        for layer, now, past in zip(layers, new, all_, strict=True):
            rows = layer(rows, now, past, mask)
        return rows.view_as(x), (cache, end, layers)


class _Layer:
    """A block of a ``GPT`` for reading with a cache: the same maths in few calls.

    At one token a time a call costs as much as what it computes, so the weights are gathered once.
    """

    def __init__(self, block: Any) -> None:
        attention, feed_forward = block.attention, block.feed_forward
        self.heads, self.activation = attention.heads, feed_forward.activation
        self.norm1, self.norm2 = (
            (norm.normalized_shape, norm.weight, norm.bias) for norm in (block.norm1, block.norm2)
        )
        self.qkv, self.out, self.up, self.down = (
            (linear.weight, linear.bias)
            for linear in (attention.qkv, attention.out, feed_forward.up, feed_forward.down)
        )

    def __call__(self, x: Tensor, now: Tensor, past: Tensor, mask: Tensor | None) -> Tensor:
        """Features (n t, d) of new places ``x``; writes their keys and values to ``now``.

        ``past`` (n, heads, 2, s, d/heads) are the keys and values of all places, the new included.
        """
        n, heads, _, t, size = now.shape
        h = F.linear(F.layer_norm(x, *self.norm1), *self.qkv)
        qkv = h.view(n, t, 3, heads, size).transpose(1, 3)
        now.copy_(qkv.narrow(2, 1, 2))
        k, v = past.unbind(2)
        h = F.scaled_dot_product_attention(qkv.select(2, 0), k, v, attn_mask=mask)
        x = F.linear(h.transpose(1, 2).reshape(x.shape), *self.out).add_(x)
        h = self.activation(F.linear(F.layer_norm(x, *self.norm2), *self.up))
        return F.linear(h, *self.down).add_(x)


def count_parameters(*, vocab_size: int, context: int, layers: int, width: int, **_: Any) -> int:
    """L(12d² + 13d) + (V + T)d + 2d, the parameters of a ``GPT`` with these arguments.

    Equation: :eq:`eq-gpt-params`
    """
    d = width
    return layers * (12 * d**2 + 13 * d) + (vocab_size + context) * d + 2 * d


def count_flops(
    *, vocab_size: int, layers: int, width: int, tokens: int, batch: int = 1, **_: Any
) -> int:
    """Floating-point operations of ``logits`` for (batch, tokens); a training step takes thrice.

    B T [L (24d² + 4Td) + 2dV]: two for each multiplication and addition of the matrix products,
    attention counted in full (causality leaves half of it unused).

    Equation: :eq:`eq-gpt-flops`
    """
    d = width
    return batch * tokens * (layers * (24 * d**2 + 4 * tokens * d) + 2 * d * vocab_size)


def cache_bytes(*, layers: int, width: int, tokens: int, batch: int = 1, item: int = 4) -> int:
    """2 L B T d · ``item``: bytes of the keys and values kept for (batch, tokens).

    Equation: :eq:`eq-gpt-kv`
    """
    return 2 * layers * batch * tokens * width * item


def acceptance(p: Tensor, q: Tensor) -> Tensor:
    """min(1, p/q): with which probability each token (…, v) that the draft drew is kept.

    Under q that is Σ min(p, q) = 1 − TV(p, q) on average.

    Equation: :eq:`eq-gpt-specdec`
    """
    return torch.where(q > 0, p / q, 1.0).clamp(max=1)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """(p − q)₊ normalised: the law (…, v) of the token that replaces a rejected one.

    Where p = q nothing is rejected, and it is p.

    Equation: :eq:`eq-gpt-specdec`
    """
    above = (p - q).clamp(min=0)
    total = above.sum(-1, keepdim=True)
    return torch.where(total > 0, above / total, p)


@torch.no_grad()
def speculative(
    model: GPT,
    draft: GPT,
    tokens: Tokens,
    n: int,
    *,
    ahead: int = 4,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, float]:
    """``model.generate(tokens, n)`` in law, with fewer passes of ``model``; and the share kept.

    The draft proposes ``ahead`` tokens, one pass of the model gives its probabilities at all of
    them, and they are kept up to the first that is rejected in any row; there, one is drawn from
    the residual. Whatever the draft, the law is the model's; a bad draft only saves nothing.

    Raises ValueError where prompt and ``n`` tokens exceed a context, or vocabularies differ.

    Equation: :eq:`eq-gpt-specdec`

    Source: Leviathan et al., ICML 2023.
    """
    _check_draft(model, draft, tokens, n, ahead, temperature)
    modes = [(m, m.training) for m in (model, draft)]
    for m, _ in modes:
        m.eval()
    try:
        return _speculate(model, draft, tokens, n, ahead, temperature, generator)
    finally:
        for m, training in modes:
            m.train(training)


def _speculate(
    model: GPT,
    draft: GPT,
    tokens: Tensor,
    n: int,
    ahead: int,
    temperature: float,
    generator: torch.Generator | None,
) -> tuple[Tensor, float]:
    rows, length = len(tokens), tokens.shape[1] + n
    x = torch.cat([tokens.new_full((rows, 1), model.bos), tokens], dim=1)
    big, small = (m.begin(rows, length) for m in (model, draft))
    proposed = kept = 0
    while x.shape[1] <= length:
        start, k = x.shape[1], min(ahead, length - x.shape[1])
        q = []
        for _ in range(k):
            logits, small = draft.read(x[:, small[1] :], small)
            q.append((logits / temperature).softmax(-1))
            x = torch.cat([x, torch.multinomial(q[-1], 1, generator=generator)], dim=1)
        logits, big = model.extend(x[:, big[1] :], big)
        p = (logits[:, -k - 1 :] / temperature).softmax(-1)
        x, good = _judge(x, start, p, q, generator)
        big, small = _back(big, x.shape[1] - 1), _back(small, x.shape[1] - 1)
        proposed, kept = proposed + k, kept + good
    return x[:, 1:], kept / max(1, proposed)


def _back(state: State, length: int) -> State:
    """The same cache, of which only the first ``length`` places count."""
    cache, position, layers = state
    return cache, min(position, length), layers


def _judge(
    x: Tensor, start: int, p: Tensor, q: list[Tensor], generator: torch.Generator | None
) -> tuple[Tensor, int]:
    """``x`` with the tokens from ``start`` on kept or replaced, and how many all rows kept."""
    for place, law in enumerate(q):
        drafted = x[:, start + place : start + place + 1]
        uniform = torch.rand(drafted.shape, device=x.device, generator=generator)
        keep = uniform < acceptance(p[:, place], law).gather(1, drafted)
        if not bool(keep.all()):
            other = torch.multinomial(residual(p[:, place], law), 1, generator=generator)
            return torch.cat([x[:, : start + place], torch.where(keep, drafted, other)], 1), place
    last = torch.multinomial(p[:, -1], 1, generator=generator)
    return torch.cat([x, last], dim=1), len(q)


def _check_draft(
    model: GPT, draft: GPT, tokens: Tensor, n: int, ahead: int, temperature: float
) -> None:
    decoding.check_options(temperature)
    if temperature == 0 or ahead < 1 or n < 0:
        raise ValueError(
            f"got temperature={temperature}, ahead={ahead} and n={n}; the temperature must be "
            "above 0, ahead at least 1 and n at least 0"
        )
    if (model.vocab_size, model.bos) != (draft.vocab_size, draft.bos):
        raise ValueError(
            f"the model has {model.vocab_size} tokens and bos={model.bos}, the draft "
            f"{draft.vocab_size} and bos={draft.bos}; both must speak of the same tokens"
        )
    for m in (model, draft):
        m.check_tokens(tokens, room=n)


def load_gpt2(
    source: str | os.PathLike[str] | Mapping[str, Tensor],
    *,
    heads: int | None = None,
    dropout: float = 0.0,
) -> GPT:
    """The GPT-2 of a Hugging Face checkpoint, for the same logits.

    Arguments:
        source: a safetensors file, or the tensors by their names (``state_dict()``).
        heads: heads of each layer; by default, as in all of OpenAI's sizes, width/64.

    Raises ValueError where ``source`` is no GPT-2. The last token, ``<|endoftext|>``, is ``bos``.
    """
    tensors = _read_tensors(source)
    try:
        vocab_size, width = tensors["wte.weight"].shape
        context, layers = len(tensors["wpe.weight"]), 0
        while f"h.{layers}.ln_1.weight" in tensors:
            layers += 1
        model = GPT(
            vocab_size=vocab_size,
            context=context,
            layers=layers,
            heads=heads or max(1, width // 64),
            width=width,
            dropout=dropout,
            bos=vocab_size - 1,
        )
        theirs = _renamed(tensors, layers)
    except KeyError as missing:
        raise ValueError(f"this is no GPT-2: it has no tensor {missing}") from None
    model.load_state_dict(theirs)
    return model.eval()


def _read_tensors(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not isinstance(source, Mapping):
        from safetensors.torch import load_file

        source = load_file(source)
    return {name.removeprefix("transformer."): tensor for name, tensor in source.items()}


THEIRS = {
    "norm1": "ln_1",
    "attention.qkv": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm2": "ln_2",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}


def _renamed(tensors: Mapping[str, Tensor], layers: int) -> dict[str, Tensor]:
    """The tensors under our names; theirs keep the matrices of linear maps transposed."""
    ours = {"tokens.weight": tensors["wte.weight"], "positions.weight": tensors["wpe.weight"]}
    for kind in ("weight", "bias"):
        ours[f"norm.{kind}"] = tensors[f"ln_f.{kind}"]
        for layer in range(layers):
            for name, their in THEIRS.items():
                tensor = tensors[f"h.{layer}.{their}.{kind}"]
                ours[f"blocks.{layer}.{name}.{kind}"] = tensor.T if tensor.ndim == 2 else tensor
    return ours
