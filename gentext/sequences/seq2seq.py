"""Translation: an encoder reads the source, a decoder writes the target token by token.

p(y | x) = Π_t p(y_t | y_<t, x) is exact and sums to one over all texts y that end. Two networks
compute it: a Transformer, and gated recurrent networks joined by attention, which came before.

Notation: ``x`` and ``y`` embedded source and target, ``s`` and ``t`` their lengths; ``memory`` what
the encoder made of the source, ``shown`` (n, s) where that is no padding; ``h`` features from
which tokens are predicted; ε = ``smoothing``.

Source: Sutskever et al., NeurIPS 2014; Bahdanau et al., ICLR 2015; Vaswani et al., NeurIPS 2017.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gentext.core import Model
from gentext.core.shapes import Logits, PerExample, Scalar, Tokens
from gentext.sequences.decoding import beam_search
from gentext.sequences.transformer import Transformer, sinusoidal_positions
from gentext.tokens.tokenizer import BOS, EOS, PAD

Features = Float[Tensor, "n t width"]
Memory = Float[Tensor, "n s width"]
Shown = Bool[Tensor, "n s"]
Maps = Float[Tensor, "n layers heads t s"]
State = dict[str, Any]
FIRST = EOS  # the first token that can be predicted; PAD and BOS, which stand before it, cannot


class Seq2Seq(Model):
    """A model of the target text given the source text.

    Source (n, s) and target (n, t) are rows of tokens, EOS, and PAD to the length of the longest.

    Args: ``vocab_size`` of the vocabulary that both languages share; ``net`` "transformer" or
    "gru"; ``width``, ``layers`` (of encoder and of decoder), ``heads`` of the Transformer;
    ``dropout``; ``smoothing`` ε of the targets in the loss; ``context`` the longest row.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        net: str = "transformer",
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        smoothing: float = 0.1,
        context: int = 128,
    ) -> None:
        super().__init__()
        if net not in NETS:
            raise ValueError(f"unknown net {net!r}: choose one of {', '.join(NETS)}")
        for name, value in {"width": width, "layers": layers, "context": context}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but got {value}")
        if vocab_size <= FIRST:
            raise ValueError(f"vocab_size must be above {FIRST}, but got {vocab_size}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must be at least 0 and below 1, but got {smoothing}")
        self.vocab_size, self.context, self.smoothing = vocab_size, context, smoothing
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocab_size - FIRST))
        self.net = NETS[net](width, layers, heads, dropout, context)

    def logits(self, source: Tensor, target: Tensor) -> Logits:
        """Logits of every token of ``target`` given those before it and the source.

        Those of PAD and BOS are −∞: a text consists of other tokens.
        """
        return F.pad(self._scores(source, target), (FIRST, 0), value=-math.inf)

    def loss(self, source: Tensor, target: Tensor) -> Scalar:
        """Cross-entropy with smoothed targets, the mean over all tokens but padding, in nats.

        Equation: :eq:`eq-attn-labelsmooth`
        """
        self.check(source, target)
        source, target = _trim(source), _trim(target)
        scores = self._scores(source, target)
        return label_smoothing_loss(scores, target - FIRST, self.smoothing, ignore=PAD - FIRST)

    def log_prob(self, source: Tensor, target: Tensor) -> PerExample:
        """log p(target | source), exact, in nats; a row without EOS is the start of a text."""
        self.check(source, target)
        log_p = self.logits(source, target).log_softmax(-1)
        written = target != PAD
        values = log_p.gather(2, target.masked_fill(~written, EOS)[..., None])[..., 0]
        return torch.where(written, values, 0).sum(1)

    @torch.no_grad()
    def attention(self, source: Tensor, target: Tensor) -> Maps:
        """The weights with which row t, which predicts token t of the target, reads the source."""
        self.check(source, target)
        shown = source != PAD
        memory = self.net.read(self._embed(source), shown)
        return self.net.attention(self._embed(_shifted(target)), memory, shown)

    @torch.no_grad()
    def translate(
        self,
        source: Tensor,
        *,
        width: int = 1,
        length: int | None = None,
        length_penalty: float = 0.0,
    ) -> Tokens:
        """The best target (n, t) that beam search finds: tokens, EOS if it came, and PAD.

        Arguments:
            width: number of beams; 1 takes the most probable token each time (greedy).
            length: the most tokens, EOS among them; by default those of the context.
            length_penalty: α in log p/((5 + tokens)/6)^α, by which finished texts are compared.
        """
        self._check_rows("source", source)
        length = self.context if length is None else length
        if not 1 <= length <= self.context:
            raise ValueError(f"length must be 1 to {self.context}, the context, but got {length}")
        training = self.training
        self.eval()
        try:
            source = _trim(source)
            shown = source != PAD
            memory = self.net.read(self._embed(source), shown)
            tokens, _ = beam_search(
                self._step,
                self.net.begin(memory, shown, length),
                source.new_full((len(source),), BOS),
                width=width,
                length=length,
                eos=EOS,
                length_penalty=length_penalty,
            )
        finally:
            self.train(training)
        ended = tokens == EOS
        return tokens.masked_fill(ended.cumsum(1) - ended.long() > 0, PAD)

    def check(self, *rows: Tensor) -> None:
        """Raise ValueError where source or target do not fit this model."""
        if len(rows) != 2 or len(rows[0]) != len(rows[1]):
            raise ValueError(
                f"got {len(rows)} tensors of {', '.join(str(len(r)) for r in rows)} rows: give "
                "source and target, a row each for every pair"
            )
        for name, tokens in zip(("source", "target"), rows, strict=True):
            self._check_rows(name, tokens)

    def _check_rows(self, name: str, tokens: Tensor) -> None:
        if tokens.ndim != 2 or not len(tokens) or not 1 <= tokens.shape[1] <= self.context:
            raise ValueError(
                f"{name} has shape {tuple(tokens.shape)}, but this model needs n >= 1 rows of 1 "
                f"to {self.context} tokens: cut them, or build it with a longer context"
            )
        if tokens.is_floating_point() or tokens.dtype == torch.bool:
            raise ValueError(f"{name} is of {tokens.dtype}, but tokens are whole numbers")
        if tokens.device.type != "cpu" or torch.compiler.is_compiling():
            return
        least, most = (int(token) for token in tokens.aminmax())
        if least < 0 or most >= self.vocab_size:
            raise ValueError(
                f"{name} has tokens from {least} to {most}, but this model knows 0 to "
                f"{self.vocab_size - 1}: use the tokenizer it was trained with"
            )
        written = tokens != PAD
        if not written[:, 0].all() or (written[:, 1:] & ~written[:, :-1]).any():
            raise ValueError(
                f"{name} has a row that is empty or has padding before its end: rows are tokens, "
                f"then EOS ({EOS}), then only PAD ({PAD})"
            )

    def _embed(self, tokens: Tokens) -> Features:
        return self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim)

    def _scores(self, source: Tensor, target: Tensor) -> Logits:
        """Logits of the tokens from EOS on, from the same table that embeds them."""
        shown = source != PAD
        memory = self.net.read(self._embed(source), shown)
        h = self.net.write(self._embed(_shifted(target)), memory, shown)
        return self._predict(h)

    def _predict(self, h: Features) -> Logits:
        return F.linear(h, self.embedding.weight[FIRST:], self.bias)

    def _step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (n, v) of the token after ``token`` (n,)."""
        h, state = self.net.step(self._embed(token[:, None]), state)
        return F.pad(self._predict(h)[:, 0], (FIRST, 0), value=-math.inf), state


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
            reverse = backward(x.gather(1, mirror.expand_as(x)))[0]
            reverse = reverse.gather(1, mirror.expand_as(reverse))
            x = self.dropout(torch.cat([forward(x)[0], reverse], dim=-1))
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


def label_smoothing_loss(
    logits: Float[Tensor, "*n v"], targets: Tensor, smoothing: float, *, ignore: int = -100
) -> Scalar:
    """−(1 − ε) log p_y − (ε/V) Σ_k log p_k in nats, the mean over targets that are not ``ignore``.

    Equation: :eq:`eq-attn-labelsmooth`

    Source: Szegedy et al., CVPR 2016.
    """
    log_p = logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    counted = targets != ignore
    nll = -log_p.gather(-1, targets.masked_fill(~counted, 0)[..., None])[..., 0]
    smoothed = (1 - smoothing) * nll - smoothing * log_p.mean(-1)
    return torch.where(counted, smoothed, 0).sum() / counted.sum().clamp(min=1)


def smoothing_optimum(smoothing: float, classes: int) -> tuple[float, float]:
    """The least value H(q_ε) of the smoothed loss, in nats, and the gap of the logits there.

    The best logit of the true class is log((1 − ε + ε/V)/(ε/V)) above all others: without
    smoothing it would be infinite.

    Equation: :eq:`eq-attn-labelsmooth`
    """
    if not 0 < smoothing < 1 or classes < 2:
        raise ValueError(
            f"smoothing must be between 0 and 1 and classes at least 2, but got {smoothing} and "
            f"{classes}: without smoothing no logits are optimal"
        )
    other = smoothing / classes
    true = 1 - smoothing + other
    floor = -true * math.log(true) - (classes - 1) * other * math.log(other)
    return floor, math.log(true / other)


def _shifted(target: Tokens) -> Tokens:
    """What the decoder reads: BOS, then the target without its last token."""
    return F.pad(target[:, :-1], (1, 0), value=BOS)


def _trim(tokens: Tensor) -> Tensor:
    """Without the columns in which all rows are padding, where looking at values costs nothing."""
    if tokens.device.type != "cpu" or torch.compiler.is_compiling():
        return tokens
    return tokens[:, : int((tokens != PAD).sum(1).max())]


def _mirror(shown: Shown) -> Tensor:
    """Places (n, s) that turn every row round and leave its padding at the end."""
    place = torch.arange(shown.shape[1], device=shown.device)
    return torch.where(shown, shown.sum(1, keepdim=True) - 1 - place, place)


def _gru(inputs: int, width: int) -> nn.GRU:
    return nn.GRU(inputs, width, batch_first=True)
