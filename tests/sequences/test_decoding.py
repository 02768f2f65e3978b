"""Decoding rules against enumeration: every subset of a vocabulary, every sequence of a model."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from gentext import decoding
from gentext.sequences.decoding import (
    beam_search,
    choose,
    entropy,
    entropy_slope,
    temper,
    top_k_filter,
    top_p_filter,
)

pytestmark = pytest.mark.usefixtures("float64")
V, T = 3, 4


def several_log_p(n: int = 20, size: int = 7) -> Tensor:
    return (2 * torch.randn(n, size)).log_softmax(-1)


# --- temperature ---------------------------------------------------------------------------------


@pytest.mark.equation("eq-ar-temperature")
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_is_a_power_of_the_probabilities(temperature: float) -> None:
    p = several_log_p().exp()
    powered = p ** (1 / temperature)
    expected = powered / powered.sum(-1, keepdim=True)
    torch.testing.assert_close(temper(p.log(), temperature).softmax(-1), expected)


@pytest.mark.equation("eq-ar-temperature")
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_the_slope_of_entropy_is_the_derivative(temperature: float) -> None:
    logits = torch.randn(5, 7)
    tau = torch.tensor(temperature, requires_grad=True)
    h = entropy(logits / tau)
    expected = torch.stack([torch.autograd.grad(x, tau, retain_graph=True)[0] for x in h])
    torch.testing.assert_close(entropy_slope(logits, temperature), expected, rtol=0, atol=1e-10)
    assert (entropy_slope(logits, temperature) >= 0).all()


def test_entropy_is_that_of_the_definition_and_knows_zero_probabilities() -> None:
    p = several_log_p().exp()
    torch.testing.assert_close(entropy(p.log()), -(p * p.log()).sum(-1))
    certain = torch.tensor([[0.0, -math.inf, -math.inf], [1.0, 1.0, -math.inf]])
    torch.testing.assert_close(entropy(certain), torch.tensor([0.0, math.log(2)]))


def test_at_temperature_zero_the_most_probable_token_is_certain() -> None:
    logits = several_log_p()
    p = temper(logits, 0.0).softmax(-1)
    assert (p.argmax(-1) == logits.argmax(-1)).all()
    assert (p.max(-1).values == 1).all()
    assert (choose(logits, temperature=0.0) == logits.argmax(-1)).all()


TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.mark.equation("eq-ar-temperature")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("temperature", [1e-3, 1e-4, 1e-37, 1e-38, 1e-45, 1e-320])
def test_near_temperature_zero_all_mass_is_on_the_most_probable_tokens(
    dtype: torch.dtype, temperature: float
) -> None:
    """Of one token, or in equal shares on those that are equal."""
    logits = (4 * torch.randn(50, 9)).round().to(dtype)
    largest = (logits == logits.amax(-1, keepdim=True)).double()
    expected = largest / largest.sum(-1, keepdim=True)
    p = temper(logits, temperature).softmax(-1).double()
    torch.testing.assert_close(p, expected, rtol=0, atol=1e-7)
    drawn = choose(logits, temperature=temperature, top_k=9, top_p=1.0)
    assert largest.gather(-1, drawn[:, None]).all()
    slope = entropy_slope(logits, temperature)
    assert (slope == 0).all()


@pytest.mark.equation("eq-ar-temperature")
@pytest.mark.parametrize("dtype", TYPES)
def test_temperature_in_any_type_is_that_of_double_precision(dtype: torch.dtype) -> None:
    logits = (300 * torch.randn(20, 9)).to(dtype)
    logits[:, 4] = -math.inf
    exact = logits.double()
    for temperature in (0.05, 1.0, 300.0):
        p = temper(logits, temperature).softmax(-1)
        expected = (exact / temperature).softmax(-1)
        torch.testing.assert_close(p.double(), expected, rtol=0, atol=1e-5)
        h = entropy(temper(logits, temperature))
        expected = torch.special.entr(expected).sum(-1)
        torch.testing.assert_close(h.double(), expected, rtol=0, atol=1e-5)


# --- truncation ----------------------------------------------------------------------------------


@pytest.mark.equation("eq-ar-nucleus")
@pytest.mark.parametrize("mass", [0.1, 0.5, 0.8, 0.95, 1.0])
def test_top_p_keeps_the_smallest_of_all_subsets(mass: float) -> None:
    for logits in several_log_p():
        p = logits.exp()
        subsets = [
            set(s)
            for k in range(1, 8)
            for s in itertools.combinations(range(7), k)
            if p[list(s)].sum() >= mass - 1e-12
        ]
        least = min(map(len, subsets))
        best = max((s for s in subsets if len(s) == least), key=lambda s: float(p[list(s)].sum()))
        kept = top_p_filter(logits, mass).softmax(-1)
        assert set(kept.nonzero().flatten().tolist()) == best
        index = sorted(best)
        torch.testing.assert_close(kept[index], p[index] / p[index].sum())


@pytest.mark.equation("eq-ar-nucleus")
@pytest.mark.parametrize("k", [1, 3, 7, 50])
def test_top_k_keeps_the_k_most_probable_and_renormalises(k: int) -> None:
    for logits in several_log_p():
        p = logits.exp()
        ranked = sorted(range(7), key=lambda c: -float(p[c]))[:k]
        expected = torch.zeros(7)
        expected[ranked] = p[ranked] / p[ranked].sum()
        torch.testing.assert_close(top_k_filter(logits, k).softmax(-1), expected)


@pytest.mark.equation("eq-ar-nucleus")
@pytest.mark.parametrize("dtype", TYPES)
def test_limits_that_limit_nothing_keep_every_token(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 50_257).to(dtype)
    for kept in (
        top_p_filter(logits, 1.0),
        top_k_filter(logits, 50_257),
        top_k_filter(logits, 10**6),
    ):
        assert kept.equal(logits)


@pytest.mark.equation("eq-ar-nucleus")
@pytest.mark.parametrize("dtype", TYPES)
def test_the_mass_of_a_nucleus_is_summed_as_in_double_precision(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 50_257).to(dtype)
    for mass in (0.5, 0.97):
        kept = top_p_filter(logits, mass).isfinite().sum()
        expected = top_p_filter(logits.double(), mass).isfinite().sum()
        assert abs(int(kept - expected)) <= 2


def test_of_equal_tokens_the_first_stay() -> None:
    logits = torch.zeros(2, 4)
    expected = torch.tensor([0.5, 0.5, 0.0, 0.0]).expand(2, 4)
    torch.testing.assert_close(top_k_filter(logits, 2).softmax(-1), expected)
    torch.testing.assert_close(top_p_filter(logits, 0.5).softmax(-1), expected)


def test_what_is_drawn_follows_the_filtered_distribution() -> None:
    logits = several_log_p(1).expand(40_000, 7)
    options = {"temperature": 0.7, "top_k": 5, "top_p": 0.9}
    drawn = choose(logits, generator=torch.Generator().manual_seed(1), **options)
    p = top_p_filter(top_k_filter(logits[0] / 0.7, 5), 0.9).softmax(-1)
    share = torch.bincount(drawn, minlength=7) / len(drawn)
    assert ((share - p).abs() <= 4 * (p * (1 - p) / len(drawn)).sqrt()).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, r"temperature=-0\.1.*0"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"temperature": math.inf}, "temperature=inf"),
        ({"top_k": 0}, "top_k=0.*at least 1"),
        ({"top_p": 0.0}, r"top_p=0\.0.*above 0"),
        ({"top_p": 1.5}, r"top_p=1\.5.*at most 1"),
    ],
)
def test_options_of_no_distribution_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decoding.check_options(**options)


# --- beam search ---------------------------------------------------------------------------------


def markov(first: Tensor, table: Tensor):
    """A step of a second-order chain: the state is the token before, the next depends on both."""

    def step(token: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return table[state, token], token

    return step, first.clone()


def scores(table: Tensor, first: int, length: int = T) -> dict[tuple[int, ...], float]:
    log_p = table.log_softmax(-1)
    found = {}
    for sequence in itertools.product(range(V), repeat=length):
        full = (first, first, *sequence)
        found[sequence] = float(
            sum(log_p[full[t], full[t + 1], full[t + 2]] for t in range(length))
        )
    return found


@pytest.mark.equation("eq-attn-beam")
@pytest.mark.parametrize("width", [1, 2, 9, 27])
def test_a_wide_beam_finds_the_exact_maximum_and_a_narrow_one_no_more(width: int) -> None:
    missed = 0
    for seed in range(20):
        table = 2 * torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed))
        first = torch.tensor([0, 1, 2])
        step, state = markov(first, table)
        found, score = beam_search(step, state, first, width=width, length=T)
        for row, value, start in zip(found.tolist(), score.tolist(), first.tolist(), strict=True):
            every = scores(table, start)
            assert math.isclose(value, every[tuple(row)], abs_tol=1e-12)
            best = max(every.values())
            assert value <= best + 1e-12
            missed += value < best - 1e-12
            if width >= V ** (T - 1):
                assert math.isclose(value, best, abs_tol=1e-12)
    assert (missed > 0) == (width == 1) or width == 2


@pytest.mark.equation("eq-attn-beam")
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_finished_sequences_are_compared_by_their_penalised_scores(alpha: float) -> None:
    eos = 2
    for seed in range(10):
        table = torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed))
        log_p = table.log_softmax(-1)
        best: dict[tuple[int, ...], float] = {}
        for length in range(1, T + 1):
            for s in itertools.product(range(V), repeat=length):
                ended = s[-1] == eos
                if eos in s[:-1] or (length < T and not ended):
                    continue
                full = (0, 0, *s)
                total = sum(float(log_p[full[t], full[t + 1], full[t + 2]]) for t in range(length))
                best[s] = total / ((5 + length) / 6) ** alpha
        winner = max(best, key=lambda s: best[s])
        first = torch.tensor([0])
        step, state = markov(first, table)
        found, score = beam_search(
            step, state, first, width=81, length=T, eos=eos, length_penalty=alpha
        )
        row = found[0].tolist()
        assert tuple(row[: len(winner)]) == winner
        assert all(token == eos for token in row[len(winner) :])
        assert math.isclose(float(score), best[winner], abs_tol=1e-12)


def test_beams_and_lengths_below_one_are_refused() -> None:
    step, state = markov(torch.tensor([0]), torch.zeros(V, V, V))
    with pytest.raises(ValueError, match=r"width=0.*at least 1"):
        beam_search(step, state, torch.tensor([0]), width=0, length=1)
