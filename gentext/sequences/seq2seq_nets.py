"""The two networks of translation: a Transformer, and gated recurrent networks with attention.

Each gives ``read`` (the memory of a source), ``write`` (features that predict the target), the same
step by step (``begin``, ``step``), and ``attention`` (the weights with which the target reads).

Notation: ``x`` and ``y`` embedded source and target, ``s`` and ``t`` their lengths; ``memory`` what
the encoder made of the source, ``shown`` (n, s) where that is no padding; ``h`` features from
which tokens are predicted.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gentext.core import check_counts
from gentext.core.signatures import keep_contract
from gentext.sequences.attention import sinusoidal_positions
from gentext.sequences.transformer import Transformer

Features = Float[Tensor, "n t width"]
Memory = Float[Tensor, "n s width"]
Shown = Bool[Tensor, "n s"]
Maps = Float[Tensor, "n layers heads t s"]
State = dict[str, Any]


class TransformerNet(nn.Module):
    """Encoder and decoder of Vaswani et al. (2017), with norms first and sinusoidal positions."""

    positions: Tensor

    def __init__(self, width: int, layers: int, heads: int, dropout: float, context: int) -> None:
        super().__init__()
        self.register_buffer("positions", sinusoidal_positions(context, width), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = Transformer(width, heads, layers, dropout=dropout)

    def read(self, x: Memory, shown: Shown) -> Memory:
        """The memory of a source."""
        return self.blocks.encode(self._placed(x), mask=shown[:, None, None])

    def write(self, y: Features, memory: Memory, shown: Shown) -> Features:
        """Features that predict the token after each of ``y``."""
        return self.blocks.decode(self._placed(y), memory, memory_mask=shown[:, None, None])

    def begin(self, memory: Memory, shown: Shown, capacity: int) -> State:
        """What decoding keeps: keys and values of the places so far and of the memory."""
        caches = self.blocks.begin(memory, capacity)
        return {"caches": caches, "shown": shown, "position": 0}

    def step(self, y: Features, state: State) -> tuple[Features, State]:
        """What ``write`` gives at one more place ``y`` (n, 1, width)."""
        place, mask = state["position"], state["shown"][:, None, None]
        h = self.blocks.step(self._placed(y, place), state["caches"], place, memory_mask=mask)
        return h, {**state, "position": place + 1}

    def attention(self, y: Features, memory: Memory, shown: Shown) -> Maps:
        """The weights of the decoder's cross-attention."""
        maps: list[Tensor] = []

        def look(module: Any, asked: tuple[Tensor, ...]) -> None:
            maps.append(module.weights(asked[0], memory, mask=shown[:, None, None]))

        blocks: Any = self.blocks.decoder
        handles = [block.cross.register_forward_pre_hook(look) for block in blocks]
        try:
            self.write(y, memory, shown)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(maps, dim=1)

    def _placed(self, x: Features, place: int = 0) -> Features:
        return self.dropout(x + self.positions[place : place + x.shape[1]].to(x.dtype))


class RecurrentNet(nn.Module):
    """A bidirectional GRU encoder and a GRU decoder that attends between its first two layers.

    The first layer of the decoder asks, the encoder's features answer by multiplicative attention,
    and the further layers read both, so that all steps of the training are computed at once.

    Source: Luong et al., EMNLP 2015; the place of the attention is that of Wu et al., 2016.
    """

    def __init__(self, width: int, layers: int, heads: int, dropout: float, context: int) -> None:
        super().__init__()
        check_counts(width=width, layers=layers)
        if width % 2:
            raise ValueError(f"width must be even for the two directions, but got {width}")
        self.forwards = nn.ModuleList(_gru(width, width // 2) for _ in range(layers))
        self.backwards = nn.ModuleList(_gru(width, width // 2) for _ in range(layers))
        self.start = nn.Linear(width, layers * width)
        self.first = _gru(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.further = nn.ModuleList(
            _gru(2 * width if k == 0 else width, width) for k in range(layers - 1)
        )
        self.join = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def read(self, x: Memory, shown: Shown) -> Memory:
        """The memory of a source: both directions at every place."""
        mirror = _mirror(shown)[..., None]
        x = self.dropout(x)
        for forward, backward in zip(self.forwards, self.backwards, strict=True):
            empty = x.new_zeros(1, len(x), x.shape[2] // 2)  # of the same kind, also under vmap
            reverse = backward(x.gather(1, mirror.expand_as(x)), empty)[0]
            reverse = reverse.gather(1, mirror.expand_as(reverse))
            x = self.dropout(torch.cat([forward(x, empty)[0], reverse], dim=-1))
        return x

    def write(self, y: Features, memory: Memory, shown: Shown) -> Features:
        """Features that predict the token after each of ``y``."""
        return self._run(y, memory, shown, self._start(memory, shown))[0]

    def begin(self, memory: Memory, shown: Shown, capacity: int) -> State:
        """What decoding keeps: the states of all layers of the decoder, and the memory."""
        return {"states": self._start(memory, shown), "memory": memory, "shown": shown}

    def step(self, y: Features, state: State) -> tuple[Features, State]:
        """What ``write`` gives at one more place ``y`` (n, 1, width)."""
        h, states, _ = self._run(y, state["memory"], state["shown"], state["states"])
        return h, {**state, "states": states}

    def attention(self, y: Features, memory: Memory, shown: Shown) -> Maps:
        """The weights of the attention, which has one layer and one head."""
        return self._run(y, memory, shown, self._start(memory, shown))[2][:, None, None]

    def _start(self, memory: Memory, shown: Shown) -> Float[Tensor, "n layers width"]:
        weight = shown.to(memory.dtype)[..., None]
        mean = (memory * weight).sum(1) / weight.sum(1)
        return self.start(mean).tanh().unflatten(1, (-1, memory.shape[-1]))

    def _weights(self, h: Features, memory: Memory, shown: Shown) -> Float[Tensor, "n t s"]:
        scores = self.query(h) @ memory.transpose(1, 2)
        return scores.masked_fill(~shown[:, None], -math.inf).softmax(-1)

    def _run(
        self, y: Features, memory: Memory, shown: Shown, states: Float[Tensor, "n layers width"]
    ) -> tuple[Features, Float[Tensor, "n layers width"], Float[Tensor, "n t s"]]:
        """Features, the states after them, and the attention's weights."""
        start = states.transpose(0, 1).contiguous()
        h, last = self.first(self.dropout(y), start[:1])
        weights, ends = self._weights(h, memory, shown), [last]
        context = weights @ memory
        x = torch.cat([h, context], dim=-1)
        for k, layer in enumerate(self.further, start=1):
            h, last = layer(self.dropout(x), start[k : k + 1])
            ends.append(last)
            x = h
        joined = self.join(self.dropout(torch.cat([h, context], dim=-1))).tanh()
        return self.dropout(joined), torch.cat(ends).transpose(0, 1), weights


NETS: dict[str, Any] = {"transformer": TransformerNet, "gru": RecurrentNet}


def _mirror(shown: Shown) -> Tensor:
    """Places (n, s) that turn every row round and leave its padding at the end."""
    place = torch.arange(shown.shape[1], device=shown.device)
    return torch.where(shown, shown.sum(1, keepdim=True) - 1 - place, place)


def _gru(inputs: int, width: int) -> nn.GRU:
    return nn.GRU(inputs, width, batch_first=True)


keep_contract(globals())
