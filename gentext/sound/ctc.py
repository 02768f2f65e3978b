"""Connectionist temporal classification (CTC): labels of frames that nobody has aligned.

For each frame a network gives a distribution over symbols, of which one is a blank. A path π has a
symbol for each frame, and B(π) merges those that repeat and then drops the blanks. A labelling y is
as probable as all its paths together, p(y | x) = Σ_{π: B(π) = y} Π_t p_t(π_t): given x, the frames
are independent. A recursion over beginnings of paths sums these many terms.

Notation: ``log_p`` (n, t, v) log p_t(k | x), in nats; ``lengths`` (n,) frames of each utterance and
``y_lengths`` (n,) labels in each row of ``y`` (n, labels), None where no row is padded; ``blank``
the symbol b, never in y; ``l`` the labels with a blank before, between and after them, s a place
among these; α_t(s) the probability of all beginnings of paths that are at s in frame t.

Source: Graves et al., ICML 2006; the search of prefixes is that of Hannun et al., 2014
(arXiv:1408.2873).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gentext.core import at_hand, at_least_single, check_count, check_number, transformed
from gentext.core.shapes import PerExample
from gentext.core.signatures import keep_contract
from gentext.sound.alignments import (
    OFF,
    Frames,
    Lengths,
    Places,
    Rows,
    check_frames,
    checked,
    lattice,
    until,
)

Labelling = tuple[int, ...]
LanguageModel = Callable[[Labelling], Any]
Masses = dict[Labelling, tuple[float, float]]  # of each prefix, in nats


class Hypothesis(NamedTuple):
    """A labelling, the log-probability of its paths in nats, and the score it is ranked by."""

    y: Labelling
    log_p: float
    score: float


def collapse(path: Sequence[int], blank: int = 0) -> Labelling:
    """B(π): symbols that repeat are merged, and then the blanks are dropped."""
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


def ctc_log_prob(
    log_p: Frames,
    y: Rows,
    lengths: Lengths | None = None,
    y_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> PerExample:
    """log p(y | x) in nats, by the forward recursion; over all y that fit, p sums to 1.

    α_t(s) = [α_(t−1)(s) + α_(t−1)(s−1) + α_(t−1)(s−2)] p_t(l_s), where the last term is there only
    if l_s is no blank and not l_(s−2). p(y | x) is α_T at the last label plus that at the blank
    after it.

    Raises ValueError where an utterance has too few frames for its labels, and says how many.

    Equation: :eq:`eq-audio-ctc`
    """
    paths = lattice(log_p, y, lengths, y_lengths, blank)
    return paths.possible(paths.total(paths.alphas()))


def ctc_lattice(
    log_p: Frames,
    y: Rows,
    lengths: Lengths | None = None,
    y_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> Places:
    """log α_t(s) in nats, −∞ where no path is and where there is padding.

    Equation: :eq:`eq-audio-ctc`
    """
    paths = lattice(log_p, y, lengths, y_lengths, blank)
    return paths.possible(paths.alphas()).masked_fill(~paths.inside, -math.inf)


def ctc_occupancy(
    log_p: Frames,
    y: Rows,
    lengths: Lengths | None = None,
    y_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> Frames:
    """P(π_t = k | y, x): the share of the paths of y, by their probability, that say k in frame t.

    It is α_t(s) β_t(s)/(p_t(l_s) p(y | x)), summed over all s with l_s = k, where β is the α of
    the lattice read backwards. In padding it is 0.

    Equation: :eq:`eq-audio-ctcgrad`
    """
    paths = lattice(log_p, y, lengths, y_lengths, blank)
    alpha, beta = paths.alphas(), paths.mirrored(paths.reversed().alphas())
    total = paths.total(alpha)
    if at_hand(total) and not bool(paths.possible(total).isfinite().all()):
        raise ValueError("got labels y of probability 0, which have no paths to be shared out")
    share = (alpha + (beta - paths.e) - total[:, None, None]).exp()
    share = torch.where(paths.inside, share, 0)
    return share.new_zeros(log_p.shape).scatter_add(2, paths.l[:, None].expand_as(share), share)


def ctc_gradient(
    logits: Frames,
    y: Rows,
    lengths: Lengths | None = None,
    y_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> Frames:
    """p_t(k) − P(π_t = k | y, x), the gradient of −log p(y | x) in the logits; 0 in padding.

    Equation: :eq:`eq-audio-ctcgrad`
    """
    log_p = at_least_single(logits).log_softmax(-1)
    occupancy = ctc_occupancy(log_p, y, lengths, y_lengths, blank=blank)
    return occupancy.sum(-1, keepdim=True) * log_p.exp() - occupancy


def ctc_loss(
    logits: Frames,
    y: Rows,
    lengths: Lengths | None = None,
    y_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> PerExample:
    """−log p(y | x) in nats of the softmax of ``logits``, by PyTorch's kernel, to be trained by.

    The gradient of that kernel is right only together with the softmax. Functions of ``torch.func``
    do not know it, and get the recursion of ``ctc_log_prob``. On a GPU the kernel reads the lengths
    on the host.

    Equation: :eq:`eq-audio-ctc`
    """
    log_p = at_least_single(logits).log_softmax(-1)
    if transformed():
        return -ctc_log_prob(log_p, y, lengths, y_lengths, blank=blank)
    log_p, y, lengths, y_lengths = checked(log_p, y, lengths, y_lengths, blank)
    frames = log_p.transpose(0, 1)
    return F.ctc_loss(frames, y, lengths, y_lengths, blank=blank, reduction="none")


def ctc_alignment(
    log_p: Frames,
    y: Rows,
    lengths: Lengths | None = None,
    y_lengths: Lengths | None = None,
    *,
    blank: int = 0,
) -> Int[Tensor, "n t"]:
    """The most probable path of y, with blanks in the padding: the recursion with max for +.

    Source: Viterbi, 1967.
    """
    paths = lattice(log_p, y, lengths, y_lengths, blank)
    delta, steps = paths.start(), list[Tensor]()
    for t in range(1, paths.e.shape[1]):
        best, back = paths.arriving(delta).max(0)
        on = (t < paths.lengths)[:, None]
        delta = torch.where(on, best + paths.e[:, t], delta)
        steps.append(torch.where(on, back, 0))
    visited = [paths.places - 1 - paths.ends(delta).argmax(1)]
    for back in reversed(steps):
        s = visited[-1]
        visited.append(s - back.gather(1, s[:, None])[:, 0])
    symbols = paths.l.gather(1, torch.stack(visited[::-1], 1))
    return symbols.masked_fill(~until(paths.lengths, symbols.shape[1]), blank)


def greedy_decode(
    log_p: Frames, lengths: Lengths | None = None, *, blank: int = 0
) -> list[Labelling]:
    """B of the most probable path of each utterance.

    That need not be the most probable labelling: if p(b) = 0.6 and p(a) = 0.4 twice, it is empty,
    of probability 0.36, while "a" has 0.64.
    """
    log_p, lengths = check_frames(log_p, lengths, blank)
    paths = log_p.argmax(-1).tolist()
    return [collapse(path[:t], blank) for path, t in zip(paths, lengths.tolist(), strict=True)]


def ctc_prefix_beam(
    log_p: Float[Tensor, "t v"],
    width: int,
    *,
    language_model: LanguageModel | None = None,
    weight: float | int = 1.0,
    bonus: float | int = 0.0,
    blank: int = 0,
) -> list[Hypothesis]:
    """The labellings of one utterance that a search of ``width`` prefixes finds, the best first.

    Each prefix has two masses: that of its paths which end in a blank, and that of those which end
    in its last label. After the latter the same label again would be merged. With ``width`` at
    least the number of prefixes nothing is lost, and each log p(y | x) is exact.

    Arguments:
        language_model: prefix -> log p(next symbol) of all v symbols, whose blank is not looked at.
        weight, bonus: ranked by log p(y | x) + weight log p_LM(y) + bonus len(y), where p_LM counts
            no end of y.

    Equation: :eq:`eq-audio-ctcbeam`

    Source: Hannun et al., 2014 (arXiv:1408.2873).
    """
    check_count("width", width)
    check_number("weight", weight, least=0)
    check_number("bonus", bonus)
    if not isinstance(log_p, Tensor) or log_p.ndim != 2:
        raise ValueError("give log_p (t, v) of one utterance: log_p[0], without its padding")
    (log_p,), _ = check_frames(log_p[None], None, blank)
    told = _prior(language_model, log_p.shape[1])

    def score(y: Labelling) -> float:
        prior = weight * told(y) if weight else 0.0
        return _log_add(*masses[y]) + prior + bonus * len(y)

    masses: Masses = {(): (0.0, -math.inf)}
    for frame in log_p.detach().double().tolist():
        masses = _extended(masses, frame, blank)
        kept = sorted(masses, key=score, reverse=True)[:width]
        masses = {y: masses[y] for y in kept}
    return [Hypothesis(y, _log_add(*masses[y]), score(y)) for y in masses]


def _extended(masses: Masses, log_p: list[float], blank: int) -> Masses:
    """The two masses of all prefixes after one more frame, in nats.

    Equation: :eq:`eq-audio-ctcbeam`
    """
    new: dict[Labelling, list[float]] = {}

    def add(y: Labelling, end: int, mass: float) -> None:
        if mass == -math.inf:
            return
        both = new.setdefault(y, [-math.inf, -math.inf])
        both[end] = _log_add(both[end], mass)

    for y, (blanked, labelled) in masses.items():
        total = _log_add(blanked, labelled)
        add(y, 0, total + log_p[blank])
        for k, log_p_k in enumerate(log_p):
            if y and k == y[-1]:
                add(y, 1, labelled + log_p_k)
            if k != blank:
                add((*y, k), 1, (blanked if y and k == y[-1] else total) + log_p_k)
    return {y: (both[0], both[1]) for y, both in new.items()}


def _log_add(a: float, b: float) -> float:
    """log(exp a + exp b)."""
    high, low = (a, b) if a >= b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _prior(language_model: LanguageModel | None, v: int) -> Callable[[Labelling], float]:
    """log p_LM of a prefix, which asks for each prefix once."""
    if language_model is None:
        return lambda y: 0.0

    @functools.cache
    def following(y: Labelling) -> list[float]:
        given = language_model(y)
        row = given.tolist() if isinstance(given, Tensor) else given
        numbers = isinstance(row, list | tuple) and all(isinstance(x, float | int) for x in row)
        if not numbers or len(row) != v or not all(x <= OFF for x in row):
            raise ValueError(
                f"the language_model gave {str(given)[:40]} for the prefix {y}; it has to give "
                f"the log-probabilities of all {v} symbols"
            )
        return list(row)

    @functools.cache
    def told(y: Labelling) -> float:
        return told(y[:-1]) + following(y[:-1])[y[-1]] if y else 0.0

    return told


keep_contract(globals())
