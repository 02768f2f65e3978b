"""What a network of waveforms has to beat: each sample predicted by a linear rule of the last few.

Speech and instruments resonate, so a sample is nearly a weighted sum of those before it. What is
left over is given a fixed distribution, of which each mu-law level takes the share of its interval:
a likelihood of levels, like that of a WaveNet, in the same bits.

Notation: ``k`` levels (n, t), tokens from 0 to K − 1, and ``x`` the samples they stand for; ``a``
coefficients and p their number, the order; x̂_t = Σ_i a_i x_(t−i) the prediction, with zeros before
the first sample; Φ the distribution function of the residual x − x̂; c_k the edge below level k:

P(k_t | k_<t) = Φ(c_(k_t + 1) − x̂_t) − Φ(c_(k_t) − x̂_t), where c_0 = −∞ and c_K = ∞.

None of the 256 levels is 0: that of silence, to which 0 is rounded, is a little above. Samples and
edges are counted from it, so that after silence exactly silence is predicted.

Source: Atal and Hanauer, JASA 1971 (linear prediction); Salimans et al., ICLR 2017 (likelihood of
intervals).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gentext.core import check_count, check_number, check_tokens, chosen
from gentext.core.shapes import Tokens
from gentext.core.signatures import keep_contract
from gentext.sequences.wavenet import expand

SCALES = 2.0 ** torch.arange(-20, 2.5, 0.5, dtype=torch.float64)  # that are tried
PLACES = 20_000  # samples that the scales are fitted to
ROUNDS = 200  # of expectation and maximisation
LEAST = 1e-3  # the weight of a scale that is kept
ROWS = 16  # read at a time
MOST_LEVELS, MOST_ORDER = 65_536, 1024


@runtime_checkable
class OfLevels(Protocol):
    """What knows log p of each token given those before it, such as a WaveNet."""

    def log_probs(self, tokens: Tokens, /) -> Tensor:
        """log P(k_t | k_<t) of each token, (n, t) in nats."""
        ...


@dataclass(frozen=True, eq=False)
class LevelHistogram:
    """P(k), the same for all samples: order 0. ``log_p`` are its logarithms, in nats."""

    log_p: Float[Tensor, "levels"]

    def log_probs(self, tokens: Tokens) -> Float[Tensor, "n t"]:
        """log P(k_t) of each token, in nats."""
        return self.log_p[_levels(tokens, len(self.log_p))]


@dataclass(frozen=True, eq=False)
class LinearPredictor:
    """P(k_t | k_<t) by linear prediction with a residual of the density Σ_j w_j φ(e / s_j) / s_j.

    Arguments:
        a: the coefficients, that of the last sample first.
        residual: the shape φ, "laplace" or "logistic".
        scales, weights: s and w; the weights sum to 1.
        levels: K.
    """

    a: Float[Tensor, "order"]
    residual: str
    scales: Float[Tensor, "parts"]
    weights: Float[Tensor, "parts"]
    levels: int = 256

    def __post_init__(self) -> None:
        chosen("residual", self.residual, RESIDUALS)
        _check_sizes(self.levels, len(self.a))
        if self.scales.shape != self.weights.shape or not (self.scales > 0).all():
            raise ValueError("got scales that are not above 0, or not one for each weight")
        if not (self.weights >= 0).all() or abs(float(self.weights.detach().sum()) - 1) > 1e-6:
            raise ValueError("got weights that are below 0 or do not sum to 1; divide by their sum")

    def predict(self, tokens: Tokens) -> Float[Tensor, "n t"]:
        """x̂_t at each place of ``tokens``, by those before it."""
        x = samples(self.levels)[_levels(tokens, self.levels)]
        past = _windows(x, len(self.a))[..., :-1]
        return past @ self.a.double().flip(0)

    def log_probs(self, tokens: Tokens) -> Float[Tensor, "n t"]:
        """log P(k_t | k_<t) of each token, in nats."""
        c = edges(self.levels)
        parts = [
            self._log_share(c[k] - x_hat, c[k + 1] - x_hat)
            for k in _levels(tokens, self.levels).split(ROWS)
            for x_hat in (self.predict(k),)
        ]
        return torch.cat(parts)

    def next_log_probs(self, tokens: Tokens) -> Float[Tensor, "n levels"]:
        """log P(k | k_<t) of every level k after all of ``tokens``, in nats."""
        x_hat = self.predict(F.pad(_levels(tokens, self.levels), (0, 1)))[:, -1:]
        c = edges(self.levels)
        return self._log_share(c[:-1] - x_hat, c[1:] - x_hat)

    def _log_share(self, low: Tensor, high: Tensor) -> Tensor:
        """log ∫ of the residual's density from ``low`` to ``high``."""
        log_cdf = RESIDUALS[self.residual]
        parts = [log_interval(log_cdf, low / s, high / s) for s in self.scales.double()]
        return (torch.stack(parts, -1) + self.weights.double().log()).logsumexp(-1)


def level_histogram(tokens: Tokens, levels: int = 256) -> LevelHistogram:
    """The frequencies of levels in ``tokens``, where each counts once more than it is there."""
    _check_sizes(levels)
    counts = _levels(tokens, levels).flatten().bincount(minlength=levels).double() + 1
    return LevelHistogram((counts / counts.sum()).log())


def linear_predictor(
    tokens: Tokens, validation: Int[Tensor, "m t_2"], *, order: int = 16, levels: int = 256
) -> LinearPredictor:
    """``a`` by least squares, with the distribution of residuals that is best on ``validation``.

    It is a Laplace or a logistic distribution, of the scale that is most likely in training, or a
    mixture of such of many scales, with the weights that are.

    Arguments:
        tokens: the waveforms to learn from, in mu-law levels, as of ``mu_law_encode``.
        order: how many samples a prediction sees.

    Raises ValueError where tokens are no levels.
    """
    _check_sizes(levels, order)
    tokens, validation = _levels(tokens, levels), _levels(validation, levels)
    a = least_squares(samples(levels)[tokens], order)
    low, high = _some_intervals(a, tokens, levels)
    tried = []
    for residual, log_cdf in RESIDUALS.items():
        log_f = torch.stack([log_interval(log_cdf, low / s, high / s) for s in SCALES], 1)
        one = F.one_hot(log_f.mean(0).argmax(), len(SCALES)).double()
        for weights in (one, mixture_weights(log_f)):
            kept = weights > LEAST
            w = weights[kept] / weights[kept].sum()
            tried.append(LinearPredictor(a, residual, SCALES[kept], w, levels))
    return min(tried, key=lambda model: bits_per_sample(model, validation))


def bits_per_sample(model: OfLevels, tokens: Tokens) -> float:
    """−log₂ P(k_t | k_<t), the mean over all samples, of any model with ``log_probs``."""
    return -float(model.log_probs(tokens).detach().double().mean()) / math.log(2)


def least_squares(x: Float[Tensor, "n t"], order: int) -> Float[Tensor, "order"]:
    """The ``a`` of the least Σ (x_t − x̂_t)²: of the normal equations (Σ u uᵀ) a = Σ u x_t.

    Here u are the ``order`` samples before x_t, the last first. Where several ``a`` are as good, as
    for silence, it is the shortest. Computed in float64.
    """
    _check_sizes(order=order)
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"got x of {x.dtype}, {tuple(x.shape)}; give floating-point rows (n, t)")
    moments = torch.zeros(order + 1, order + 1, dtype=torch.float64)
    for rows in x.double().cpu().split(ROWS):
        w = _windows(rows, order).flip(-1).flatten(0, 1)  # x_t, then u
        moments += w.T @ w
    return torch.linalg.pinv(moments[1:, 1:], hermitian=True) @ moments[1:, 0]


def mixture_weights(log_f: Float[Tensor, "n parts"]) -> Float[Tensor, "parts"]:
    """The w of the largest Σ_n log Σ_j w_j f_nj, by expectation and maximisation.

    The sum is concave in w, so there is no other maximum.
    """
    f = (log_f - log_f.amax(1, keepdim=True)).exp()
    w = torch.full_like(f[0], 1 / f.shape[1])
    for _ in range(ROUNDS):
        w = w * (f.T @ (1 / (f @ w))) / len(f)
    return w


def samples(levels: int) -> Float[Tensor, "levels"]:
    """x(k) of each level, in float64."""
    return _above_silence(torch.arange(levels), levels)


def edges(levels: int) -> Float[Tensor, "edges"]:
    """c_0 to c_K in float64: where one level is rounded to the next, between −∞ and ∞."""
    inner = _above_silence(torch.arange(1, levels) - 0.5, levels)
    return F.pad(F.pad(inner, (1, 0), value=-math.inf), (0, 1), value=math.inf)


def _above_silence(k: Tensor, levels: int) -> Tensor:
    """The sample at ``k``, which may lie between levels, less that of the level of silence."""
    at = torch.cat([k.double(), torch.tensor([round((levels - 1) / 2)])])
    x = expand(2 * at / (levels - 1) - 1, levels - 1.0)
    return x[:-1] - x[-1]


def log_interval(log_cdf: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """log(Φ(high) − Φ(low)) of a symmetric Φ, in its lower tail, where nothing is lost."""
    if not (low < high).all():
        raise ValueError("got an interval whose low end is not below its high end; swap them")
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    below, above = log_cdf(low), log_cdf(high)
    return above + torch.log(-torch.expm1(below - above))


def laplace_log_cdf(z: Tensor) -> Tensor:
    """log Φ of the Laplace distribution of scale 1."""
    return torch.where(z < 0, z - math.log(2), torch.log1p(-torch.exp(-z.abs()) / 2))


RESIDUALS: dict[str, Callable[[Tensor], Tensor]] = {
    "laplace": laplace_log_cdf,
    "logistic": F.logsigmoid,
}


def _some_intervals(a: Tensor, tokens: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Both ends of the interval of x − x̂ at PLACES random places, with seed 0, or at all."""
    x, c = samples(levels)[tokens], edges(levels)
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(tokens.numel(), generator=generator)[:PLACES]
    row, t = places // tokens.shape[1], places % tokens.shape[1]
    u = _windows(x, len(a))[row, t, :-1]
    x_hat, k = u @ a.flip(0), tokens[row, t]
    return c[k] - x_hat, c[k + 1] - x_hat


def _windows(x: Tensor, order: int) -> Tensor:
    """Each sample after the ``order`` before it, (n, t, order + 1)."""
    return F.pad(x, (order, 0)).unfold(1, order + 1, 1)


def _levels(tokens: Tensor, levels: int) -> Tensor:
    return check_tokens(tokens, levels, least=1, rows=1, what="levels").cpu()


def _check_sizes(levels: int = 2, order: int = 1) -> None:
    check_count("levels", levels, 2)
    check_number("levels", levels, most=MOST_LEVELS)
    check_count("order", order)
    check_number("order", order, most=MOST_ORDER)


keep_contract(globals())
