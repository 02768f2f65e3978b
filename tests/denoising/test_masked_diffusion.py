"""Masked diffusion against enumeration: all masks, all orders, all paths of the chain."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gentext import checkpoint, decoding
from gentext.core import Bound, Density, Samples
from gentext.denoising.masked_diffusion import MaskedDiffusion
from gentext.denoising.masking import SCHEDULES, counts, draw_masks, weight
from gentext.sequences.bert import mlm_loss

pytestmark = pytest.mark.usefixtures("float64")

MASKED: dict[str, Callable[[float], float]] = {  # 1 − α_t, once more
    "linear": lambda t: t,
    "cosine": lambda t: math.sin(math.pi * t / 2),
}


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def make(spread: float = 0.5, **arguments) -> MaskedDiffusion:
    """A model whose weights are so large that its predictions differ from each other."""
    sizes = {"vocab_size": 3, "context": 3, "layers": 1, "heads": 2, "width": 8}
    model = MaskedDiffusion(**{**sizes, **arguments}).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=spread)
    return model


class Table(MaskedDiffusion):
    """Knows p(x_i | what is shown), for each of (V + 1)^L ways to show something, from a table."""

    def __init__(self, p: Tensor) -> None:
        _, length, v = p.shape
        super().__init__(vocab_size=v, context=length, layers=1, heads=1, width=2)
        self.table = p.log()

    def logits(self, tokens: Tensor, places: Tensor | None = None) -> Tensor:
        powers = (self.mask + 1) ** torch.arange(tokens.shape[1] - 1, -1, -1)
        found = self.table[(tokens * powers).sum(1)]
        if places is None:
            return found
        return found.gather(1, places[..., None].expand(-1, -1, self.mask))


def random_table(v: int = 3, length: int = 3) -> Table:
    """Conditionals that have nothing to do with each other."""
    return Table(torch.randn((v + 1) ** length, length, v).softmax(-1))


def exact(joint: Tensor) -> Table:
    """The conditionals of a joint law (V, …, V)."""
    v, axes = len(joint), range(joint.ndim)
    laws = []
    for row in itertools.product(range(v + 1), repeat=joint.ndim):
        p = joint
        for i, token in enumerate(row):
            if token < v:
                other = torch.arange(v) != token
                p = p.masked_fill(other.view([-1 if j == i else 1 for j in axes]), 0)
        laws.append(torch.stack([p.sum([j for j in axes if j != i]) for i in axes]))
    found = torch.stack(laws)
    return Table(found / found.sum(-1, keepdim=True).clamp(min=1e-300))


def simplex(*shape: int) -> Tensor:
    """Random probabilities over all the entries."""
    return (2 * torch.randn(shape)).flatten().softmax(0).view(shape)


def rows(vocabulary: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


def orders(length: int) -> list[list[int]]:
    return [list(order) for order in itertools.permutations(range(length))]


def subsets(length: int) -> Tensor:
    """All masks of at least one place."""
    return rows(2, length)[1:].bool()


def by_order(model: MaskedDiffusion, x: Tensor) -> Tensor:
    """log p of every row in every order (orders, n)."""
    return torch.stack([model.any_order_log_prob(x, o) for o in orders(x.shape[1])]).detach()


def exact_bound(model: MaskedDiffusion, x: Tensor, law: Tensor | None = None) -> Tensor:
    """The mean of the terms over all numbers k, by ``law`` or uniform, and all masks of k."""
    length = x.shape[1]
    law = torch.full((length,), 1 / length) if law is None else law
    total = torch.zeros(len(x))
    for mask in subsets(length):
        k = int(mask.sum())
        share = law[k - 1] / math.comb(length, k)
        total = total + share * model.term(x, mask.expand(x.shape))
    return total


def log_p_masked(model: MaskedDiffusion, x: Tensor, mask: Tensor) -> Tensor:
    """Σ_M log p(x_i | the others) (n,), by indexing."""
    log_p = model.logits(x.masked_fill(mask, model.mask)).log_softmax(-1).detach()
    return sum(log_p[torch.arange(len(x)), i, x[:, i]] for i in range(x.shape[1]) if mask[i])


def chain_law(model: MaskedDiffusion, masked: list[float]) -> Tensor:
    """The law of rows (V, …) after a chain with these shares of masks, state by state."""
    v, length = model.vocab_size, model.context
    states = rows(v + 1, length)
    p = model.logits(states).softmax(-1).detach()
    number = {tuple(state): k for k, state in enumerate(states.tolist())}
    law = torch.zeros(len(states))
    law[-1] = 1
    for m_t, m_s in itertools.pairwise(masked):
        then = torch.zeros_like(law)
        for k, state in enumerate(states.tolist()):
            if law[k] == 0:
                continue
            choices = [
                [(token, 1.0)]
                if token != v
                else [(v, m_s / m_t)] + [(w, (1 - m_s / m_t) * p[k, i, w]) for w in range(v)]
                for i, token in enumerate(state)
            ]
            for path in itertools.product(*choices):
                chance = math.prod(float(c) for _, c in path)
                then[number[tuple(w for w, _ in path)]] += law[k] * chance
        law = then
    law = law.view([v + 1] * length)
    return law[tuple(slice(v) for _ in range(length))]


def grid(steps: int, schedule: str) -> list[float]:
    """The share of masks before each step, and after the last."""
    return [MASKED[schedule](1 - j / steps) for j in range(steps + 1)]


def check_law(x: Tensor, law: Tensor) -> None:
    """The frequencies of the rows are the probabilities, to four standard errors."""
    n = len(x)
    powers = len(law) ** torch.arange(x.shape[1] - 1, -1, -1)
    found = (x * powers).sum(1).bincount(minlength=law.numel()) / n
    p = law.flatten()
    assert ((found - p).abs() <= 4 * (p * (1 - p) / n).sqrt() + 1e-12).all()


# The bound


@pytest.mark.equation("eq-diff-mask", "eq-conn-oaarm")
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_integral_over_times_is_the_mean_over_numbers_and_over_orders(schedule: str) -> None:
    """For each of 27 rows, whatever the schedule; Gauss and Legendre on 40 nodes."""
    model, x = make(), rows(3, 3)
    nodes, shares = np.polynomial.legendre.leggauss(40)
    total = torch.zeros(len(x))
    for t, share in zip((nodes + 1) / 2, shares / 2, strict=True):
        w, m = float(weight(torch.tensor(t), schedule)), MASKED[schedule](t)
        for mask in subsets(3):
            k = int(mask.sum())
            total += share * w * m**k * (1 - m) ** (3 - k) * log_p_masked(model, x, mask)
    close(exact_bound(model, x).detach(), total)
    close(by_order(model, x).mean(0), total)
    assert by_order(model, x).std(0).mean() > 0.05  # the orders themselves differ


@pytest.mark.equation("eq-diff-mask")
def test_a_term_is_the_loss_of_bert_times_the_length() -> None:
    model, x = make(vocab_size=5, context=7), torch.randint(5, (4, 7))
    mask = torch.rand(4, 7) < 0.5
    mask[:, 2] = True
    terms = model.term(x, mask)
    logits = model.logits(x.masked_fill(mask, 5))
    for n in range(4):
        one = slice(n, n + 1)
        close(terms[n], -7 * mlm_loss(logits[one], x[one], mask[one]))


def test_many_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make(vocab_size=5, context=7), torch.randint(5, (600, 7))
    masked = torch.rand(600, 7) < 0.5
    masked[:, 2] = True
    whole, sizes, logits = model.term(x, masked).detach(), [], model.logits
    monkeypatch.setattr(model, "logits", lambda x: sizes.append(len(x)) or logits(x))
    with torch.no_grad():
        close(model.term(x, masked), whole)
    assert sizes == [256, 256, 88]


@pytest.mark.equation("eq-diff-mask", "eq-diff-maskstep")
@pytest.mark.parametrize("draws", [1, 2, 3])
@pytest.mark.parametrize("steps", [None, 2])
def test_draws_of_the_bound_are_right_on_average(draws: int, steps: int | None) -> None:
    """For a row each, to four standard errors of 6,000 copies."""
    model = make()
    law = None if steps is None else counts(3, steps)
    for x in rows(3, 3)[::9]:
        expected = float(exact_bound(model, x[None], law).detach())
        with torch.no_grad():
            found = model.elbo(x.repeat(6000, 1), draws=draws, steps=steps)
        assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / math.sqrt(6000)


def test_counted_masks_have_less_noise_than_times() -> None:
    """The weight 1/t of a time drawn uniformly has no finite variance; here it is L/k."""
    model, x = make(), torch.tensor([[0, 2, 1]]).repeat(20_000, 1)
    with torch.no_grad():
        counted = model.elbo(x, draws=1)
        t = torch.rand(20_000, 1)
        masked = torch.rand(20_000, 3) < t
        some = masked.any(1)
        by_time = torch.zeros(20_000)
        by_time[some] = (model.term(x[some], masked[some]) * masked[some].sum(1) / 3) / t[some, 0]
    assert abs(float(counted.mean() - by_time.mean())) < 4 * float(by_time.std()) / math.sqrt(2e4)
    assert 2 * counted.var() < by_time.var()
    several = torch.stack([model.elbo(x[:400], draws=1).detach() for _ in range(8)]).mean(0)
    stratified = model.elbo(x[:400], draws=8).detach()
    assert stratified.var() < several.var()


@pytest.mark.equation("eq-diff-mask")
def test_loss_is_the_negative_bound_for_each_token() -> None:
    model, x = make(vocab_size=4, context=6), torch.randint(4, (16, 6))
    torch.manual_seed(3)
    loss = model.loss(x)
    torch.manual_seed(3)
    (masked,) = draw_masks(x, 1)
    close(loss, -model.term(x, masked).mean() / 6)


@pytest.mark.equation("eq-diff-mask")
def test_gradients_of_the_loss_are_those_of_the_bound_on_average() -> None:
    """All parameters, in 60 batches of 200: z-scores of a mean, whose squares have the mean 1."""
    model, x = make(), torch.tensor([[2, 0, 1], [1, 1, 0]])
    parameters = list(model.parameters())
    (-exact_bound(model, x).mean() / 3).backward()
    expected = torch.cat([p.grad.flatten() for p in parameters])
    found = []
    for _ in range(60):
        gradients = torch.autograd.grad(model.loss(x.repeat(100, 1)), parameters)
        found.append(torch.cat([g.flatten() for g in gradients]))
    std, mean = torch.std_mean(torch.stack(found), 0)
    moves = std > 1e-9
    close(mean[~moves], expected[~moves], 1e-8)
    z = ((mean - expected) / (std / math.sqrt(60)))[moves]
    assert z.abs().max() < 5
    assert z.square().mean() < 2.5
    assert mean.norm() > 20 * (std / math.sqrt(60)).norm()  # so that it says something


@pytest.mark.equation("eq-conn-oaarm", "eq-diff-mask")
def test_the_bound_is_below_the_law_of_the_samples_which_mixes_the_orders() -> None:
    model, x = random_table(), rows(3, 3)
    log_p = by_order(model, x)
    for order in log_p:
        close(order.exp().sum(), torch.tensor(1.0))
    mixture = (log_p.logsumexp(0) - math.log(6)).exp()
    gap = mixture.log() - exact_bound(model, x).detach()
    assert gap.min() >= 0
    assert gap.max() > 0.05
    check_law(model.sample(40_000), mixture.view(3, 3, 3))


@pytest.mark.equation("eq-conn-oaarm")
def test_log_prob_in_an_order_is_a_chain_of_conditionals() -> None:
    model, x = make(vocab_size=4, context=5), torch.randint(4, (3, 5))
    order = torch.stack([torch.randperm(5) for _ in range(3)])
    expected = torch.zeros(3)
    for n in range(3):
        row = torch.full((1, 5), 4)
        for place in order[n].tolist():
            expected[n] += model.logits(row)[0, place].log_softmax(0)[x[n, place]].detach()
            row[0, place] = x[n, place]
    close(model.any_order_log_prob(x, order).detach(), expected)
    shared = model.any_order_log_prob(x, [2, 0, 4, 1, 3])
    close(shared, model.any_order_log_prob(x, torch.tensor([[2, 0, 4, 1, 3]]).repeat(3, 1)))


@pytest.mark.equation("eq-conn-oaarm", "eq-diff-mask")
def test_with_true_conditionals_the_bound_is_tight_in_every_order_and_draw() -> None:
    joint = simplex(3, 3, 3)
    model, x = exact(joint), rows(3, 3)
    for log_p in by_order(model, x):
        close(log_p, joint.flatten().log())
    close(exact_bound(model, x), joint.flatten().log())


# Steps back


@pytest.mark.equation("eq-diff-maskstep")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_samples_have_the_law_of_the_chain_and_the_bound_is_below_it(
    schedule: str, steps: int
) -> None:
    model, x = random_table(), rows(3, 3)
    law = chain_law(model, grid(steps, schedule))
    close(law.sum(), torch.tensor(1.0))
    check_law(model.sample(40_000, steps=steps, schedule=schedule), law)
    bound = torch.zeros(len(x))
    for m_t, m_s in itertools.pairwise(grid(steps, schedule)):
        for mask in subsets(3):
            k = int(mask.sum())
            chance = m_t**k * (1 - m_t) ** (3 - k) * (m_t - m_s) / m_t
            bound += chance * log_p_masked(model, x, mask)
    assert (bound <= law.flatten().log() + 1e-12).all()
    close(exact_bound(model, x, counts(3, steps, schedule)).detach(), bound)


@pytest.mark.equation("eq-diff-maskstep")
def test_two_equal_tokens_become_independent_when_drawn_at_once() -> None:
    """Of T steps, one draws both with probability 1/T: total variation 1/(2T), bound by 1/T bit."""
    model = exact(torch.eye(2) / 2)
    generator = torch.Generator().manual_seed(5)
    for steps in (1, 2, 3, 8):
        x = model.sample(40_000, steps=steps, generator=generator)
        differ, wrong = float((x[:, 0] != x[:, 1]).double().mean()), 1 / (2 * steps)
        assert abs(differ - wrong) < 4 * math.sqrt(wrong * (1 - wrong) / 40_000)
        law = chain_law(model, grid(steps, "linear"))
        close((law - torch.eye(2) / 2).abs().sum() / 2, torch.tensor(wrong))
        bound = exact_bound(model, torch.tensor([[0, 0], [1, 1]]), counts(2, steps))
        close(bound, torch.full((2,), -math.log(2) * (1 + 1 / steps)))
    x = model.sample(2000, generator=generator)
    assert torch.equal(x[:, 0], x[:, 1])  # one at a time: never
    for order in ([1, 0], "confidence"):
        x = model.sample(2000, order=order, steps=1, generator=generator)
        assert abs(float((x[:, 0] != x[:, 1]).double().mean()) - 0.5) < 4 * math.sqrt(0.25 / 2000)


@pytest.mark.parametrize("order", ["random", "confidence", [2, 0, 1], [0, 1, 2]])
def test_one_token_at_a_time_is_exact_in_every_order(order: str | list[int]) -> None:
    """Even first where the network is surest, since what is drawn has no part in the choice."""
    torch.manual_seed(2)
    joint = simplex(3, 3, 3)
    check_law(exact(joint).sample(30_000, order=order), joint)


def test_each_row_is_drawn_in_an_order_of_its_own() -> None:
    model = make(vocab_size=2, context=4)
    before, *_ = states = list(model.trajectory(4000))
    assert (before == 2).all()
    first = (states[1] != 2).double()
    assert (first.sum(1) == 1).all()
    assert ((first.mean(0) - 1 / 4).abs() < 4 * math.sqrt(3 / 16 / 4000)).all()


@pytest.mark.equation("eq-diff-maskstep")
def test_confidence_goes_first_where_the_most_probable_token_is_most_probable() -> None:
    model = make(vocab_size=4, context=6)
    states = list(model.trajectory(50, order="confidence", steps=4))
    assert [int((x == 4).sum(1).max()) for x in states] == [6, 4, 3, 2, 0]
    for before, after in itertools.pairwise(states):
        sure = model.logits(before).softmax(-1).amax(-1).detach()
        now = (before == 4) & (after != 4)
        later = (before == 4) & (after == 4)
        assert (now.sum(1) == now.sum(1)[0]).all()
        least = sure.masked_fill(~now, 2).amin(1)
        assert (least >= sure.masked_fill(~later, -1).amax(1)).all()


@pytest.mark.equation("eq-diff-maskstep")
def test_an_order_is_followed() -> None:
    model = make(vocab_size=5, context=6)
    order = [4, 0, 5, 2, 1, 3]
    for k, x in enumerate(model.trajectory(7, order=order)):
        assert (x[:, order[:k]] != 5).all()
        assert (x[:, order[k:]] == 5).all()
    assert k == 6
    filled = [
        int((x != 5).sum()) for x in model.trajectory(1, order=order, steps=3, schedule="cosine")
    ]
    assert filled == [0, 1, 3, 6]  # 6 (1 − cos(πj/6)) = 0.8, 3, 6
    own = torch.stack([torch.randperm(6) for _ in range(7)])
    for k, x in enumerate(model.trajectory(7, order=own, steps=3)):
        assert ((x != 5).gather(1, own) == (torch.arange(6) < 2 * k)).all()


@pytest.mark.parametrize("order", ["random", "confidence", [3, 1, 0, 2, 4]])
@pytest.mark.parametrize("steps", [None, 1, 3, 9])
def test_what_is_shown_stays(order: str | list[int], steps: int | None) -> None:
    model = make(vocab_size=5, context=5)
    start = torch.tensor([[5, 1, 5, 0, 5], [2, 5, 3, 1, 4], [0, 1, 2, 3, 4]])
    kept = start.clone()
    states = list(model.trajectory(3, tokens=start, order=order, steps=steps))
    for before, after in itertools.pairwise(states):
        assert torch.equal(after[before != 5], before[before != 5])
    assert torch.equal(states[0], start)
    assert (states[-1] < 5).all()
    assert torch.equal(start, kept)
    chance = order == "random" and steps is not None
    assert len(states) == 1 + (steps if chance else min(steps or 3, 3))
    for first, second in itertools.combinations(states, 2):
        assert first.data_ptr() != second.data_ptr() or chance  # none is written over
    whole = torch.tensor([[0, 1, 2, 3, 4]])
    same = model.sample(4, tokens=whole, order=order, steps=steps)
    assert torch.equal(same, whole.expand(4, -1))
    same[0, 0] = 3
    assert whole[0, 0] == 0


def test_gaps_are_filled_by_their_law_given_the_rest() -> None:
    joint = simplex(3, 3, 3)
    model = exact(joint)
    x = model.sample(20_000, tokens=torch.tensor([[3, 1, 3]]))
    assert (x[:, 1] == 1).all()
    check_law(x[:, [0, 2]], joint[:, 1] / joint[:, 1].sum())


def test_some_tokens_may_be_forbidden_and_tempered() -> None:
    torch.manual_seed(4)
    joint = simplex(3, 3)
    model = exact(joint)
    for order, steps in (("random", None), ("random", 2), ("confidence", None), ([1, 0], None)):
        x = model.sample(3000, forbid=[1], order=order, steps=steps)
        assert (x != 1).all()
        assert x.unique().tolist() == [0, 2]
    check_law(model.sample(20_000, steps=1, forbid=[1])[:, :1] // 2, _without(joint.sum(1), 1))
    likely = model.sample(5, temperature=0.0, steps=1)
    assert torch.equal(likely[0], torch.stack([joint.sum(1).argmax(), joint.sum(0).argmax()]))
    assert (likely == likely[0]).all()
    cold = (joint.sum(1) ** 2 / (joint.sum(1) ** 2).sum())[:, None] * torch.eye(3)[0]
    x = model.sample(20_000, steps=1, temperature=0.5)
    check_law(torch.stack([x[:, 0], torch.zeros(20_000).long()], 1), cold)
    top = model.sample(2000, order=[0, 1], top_k=1)
    assert (top[:, 0] == joint.sum(1).argmax()).all()


def _without(p: Tensor, token: int) -> Tensor:
    kept = p[torch.arange(len(p)) != token]
    return kept / kept.sum()


def test_samples_follow_their_generator_and_leave_the_model_as_it_was() -> None:
    model = make(vocab_size=4, context=5, dropout=0.9).train()
    for options in ({}, {"steps": 2}, {"order": "confidence"}):
        draws = [
            model.sample(6, generator=torch.Generator().manual_seed(s), **options)
            for s in (0, 0, 1)
        ]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
    assert model.training
    still = [model.sample(2, temperature=0.0, order=[4, 3, 2, 1, 0]) for _ in range(3)]
    assert torch.equal(still[0], still[1])  # without dropout
    model.eval()
    x = torch.randint(4, (6, 5))
    bounds = [model.elbo(x, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    close(bounds[0], bounds[1])
    assert not torch.equal(bounds[0], bounds[2])


def test_in_training_draws_and_bounds_are_those_of_evaluation() -> None:
    """Without dropout; and the model is in training afterwards, each part of it as it was."""
    model, x = make(vocab_size=4, context=5, dropout=0.6), torch.randint(4, (6, 5))
    calls: list[Callable[[torch.Generator], Tensor]] = [
        lambda g: model.sample(6, generator=g, steps=2),
        lambda g: model.sample(6, generator=g, order="confidence"),
        lambda g: model.generate(x[:, :2], 3, generator=g),
        lambda g: torch.stack(list(model.trajectory(3, generator=g))),
        lambda g: model.elbo(x, generator=g),
        lambda g: model.elbo(x, generator=g, steps=3),
        lambda g: model.any_order_log_prob(x, [4, 2, 0, 1, 3]),
    ]
    for call in calls:
        found = [call(torch.Generator().manual_seed(1)) for _ in (model.eval(), model.train())]
        assert torch.equal(*found)
        assert all(part.training for part in model.modules())
    loss = [model.loss(x).detach() for _ in range(2) if torch.manual_seed(3)]
    assert torch.equal(*loss)
    torch.manual_seed(3)
    assert not torch.equal(model.eval().loss(x), loss[0])  # which has dropout in training


def test_prompts_go_on_and_end() -> None:
    joint = simplex(2, 2, 2)
    model = exact(joint)
    prompt = torch.tensor([[1]]).repeat(20_000, 1)
    x = model.generate(prompt, 2)
    assert (x[:, 0] == 1).all()
    check_law(x[:, 1:], joint[1] / joint[1].sum())
    assert model.generate(prompt[:4], 1).shape == (4, 2)
    assert torch.equal(model.generate(prompt[:4], 0), prompt[:4])
    empty = torch.empty(5, 0, dtype=torch.long)
    assert model.generate(empty, 3, temperature=0.5, top_k=2, top_p=1.0).shape == (5, 3)
    at_once = exact(torch.eye(2) / 2).generate(torch.empty(200, 0, dtype=torch.long), 2, steps=1)
    assert (at_once[:, 0] != at_once[:, 1]).any()
    ended = model.generate(prompt, 2, stop=1)
    assert (ended[:, 0] == 1).all()  # the prompt does not end itself
    rows_ended = ended[ended[:, 1] == 1]
    assert len(rows_ended)
    assert (rows_ended[:, 2] == 1).all()
    assert (ended[ended[:, 1] == 0][:, 2] == 0).any()
    with pytest.raises(ValueError, match=r"1 tokens and n=3 more.*have 3.*0 to 2"):
        model.generate(prompt, 3)
    with pytest.raises(ValueError, match=r"1 rows of 4.*0 to 3"):
        model.generate(torch.zeros(1, 4, dtype=torch.long), 1)


# The network


def test_capabilities_are_those_that_exist() -> None:
    model = make()
    assert isinstance(model, Bound)
    assert isinstance(model, Samples)
    assert not isinstance(model, Density)


def test_every_place_sees_every_other_and_its_own_mask() -> None:
    model, x = make(vocab_size=5, context=6, layers=2), torch.randint(5, (1, 6))
    for i in range(6):
        for token in ((int(x[0, i]) + 1) % 5, 5):
            other = x.clone()
            other[0, i] = token
            change = (model.logits(other) - model.logits(x)).abs().sum(-1)[0]
            assert (change > 1e-8).all()


def test_logits_at_places_are_those_of_all() -> None:
    model, x = make(vocab_size=5, context=6, layers=2), torch.randint(6, (4, 6))
    places = torch.randint(6, (4, 3))
    found, all_ = model.logits(x, places), model.logits(x)
    assert found.shape == (4, 3, 5)
    for n, j in itertools.product(range(4), range(3)):
        close(found[n, j], all_[n, places[n, j]])
    assert model.logits(x[:, :4]).shape == (4, 4, 5)


def test_places_of_a_grid_have_a_row_and_a_column() -> None:
    """Against the plain model with the table of the sums."""
    model = make(vocab_size=5, context=6, grid=(2, 3))
    plain = make(vocab_size=5, context=6)
    rows_, columns = model.positions
    assert rows_.shape == (2, 8)
    assert columns.shape == (3, 8)
    weights = {k: v for k, v in model.state_dict().items() if not k.startswith("positions")}
    table = torch.stack([rows_[i // 3] + columns[i % 3] for i in range(6)])
    plain.load_state_dict({**weights, "positions.0": table})
    x = torch.randint(6, (4, 6))
    close(model.logits(x), plain.logits(x))


def test_checkpoints_keep_the_grid(tmp_path: Path) -> None:
    model = make(vocab_size=5, context=6, grid=(2, 3))
    file = tmp_path / "model.safetensors"
    checkpoint.save(file, model)
    again = checkpoint.load(file)
    x = torch.randint(6, (4, 6))
    assert torch.equal(again.logits(x), model.logits(x))


def test_narrow_integers_are_tokens() -> None:
    model = make(vocab_size=127, context=4)
    x = torch.randint(127, (3, 4)).to(torch.int8)
    torch.manual_seed(1)
    bound = model.elbo(x)
    torch.manual_seed(1)
    close(bound, model.elbo(x.long()))
    close(
        model.any_order_log_prob(x, [3, 1, 0, 2]), model.any_order_log_prob(x.long(), [3, 1, 0, 2])
    )
    assert model.generate(x[:, :2], 2).shape == (3, 4)


def test_training_learns_a_law() -> None:
    """The bound of the trained model comes to the entropy of a law of two equal tokens."""
    torch.manual_seed(0)
    model = MaskedDiffusion(vocab_size=4, context=2, layers=1, heads=1, width=16)
    x = torch.arange(4).repeat(16)[:, None].repeat(1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    bound = exact_bound(model.eval(), x[:4]).detach()
    close(bound, torch.full((4,), -math.log(4)), 0.02)
    drawn = model.sample(500)
    assert (drawn[:, 0] == drawn[:, 1]).double().mean() > 0.98


COMPILED = """
import torch
from gentext.denoising.masked_diffusion import MaskedDiffusion
model = MaskedDiffusion(vocab_size=5, context=8, heads=2, width=8, grid=(2, 4))
x = torch.randint(5, (4, 8))
explained = torch._dynamo.explain(lambda x: model(x))(x)
print(explained.graph_break_count, *explained.break_reasons)
torch.manual_seed(0)
loss = model(x)
torch.manual_seed(0)
print(float((torch.compile(model, backend="aot_eager")(x) - loss).abs()) < 1e-5)
"""


def test_the_loss_is_one_graph() -> None:
    """In a process of its own, where no shapes are checked at run time."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:2] == ["0", "True"]


def test_half_precision_is_near_the_whole() -> None:
    torch.set_default_dtype(torch.float32)
    model = MaskedDiffusion(vocab_size=5, context=8, heads=2, width=16)
    x = torch.randint(5, (64, 8))
    values = []
    for half in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(x)
            log_p = model.any_order_log_prob(x, range(8)).mean()
            for order in ("random", "confidence"):
                assert model.sample(2, order=order).max() < 5
        loss.backward()
        values.append(torch.stack([loss, -log_p / 8]).detach())
    torch.testing.assert_close(*values, atol=0.02, rtol=0)


def test_nothing_is_made_on_another_device() -> None:
    """On the meta device a tensor made on the CPU by mistake fails as it would on a GPU."""
    model = make(vocab_size=5, context=6).to("meta")
    x = torch.zeros(3, 6, dtype=torch.long, device="meta")
    model(x).backward()
    assert model.elbo(x, draws=3, steps=2).device.type == "meta"
    assert model.any_order_log_prob(x, [5, 4, 3, 2, 1, 0]).device.type == "meta"
    for order in ("random", "confidence", [5, 4, 3, 2, 1, 0]):
        drawn = model.sample(3, order=order, forbid=[0], temperature=0.7)
        assert drawn.device.type == "meta"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0.*at least 1"),
        ({"context": 0}, "context=0.*at least 1"),
        ({"layers": 0}, "layers=0.*at least 1"),
        ({"heads": 3}, "width=8 and heads=3"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"grid": (2, 2)}, r"\(2, 2\).*context=3"),
        ({"grid": (-1, -3)}, r"\(-1, -3\)"),
        ({"grid": (3,)}, "rows and columns"),
    ],
)
def test_impossible_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_impossible_data_are_refused() -> None:
    model = make(vocab_size=4, context=5)
    good = torch.zeros(2, 5, dtype=torch.long)
    for call, message in [
        (lambda: model.elbo(good + 4), "from 4 to 4.*0 to 3"),
        (lambda: model.loss(good - 1), "-1"),
        (lambda: model.loss(torch.zeros(2, 6, dtype=torch.long)), "2 rows of 6.*1 to 5"),
        (lambda: model.check(torch.zeros(0, 5, dtype=torch.long)), "0 rows of 5"),
        (lambda: model.check(torch.zeros(2, 5)), "float64.*integers"),
        (lambda: model.elbo(good, draws=0), "draws=0"),
        (lambda: model.elbo(good, steps=0), "steps=0"),
        (lambda: model.elbo(good, steps=2, schedule="square"), "'square'.*linear, cosine"),
        (lambda: model.sample(0), "n=0"),
        (lambda: model.sample(3, tokens=good), "n=3 and 2 rows"),
        (lambda: model.sample(2, tokens=good + 5), "5 to 5.*0 to 4"),
        (lambda: model.sample(2, steps=0), "steps=0"),
        (lambda: model.sample(2, schedule="square"), "'square'"),
        (lambda: model.sample(2, order="spiral"), "'spiral'.*random, confidence"),
        (lambda: model.sample(2, order=[0, 1, 2, 3, 3]), "each of the places 0 to 4 once"),
        (lambda: model.sample(2, order=[0, 1, 2]), r"\(3,\) for rows of 5"),
        (lambda: model.sample(2, order=torch.tensor([0.0, 1, 2, 3, 4])), "places"),
        (lambda: model.sample(2, forbid=[4]), r"forbid=\[4\].*0 to 3"),
        (lambda: model.sample(2, forbid=[0, 1, 2, 3]), "leave one"),
        (lambda: model.sample(2, temperature=-1.0), "temperature=-1"),
        (lambda: model.any_order_log_prob(good, [1, 2, 3, 4, 5]), "0 to 4 once"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


def test_what_filters_decoding_has_is_what_it_takes() -> None:
    """Options that ``decoding`` does not know are no options here."""
    assert decoding.check_options() is None
    with pytest.raises(ValueError, match="unexpected keyword argument 'warmth'"):
        make().sample(2, warmth=3)
