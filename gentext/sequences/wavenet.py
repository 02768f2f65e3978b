"""WaveNet: sound as a sequence of samples, each predicted from a past that grows with the depth.

Notation: ``x`` waveform in [−1, 1]; μ = ``levels`` − 1; R the receptive field, in samples; k =
``kernel`` and d the dilation of a layer; ``n t`` a batch of sequences of tokens, the levels.

Source: van den Oord et al., WaveNet: a generative model for raw audio, 2016 (arXiv:1609.03499).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import at_hand, check_counts, check_dropout, check_number, whole_numbers
from gentext.core.shapes import Logits, Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.autoregressive import Autoregressive


class CausalConv1d(nn.Conv1d):
    """A convolution over time whose output at t sees the inputs at t, t − d, ..., t − (k − 1)d.

    Args: ``inputs`` and ``outputs`` channels; ``kernel`` k; ``dilation`` d.

    Equation: :eq:`eq-gpt-recfield`
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 2, dilation: int = 1) -> None:
        check_counts(inputs=inputs, outputs=outputs, kernel=kernel, dilation=dilation)
        super().__init__(inputs, outputs, kernel, dilation=dilation)
        self.past = (kernel - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """Features (n, outputs, t) of ``x`` (n, inputs, t); before the beginning are zeros."""
        return super().forward(F.pad(x, (self.past, 0)))

    def step(self, x: Tensor, queue: Tensor, t: int) -> Tensor:
        """The output (n, outputs) at time ``t``, from the input ``x`` (n, inputs) at that time.

        ``queue`` (n, past, inputs) holds the last inputs, that of time s in place s modulo past;
        ``x`` takes the place of the oldest.
        """
        (k,), (d,) = self.kernel_size, self.dilation
        taps = [queue[:, (t - i * d) % self.past] for i in range(k - 1, 0, -1)] + [x]
        window = torch.stack(taps, dim=2).flatten(1)  # (n, inputs, k), (n, inputs · k)
        y = F.linear(window, self.weight.flatten(1), self.bias)
        if self.past:
            queue[:, t % self.past] = x
        return y


class GatedLayer(nn.Module):
    """tanh(a) σ(b) of a dilated convolution; part of it goes on, part to the output."""

    def __init__(self, channels: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        check_counts(channels=channels)
        self.conv = CausalConv1d(channels, 2 * channels, kernel, dilation)
        self.mix = nn.Conv1d(channels, 2 * channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """What goes on (n, channels, t) and what goes to the output (n, channels, t)."""
        on, skip = self.mix(self._gate(self.conv(h))).chunk(2, dim=1)
        return h + on, skip

    def step(self, h: Tensor, queue: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """The same at one time, for ``h`` (n, channels)."""
        features = self._gate(self.conv.step(h, queue, t))
        on, skip = F.linear(features, self.mix.weight[..., 0], self.mix.bias).chunk(2, dim=1)
        return h + on, skip

    def _gate(self, features: Tensor) -> Tensor:
        a, b = features.chunk(2, dim=1)
        return self.dropout(a.tanh() * b.sigmoid())


class WaveNet(Autoregressive):
    """p(x_t | x_<t) by ``stacks`` times ``layers`` gated layers of dilations 1, 2, 4, ...

    Args: ``levels`` of a sample, which are the tokens (one more is put before the first);
    ``channels`` of each layer; ``kernel`` samples that a layer looks at; ``dropout`` its rate.
    A prediction sees the last ``receptive_field`` tokens.
    """

    def __init__(
        self,
        *,
        levels: int = 256,
        channels: int = 32,
        layers: int = 8,
        stacks: int = 1,
        kernel: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_counts(channels=channels, layers=layers, stacks=stacks)
        check_counts(2, kernel=kernel, levels=levels)
        check_dropout(dropout)
        self.vocab_size = self.bos = levels
        self.embedding = nn.Embedding(levels + 1, channels)
        dilations = [2**layer for layer in range(layers)] * stacks
        self.receptive_field = receptive_field(kernel, dilations)
        self.layers = nn.ModuleList(GatedLayer(channels, kernel, d, dropout) for d in dilations)
        self.head = nn.Sequential(
            nn.SiLU(), nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, levels)
        )

    def logits(self, tokens: Tokens) -> Logits:
        """Those of the token after each place of ``tokens``."""
        h, skips = self.embedding(whole_numbers(tokens, "tokens")).mT, []
        for layer in self.layers:
            h, skip = layer(h)
            skips.append(skip)
        return self.head(torch.stack(skips).sum(0).mT)

    def begin(self, n: int, capacity: int) -> Any:
        """A queue of past inputs for each layer, and the time; ``capacity`` does not matter."""
        zeros = self.embedding.weight.new_zeros
        return [zeros(n, c.past, c.in_channels) for c in self._convolutions()], 0

    def step(self, token: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (n, levels) after one more ``token`` (n,), at the same cost at any time."""
        (queues, t), skips = state, []
        h = self.embedding(token)
        for layer, queue in zip(cast("list[GatedLayer]", self.layers), queues, strict=True):
            h, skip = layer.step(h, queue, t)
            skips.append(skip)
        return self.head(torch.stack(skips).sum(0)), (queues, t + 1)

    def _convolutions(self) -> list[CausalConv1d]:
        return [layer.conv for layer in cast("list[GatedLayer]", self.layers)]


def receptive_field(kernel: int, dilations: Iterable[int]) -> int:
    """R = 1 + (k − 1) Σ d: how many inputs, the present one included, an output sees.

    Equation: :eq:`eq-gpt-recfield`
    """
    return 1 + (kernel - 1) * sum(dilations)


def compress(x: Tensor, mu: float = 255.0) -> Tensor:
    """sgn(x) ln(1 + μ|x|) / ln(1 + μ): finer near zero, for ``x`` in [−1, 1].

    Equation: :eq:`eq-gpt-mulaw`
    """
    check_number("mu", mu, above=0)
    return x.sign() * torch.log1p(mu * x.abs()) / math.log1p(mu)


def expand(y: Tensor, mu: float = 255.0) -> Tensor:
    """sgn(y) ((1 + μ)^|y| − 1) / μ: the inverse of ``compress``.

    Equation: :eq:`eq-gpt-mulaw`
    """
    check_number("mu", mu, above=0)
    return y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu


def mu_law_encode(x: Tensor, levels: int = 256) -> Tensor:
    """A waveform in [−1, 1] as integers 0..levels − 1: compressed, then rounded to ``levels``.

    Equation: :eq:`eq-gpt-mulaw`
    """
    check_counts(2, levels=levels)
    if not x.is_floating_point():
        raise ValueError(f"got samples of {x.dtype}; scale them into [-1, 1] as floating-point")
    if at_hand(x) and x.numel():
        least, most = (float(value) for value in x.detach().aminmax())
        if not (least >= -1 and most <= 1):
            raise ValueError(
                f"got samples from {least:g} to {most:g}, but they must be in [-1, 1]: divide by "
                "the largest magnitude, or 16-bit samples by 32768"
            )
    return ((compress(x, float(levels - 1)) + 1) / 2 * (levels - 1)).round().long()


def mu_law_decode(tokens: Tensor, levels: int = 256) -> Tensor:
    """Integers 0..levels − 1 as a waveform in [−1, 1]; the error is largest at the loud end.

    Equation: :eq:`eq-gpt-mulaw`
    """
    check_counts(2, levels=levels)
    tokens = whole_numbers(tokens, "tokens")
    return expand(2 * tokens / (levels - 1) - 1, float(levels - 1))


keep_contract(globals())
