"""CTC against the enumeration of all paths, PyTorch's kernel and automatic differentiation."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import F64
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import ctc_loss as kernel

from gentext.sound import ctc

V = 3
Labelling = tuple[int, ...]


def frames(t: int, n: int = 1, v: int = V) -> Tensor:
    """Log-probabilities of symbols, (n, t, v)."""
    return (1.5 * torch.randn(n, t, v, dtype=F64)).log_softmax(-1)


def paths(log_p: Tensor, blank: int = 0) -> dict[Labelling, dict[Labelling, float]]:
    """The probability of every path, by the labelling that it collapses to."""
    found: dict[Labelling, dict[Labelling, float]] = defaultdict(dict)
    p = log_p.exp().tolist()
    for path in itertools.product(range(log_p.shape[1]), repeat=len(p)):
        y = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        found[y][path] = math.prod(p[t][k] for t, k in enumerate(path))
    return found


def padded(rows: list[Labelling]) -> tuple[Tensor, Tensor]:
    """Rows of labels of one length, −7 where there is none, and how many each has."""
    lengths = [len(row) for row in rows]
    y = torch.tensor([[*row, *[-7] * (max(lengths) - len(row))] for row in rows])
    return y.reshape(len(rows), -1).long(), torch.tensor(lengths)


@pytest.mark.parametrize(
    ("path", "y"),
    [
        ((0, 1, 1, 0, 1, 2, 2, 0), (1, 1, 2)),
        ((1, 1, 1), (1,)),
        ((0, 0), ()),
        ((), ()),
        ((2, 0, 0, 2), (2, 2)),
    ],
)
def test_a_path_is_merged_before_its_blanks_are_dropped(path: Labelling, y: Labelling) -> None:
    assert ctc.collapse(path) == y


def test_four_frames_have_fifteen_paths_of_two_labels() -> None:
    """C(t + l, 2l) for l labels that differ: here each path has probability 3⁻⁴."""
    log_p = torch.zeros(1, 4, V, dtype=F64).log_softmax(-1)
    p = ctc.ctc_log_prob(log_p, torch.tensor([[1, 2]])).exp()
    assert float(p) * V**4 == pytest.approx(math.comb(6, 4))


@pytest.mark.equation("eq-audio-ctc")
@pytest.mark.parametrize("t", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("blank", [0, 2])
def test_the_recursion_is_the_sum_over_all_paths(t: int, blank: int) -> None:
    """Of every labelling that fits; together they have probability 1."""
    log_p = frames(t)
    found = paths(log_p[0], blank)
    y, y_lengths = padded(list(found))
    p = ctc.ctc_log_prob(log_p.expand(len(y), -1, -1), y, None, y_lengths, blank=blank).exp()
    expected = torch.tensor([sum(of.values()) for of in found.values()], dtype=F64)
    torch.testing.assert_close(p, expected, rtol=0, atol=1e-13)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Five utterances of other lengths each, with labels that repeat and without any."""
    y, y_lengths = padded([(1, 1, 3), (2,), (), (3, 3, 3, 1), (1, 2, 3, 1)])
    return frames(9, 5, 4), y, torch.tensor([9, 1, 3, 7, 4]), y_lengths


@pytest.mark.equation("eq-audio-ctc")
def test_values_and_gradients_are_those_of_the_kernel() -> None:
    log_p, y, lengths, y_lengths = batch()
    logits = (log_p + torch.randn(5, 9, 1, dtype=F64)).requires_grad_()
    other = kernel(
        logits.log_softmax(-1).transpose(0, 1), y.clamp(min=0), lengths, y_lengths, reduction="none"
    )
    (slope,) = torch.autograd.grad(other.sum(), logits)
    ours = -ctc.ctc_log_prob(logits.log_softmax(-1), y, lengths, y_lengths)
    for values in (ours, ctc.ctc_loss(logits, y, lengths, y_lengths)):
        torch.testing.assert_close(values, other, rtol=0, atol=1e-8)
        (found,) = torch.autograd.grad(values.sum(), logits)
        torch.testing.assert_close(found, slope, rtol=0, atol=1e-8)


def test_the_loss_of_each_example_can_be_differentiated_in_one_pass() -> None:
    """By the recursion, as there is no kernel for it; the gradient in the logits is the same."""
    log_p, y, lengths, y_lengths = batch()
    rows = (log_p, y, lengths, y_lengths)

    def loss(*row: Tensor) -> Tensor:
        return ctc.ctc_loss(*(part[None] for part in row)).sum()

    expected = ctc.ctc_gradient(*rows)
    torch.testing.assert_close(vmap(grad(loss))(*rows), expected, rtol=0, atol=1e-12)


@pytest.mark.equation("eq-audio-ctcgrad")
@pytest.mark.parametrize("y", [(), (1,), (1, 2), (2, 2), (1, 2, 1)])
def test_the_occupancy_is_that_of_all_paths_and_gives_the_gradient(y: Labelling) -> None:
    logits = frames(5).requires_grad_()
    log_p = logits.log_softmax(-1).detach()
    of = paths(log_p[0])[y]
    share = torch.zeros(5, V, dtype=F64)
    for path, p in of.items():
        share[range(5), list(path)] += p / sum(of.values())
    rows = torch.tensor([y]).reshape(1, -1).long()
    torch.testing.assert_close(ctc.ctc_occupancy(log_p, rows)[0], share, rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(ctc.ctc_loss(logits, rows).sum(), logits)
    ours = ctc.ctc_gradient(logits.detach(), rows)
    torch.testing.assert_close(ours, slope, rtol=0, atol=1e-9)
    torch.testing.assert_close(ours[0], log_p[0].exp() - share, rtol=0, atol=1e-12)


@pytest.mark.equation("eq-audio-ctcgrad")
def test_the_occupancy_of_padded_rows_is_that_of_automatic_differentiation() -> None:
    """d log p(y)/d log p_t(k), the recursion's own; in padding it is 0."""
    log_p, y, lengths, y_lengths = batch()
    log_p.requires_grad_()
    (slope,) = torch.autograd.grad(ctc.ctc_log_prob(log_p, y, lengths, y_lengths).sum(), log_p)
    ours = ctc.ctc_occupancy(log_p.detach(), y, lengths, y_lengths)
    torch.testing.assert_close(ours, slope, rtol=0, atol=1e-12)
    inside = (torch.arange(9) < lengths[:, None]).to(F64)
    torch.testing.assert_close(ours.sum(-1), inside, rtol=0, atol=1e-12)
    logits = log_p.detach().requires_grad_()
    (slope,) = torch.autograd.grad(ctc.ctc_loss(logits, y, lengths, y_lengths).sum(), logits)
    ours = ctc.ctc_gradient(logits.detach(), y, lengths, y_lengths)
    torch.testing.assert_close(ours, slope, rtol=0, atol=1e-9)


@pytest.mark.equation("eq-audio-ctc")
def test_the_lattice_sums_the_beginnings_of_paths() -> None:
    """α_t(s) by enumeration of the first t symbols, with the place that each such path has."""
    log_p, y = frames(4), (1, 1)
    row = (0, 1, 0, 1, 0)
    expected = torch.zeros(4, 5, dtype=F64)
    for t in range(4):
        for places in itertools.product(range(5), repeat=t + 1):
            steps = [b - a for a, b in itertools.pairwise(places)]
            fits = places[0] < 2 and all(
                k in (0, 1) or (k == 2 and row[b] and row[b] != row[b - 2])
                for k, b in zip(steps, places[1:], strict=True)
            )
            p = math.prod(float(log_p[0, i, row[s]].exp()) for i, s in enumerate(places))
            expected[t, places[-1]] += p if fits else 0
    found = ctc.ctc_lattice(log_p, torch.tensor([y]))
    torch.testing.assert_close(found[0].exp(), expected, rtol=0, atol=1e-13)
    assert (found[0] == -math.inf).equal(expected == 0)
    more = torch.cat([log_p, frames(2)], 1)
    longer = ctc.ctc_lattice(more, torch.tensor([[1, 1, 2]]), torch.tensor([4]), torch.tensor([2]))
    torch.testing.assert_close(longer[0, :4, :5], found[0])
    assert bool((longer[0, 4:] == -math.inf).all())
    assert bool((longer[0, :, 5:] == -math.inf).all())


def test_the_alignment_is_the_most_probable_path() -> None:
    log_p = frames(5)
    found = paths(log_p[0])
    rows = [y for y in found if len(y) < 4]
    y, y_lengths = padded(rows)
    made = ctc.ctc_alignment(log_p.expand(len(y), -1, -1), y, None, y_lengths)
    assert [tuple(path) for path in made.tolist()] == [
        max(found[row], key=found[row].__getitem__) for row in rows
    ]
    more = torch.cat([log_p, frames(2)], 1)
    longer = ctc.ctc_alignment(more.expand(len(y), -1, -1), y, torch.full((len(y),), 5), y_lengths)
    assert longer[:, :5].equal(made)
    assert bool((longer[:, 5:] == 0).all())


def test_labels_that_have_no_path_have_probability_zero() -> None:
    log_p = torch.tensor([[[0.0, -math.inf], [0.0, -math.inf]]], dtype=F64).requires_grad_()
    value = ctc.ctc_log_prob(log_p, torch.tensor([[1]]))
    assert value.tolist() == [-math.inf]
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    assert bool(slope.isfinite().all())
    assert ctc.ctc_log_prob(log_p, torch.tensor([[1]]), None, torch.tensor([0])).tolist() == [0.0]
    with pytest.raises(ValueError, match="labels y of probability 0"):
        ctc.ctc_occupancy(log_p, torch.tensor([[1]]))
    some = torch.tensor([[[0.0, 1.0], [0.3, 0.7]]], dtype=F64).log()  # "a" twice, or once
    share = torch.tensor([[[0.0, 1.0], [0.3, 0.7]]], dtype=F64)
    torch.testing.assert_close(ctc.ctc_occupancy(some, torch.tensor([[1]])), share)


CHANGES: list[tuple[Callable[..., Any], str]] = [
    (lambda p, y: ctc.ctc_log_prob(p[:, :5], y), "utterance 0 has 5 frames, but its 5 .* need 6"),
    (lambda p, y: ctc.ctc_loss(p[:, :5], y), "need 6"),
    (lambda p, y: ctc.ctc_log_prob(p, y, torch.tensor([5])), "need 6"),
    (lambda p, y: ctc.ctc_log_prob(p, y, torch.tensor([10])), "lengths from 10 to 10.* 1 to 9"),
    (lambda p, y: ctc.ctc_log_prob(p, y, torch.tensor([0])), "lengths from 0"),
    (lambda p, y: ctc.ctc_log_prob(p, y, torch.tensor([9, 9])), r"lengths of shape \(2,\)"),
    (lambda p, y: ctc.ctc_log_prob(p, y, None, torch.tensor([6])), "y_lengths from 6.* 0 to 5"),
    (lambda p, y: ctc.ctc_log_prob(p, y - 1), "blank 0"),
    (lambda p, y: ctc.ctc_log_prob(p, y + 2), "0 to 4"),
    (lambda p, y: ctc.ctc_log_prob(p, y.double()), "labels y of torch.float64.*integers"),
    (lambda p, y: ctc.ctc_log_prob(p, y.expand(2, -1)), "2 rows of labels y for 1 utt"),
    (lambda p, y: ctc.ctc_log_prob(p + 1, y), "do not sum to 1"),
    (lambda p, y: ctc.ctc_log_prob(p * math.nan, y), "do not sum to 1"),
    (lambda p, y: ctc.ctc_log_prob(p, y, blank=5), "blank=5 for 5 symbols"),
    (lambda p, y: ctc.ctc_prefix_beam(p[0], 0), "width"),
    (lambda p, y: ctc.ctc_prefix_beam(p[0], 2, language_model=lambda y: [0.0]), "all 5 symbols"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), CHANGES)
@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused_in_words(change: Callable[..., Any], message: str) -> None:
    """Of "hello", whose repeated letter needs a blank."""
    with pytest.raises(ValueError, match=message):
        change(frames(9, 1, 5), torch.tensor([[1, 2, 3, 3, 4]]))


@pytest.mark.equation("eq-audio-ctcbeam")
@pytest.mark.parametrize("seed", range(10))
def test_the_full_search_finds_every_labelling_and_its_probability(seed: int) -> None:
    torch.manual_seed(seed)
    log_p = frames(5)[0]
    expected = {y: sum(of.values()) for y, of in paths(log_p).items()}
    found = ctc.ctc_prefix_beam(log_p, 1000)
    assert {h.y for h in found} == set(expected)
    assert max(abs(math.exp(h.log_p) - expected[h.y]) for h in found) < 1e-13
    assert found[0].y == max(expected, key=expected.__getitem__)
    assert [h.score for h in found] == sorted((h.log_p for h in found), reverse=True)


@pytest.mark.equation("eq-audio-ctcbeam")
def test_a_search_that_is_cut_finds_what_the_greedy_path_misses() -> None:
    """p(b) = 0.6 twice: the empty text has 0.36, and "a" 0.64."""
    log_p = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]], dtype=F64).log()
    assert ctc.greedy_decode(log_p) == [()]
    best, other = ctc.ctc_prefix_beam(log_p[0], 2)
    assert (best.y, other.y) == ((1,), ())
    assert math.exp(best.log_p) == pytest.approx(0.64, abs=1e-15)
    assert math.exp(other.log_p) == pytest.approx(0.36, abs=1e-15)
    narrow = ctc.ctc_prefix_beam(log_p[0], 1)
    assert [h.y for h in narrow] == [()]
    assert math.exp(narrow[0].log_p) == pytest.approx(0.36, abs=1e-15)


@pytest.mark.equation("eq-audio-ctcbeam")
def test_a_language_model_and_a_bonus_are_part_of_the_score() -> None:
    """Of a bigram model, by the definition for every labelling."""
    log_p, bigram = frames(4)[0], frames(V)[0]
    asked = []

    def following(y: Labelling) -> Tensor:
        asked.append(y)
        return bigram[y[-1] if y else 0]

    found = ctc.ctc_prefix_beam(log_p, 1000, language_model=following, weight=1.7, bonus=0.4)
    for h in found:
        prior = sum(float(bigram[a, b]) for a, b in itertools.pairwise((0, *h.y)))
        assert h.score == pytest.approx(h.log_p + 1.7 * prior + 0.4 * len(h.y), abs=1e-12)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
    assert {h.y for h in found} == set(paths(log_p))
    assert len(asked) == len(set(asked))
    plain = ctc.ctc_prefix_beam(log_p, 1000, language_model=following, weight=0)
    assert plain == ctc.ctc_prefix_beam(log_p, 1000)


def test_greedy_decoding_collapses_the_most_probable_path_of_each_length() -> None:
    log_p, _, lengths, _ = batch()
    found = ctc.greedy_decode(log_p, lengths, blank=1)
    for row, t, y in zip(log_p, lengths.tolist(), found, strict=True):
        best = [int(p.argmax()) for p in row[:t]]
        assert y == tuple(k for k, _ in itertools.groupby(best) if k != 1)
