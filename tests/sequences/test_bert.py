"""BERT against enumerated joint distributions: what masked conditionals define, and what not."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gentext.core import Density, Encodes, Samples
from gentext.sequences.bert import (
    BERT,
    gibbs_stationary,
    incompatibility,
    log_odds_ratios,
    mlm_loss,
    mlm_mask,
)

pytestmark = pytest.mark.usefixtures("float64")


def simplex(*shape: int) -> Tensor:
    """Random probabilities over all the entries."""
    return torch.rand(shape).add(0.1).flatten().softmax(0).view(shape)


def small(**arguments) -> BERT:
    sizes = {"vocab_size": 7, "context": 9, "layers": 2, "heads": 2, "width": 8}
    return BERT(**{**sizes, **arguments}).double()


class Exact(BERT):
    """Knows the conditionals of a joint distribution over binary rows, or a table for each place.

    Like a trained network, it repeats a token that it is shown.
    """

    def __init__(self, places: list[Tensor]) -> None:
        super().__init__(vocab_size=2, context=len(places), layers=1, heads=1, width=2)
        self.places = places  # the i-th is p(x_i | others), or anything in proportion to it

    def logits(self, tokens: Tensor) -> Tensor:
        rows = []
        for row in tokens.tolist():
            shown = [slice(None) if token == self.mask else token for token in row]
            logits = []
            for i, table in enumerate(self.places):
                if row[i] != self.mask:
                    logits.append(1e3 * F.one_hot(torch.tensor(row[i]), 2))
                    continue
                index = [*shown[:i], slice(None), *shown[i + 1 :]]
                value = table[tuple(index)]
                while value.ndim > 1:  # other masked places are summed out
                    value = value.sum(-1)
                logits.append(value.log())
            rows.append(torch.stack(logits))
        return torch.stack(rows)


def rows(length: int, vocabulary: int = 2) -> Tensor:
    return torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))


@pytest.mark.equation("eq-bert-pll")
def test_pseudo_log_prob_of_enumerated_distributions() -> None:
    """It is the sum of the conditionals; log p(x) only if the tokens are independent."""
    joint = torch.rand(2, 2, 2).add(0.05).log().mul(2).exp()
    joint /= joint.sum()
    x = rows(3)
    pll = Exact([joint] * 3).pseudo_log_prob(x)
    expected = []
    for row in x.tolist():
        total = 0.0
        for i in range(3):
            other = [joint[(*row[:i], value, *row[i + 1 :])] for value in (0, 1)]
            total += math.log(other[row[i]] / sum(other))
        expected.append(total)
    torch.testing.assert_close(pll, torch.tensor(expected), atol=1e-12, rtol=0)
    log_p = joint.flatten().log()
    assert (pll - log_p).abs().max() > 1e-2
    assert abs(float(pll.exp().sum()) - 1) > 1e-2  # no density

    a, b, c = simplex(2), simplex(2), simplex(2)
    product = a[:, None, None] * b[:, None] * c
    same = Exact([product] * 3).pseudo_log_prob(x)
    torch.testing.assert_close(same, product.flatten().log(), atol=1e-12, rtol=0)


def test_pseudo_log_prob_of_two_dependent_tokens() -> None:
    """p(0, 0) = 0.4 of [[.4, .1], [.1, .4]]: two conditionals of 0.8."""
    joint = torch.tensor([[0.4, 0.1], [0.1, 0.4]])
    pll = Exact([joint, joint]).pseudo_log_prob(torch.tensor([[0, 0]]))
    torch.testing.assert_close(pll, torch.tensor([2 * math.log(0.8)]))


@pytest.mark.equation("eq-bert-pll")
def test_pseudo_log_prob_of_the_network_masks_one_place_at_a_time() -> None:
    model = small().eval()
    x = torch.randint(7, (3, 5))
    expected = torch.zeros(3)
    for n, i in itertools.product(range(3), range(5)):
        row = x[n].clone()
        row[i] = model.mask
        expected[n] += model.logits(row[None])[0, i].log_softmax(0)[x[n, i]].detach()
    torch.testing.assert_close(model.pseudo_log_prob(x), expected, atol=1e-12, rtol=0)


def test_padding_changes_nothing_and_counts_nothing() -> None:
    model = small(pad=0).eval()
    x = torch.randint(1, 7, (2, 5))
    padded = F.pad(x, (0, 3))
    torch.testing.assert_close(model.encode(padded)[:, :5], model.encode(x), atol=1e-12, rtol=0)
    torch.testing.assert_close(model.pseudo_log_prob(padded), model.pseudo_log_prob(x))
    corrupted, chosen = mlm_mask(padded, vocab_size=7, mask=7, rate=1.0, pad=0)
    assert torch.equal(chosen, padded != 0)
    assert (corrupted[~chosen] == 0).all()


def test_every_place_sees_both_sides() -> None:
    model = small().eval()
    x = torch.randint(7, (1, 6))
    for i in range(6):
        other = x.clone()
        other[0, i] = (x[0, i] + 1) % 7
        change = (model.logits(other) - model.logits(x)).abs().sum(-1)[0]
        assert (change > 1e-8).all()


def test_the_order_of_the_tokens_matters_by_their_positions_alone() -> None:
    model = small().eval()
    x = torch.randint(7, (2, 6))
    assert (model.encode(x.flip(1)) - model.encode(x).flip(1)).abs().max() > 1e-3
    with torch.no_grad():
        model.positions.weight[:] = model.positions.weight[:1].clone()
    close = {"atol": 1e-12, "rtol": 0}
    torch.testing.assert_close(model.encode(x.flip(1)), model.encode(x).flip(1), **close)


@pytest.mark.equation("eq-pre-mlm")
def test_masks_have_the_rates_they_promise() -> None:
    """Masked 12 %, changed .15 (.8 + .1 (V − 1)/V); four standard errors of 400,000 places."""
    x = torch.randint(50, (20_000, 20))
    corrupted, chosen = mlm_mask(x, vocab_size=50, mask=50)
    masked = corrupted == 50
    expected = {
        "chosen": (chosen, 0.15),
        "masked": (masked, 0.12),
        "changed": (corrupted != x, 0.15 * (0.8 + 0.1 * 49 / 50)),
        "unchanged though chosen": (chosen & (corrupted == x), 0.15 * (0.1 + 0.1 / 50)),
    }
    for name, (places, rate) in expected.items():
        error = 4 * math.sqrt(rate * (1 - rate) / x.numel())
        assert abs(float(places.double().mean()) - rate) < error, name
    assert not (masked & ~chosen).any()
    assert torch.equal(corrupted[~chosen], x[~chosen])
    replaced = corrupted[chosen & ~masked & (corrupted != x)]
    counts = replaced.bincount(minlength=50).double()
    assert len(counts) == 50
    assert float(((counts - counts.mean()) ** 2 / counts.mean()).sum()) < 49 + 4 * math.sqrt(98)


def test_masks_follow_their_generator_and_rate() -> None:
    x = torch.randint(9, (40, 50))
    draws = [
        mlm_mask(x, vocab_size=9, mask=9, generator=torch.Generator().manual_seed(s))[0]
        for s in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert mlm_mask(x, vocab_size=9, mask=9, rate=1.0)[1].all()
    assert abs(mlm_mask(x, vocab_size=9, mask=9, rate=0.5)[1].double().mean() - 0.5) < 0.05


@pytest.mark.equation("eq-pre-mlm")
def test_loss_is_the_mean_over_the_chosen_places() -> None:
    logits, x = torch.randn(3, 6, 7), torch.randint(7, (3, 6))
    chosen = torch.rand(3, 6) < 0.5
    chosen[0, 0] = True
    log_p = logits.log_softmax(-1)
    total = sum(
        log_p[n, i, x[n, i]] for n, i in itertools.product(range(3), range(6)) if chosen[n, i]
    )
    expected = -total / chosen.sum()
    torch.testing.assert_close(mlm_loss(logits, x, chosen), expected, atol=1e-12, rtol=0)
    peer = F.cross_entropy(logits.transpose(1, 2), x.masked_fill(~chosen, -100))
    torch.testing.assert_close(mlm_loss(logits, x, chosen), peer, atol=1e-12, rtol=0)
    none = torch.zeros_like(chosen)
    assert mlm_loss(logits, x, none) == 0  # a batch without any chosen place is no NaN


@pytest.mark.equation("eq-pre-mlm")
def test_loss_of_the_model_is_that_of_its_own_draw() -> None:
    model = small(pad=0)
    x = torch.randint(7, (8, 9))
    torch.manual_seed(5)
    loss = model.loss(x)
    torch.manual_seed(5)
    corrupted, chosen = mlm_mask(x, vocab_size=7, mask=7, pad=0)
    assert chosen.any()
    torch.testing.assert_close(loss, mlm_loss(model.logits(corrupted), x, chosen))


def test_fill_gives_the_conditionals_and_ignores_what_it_hides() -> None:
    joint = simplex(2, 2, 2)
    model = Exact([joint] * 3)
    x = rows(3)
    p = model.fill(x, [1])[:, 0]
    for row, found in zip(x.tolist(), p, strict=True):
        torch.testing.assert_close(found, joint[row[0], :, row[2]] / joint[row[0], :, row[2]].sum())
    both = model.fill(x, [0, 2])
    for row, found in zip(x.tolist(), both, strict=True):
        marginal = joint[:, row[1]].sum(1)
        torch.testing.assert_close(found[0], marginal / marginal.sum())
    network = small()
    y = torch.randint(7, (2, 5))
    other = y.clone()
    other[:, 3] = (y[:, 3] + 1) % 7
    torch.testing.assert_close(network.fill(y, [3]), network.fill(other, [3]))
    assert network.fill(y, [3, 0]).shape == (2, 2, 7)


def modes(model: torch.nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_filling_and_drawing_are_done_in_evaluation_mode_and_leave_the_modes_as_they_were() -> None:
    """With a block that is kept in evaluation mode while the rest is trained."""
    model = small(dropout=0.5).train()
    model.blocks[0].eval()
    y, before = torch.randint(7, (2, 5)), modes(model)

    def draw() -> Tensor:
        return model.gibbs_sample(3, length=5, generator=torch.Generator().manual_seed(0))

    filled, drawn = model.fill(y, [1]), draw()
    assert modes(model) == before
    model.logits = lambda tokens: 1 / 0  # a network that fails
    with pytest.raises(ZeroDivisionError):
        model.gibbs_sample(2, length=3)
    assert modes(model) == before
    del model.logits
    model.eval()
    torch.testing.assert_close(model.fill(y, [1]), filled, atol=0, rtol=0)
    assert torch.equal(draw(), drawn)


def conditionals(joint: Tensor) -> tuple[Tensor, Tensor]:
    return joint / joint.sum(0), joint / joint.sum(1, keepdim=True)


@pytest.mark.equation("eq-pre-compat")
@pytest.mark.parametrize("shape", [(2, 2), (3, 4)])
def test_conditionals_of_a_joint_agree_and_lead_back_to_it(shape: tuple[int, int]) -> None:
    joint = simplex(*shape)
    a_given_b, b_given_a = conditionals(joint)
    for table in (a_given_b, b_given_a):
        torch.testing.assert_close(log_odds_ratios(table), log_odds_ratios(joint))
    assert incompatibility(a_given_b, b_given_a) < 1e-10
    for found in gibbs_stationary(a_given_b, b_given_a):
        torch.testing.assert_close(found, joint, atol=1e-10, rtol=0)


@pytest.mark.equation("eq-pre-compat")
def test_equal_odds_ratios_suffice_for_a_joint() -> None:
    """The converse, for p(b | a) and an odds ratio: build p(a | b) and then find the joint."""
    b_given_a = torch.rand(2, 2) + 0.2
    b_given_a = b_given_a / b_given_a.sum(1, keepdim=True)
    odds = torch.tensor(0.37 / 0.63)  # p(a = 0 | b = 0) over p(a = 1 | b = 0), freely chosen
    second = odds / log_odds_ratios(b_given_a).exp()[0, 0]
    a_given_b = torch.stack([odds / (1 + odds), second / (1 + second)])
    a_given_b = torch.stack([a_given_b, 1 - a_given_b])
    assert incompatibility(a_given_b, b_given_a) < 1e-10
    one, other = gibbs_stationary(a_given_b, b_given_a)
    torch.testing.assert_close(one, other, atol=1e-10, rtol=0)
    for found, given in zip(conditionals(one), (a_given_b, b_given_a), strict=True):
        torch.testing.assert_close(found, given, atol=1e-10, rtol=0)


def stationary(first: Tensor, second: Tensor) -> Tensor:
    """The stationary distribution of a round of two updates, each a matrix over pairs of states."""
    return torch.linalg.matrix_power(first @ second, 400)[0]


@pytest.mark.equation("eq-pre-compat")
def test_incompatible_conditionals_have_two_limits_by_the_order_of_the_scan() -> None:
    """Against powers of the transition matrices over the four pairs (a, b)."""
    a_given_b = torch.rand(2, 2) + 0.1
    b_given_a = torch.rand(2, 2) + 0.1
    a_given_b, b_given_a = a_given_b / a_given_b.sum(0), b_given_a / b_given_a.sum(1, keepdim=True)
    draw_a, draw_b = torch.zeros(4, 4), torch.zeros(4, 4)
    for a, b, new in itertools.product(range(2), repeat=3):
        draw_a[2 * a + b, 2 * new + b] += a_given_b[new, b]
        draw_b[2 * a + b, 2 * a + new] += b_given_a[a, new]
    one, other = gibbs_stationary(a_given_b, b_given_a)
    torch.testing.assert_close(one.flatten(), stationary(draw_a, draw_b), atol=1e-10, rtol=0)
    torch.testing.assert_close(other.flatten(), stationary(draw_b, draw_a), atol=1e-10, rtol=0)
    assert (one - other).abs().max() > 1e-2
    gap = incompatibility(a_given_b, b_given_a)
    assert gap > 0.1
    renamed = incompatibility(a_given_b.flip(0), b_given_a.flip(0))  # the ratios turned over
    torch.testing.assert_close(renamed, gap)


@pytest.mark.equation("eq-pre-compat")
@pytest.mark.parametrize("order", ["forward", "backward"])
def test_gibbs_samples_have_the_distribution_of_their_scan(order: str) -> None:
    """Four standard errors of 4,000 chains; the two distributions differ by more."""
    a_given_b = torch.tensor([[0.9, 0.3], [0.1, 0.7]])
    b_given_a = torch.tensor([[0.2, 0.8], [0.6, 0.4]])
    limits = dict(zip(("forward", "backward"), gibbs_stationary(a_given_b, b_given_a), strict=True))
    assert (limits["forward"] - limits["backward"]).abs().max() > 0.1
    model = Exact([a_given_b, b_given_a])
    generator = torch.Generator().manual_seed(3)
    x = model.gibbs_sample(4000, length=2, sweeps=8, order=order, generator=generator)
    counts = (2 * x[:, 0] + x[:, 1]).bincount(minlength=4) / 4000
    p = limits[order].flatten()
    assert ((counts - p).abs() < 4 * (p * (1 - p) / 4000).sqrt()).all()


def test_gibbs_samples_are_tokens_and_follow_their_generator() -> None:
    model = small(pad=0).train()
    draws = [
        model.gibbs_sample(3, length=5, sweeps=2, generator=torch.Generator().manual_seed(s))
        for s in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert draws[0].min() >= 0
    assert draws[0].max() < 7  # never the mask
    assert model.training
    start = torch.randint(7, (3, 5))
    kept = start.clone()
    model.gibbs_sample(3, length=5, tokens=start)
    assert torch.equal(start, kept)


def test_capabilities_are_those_that_exist() -> None:
    model = small()
    assert isinstance(model, Encodes)
    assert not isinstance(model, Density)
    assert not isinstance(model, Samples)


def test_logits_come_from_the_table_that_embeds_and_a_bias() -> None:
    model = small().eval()
    torch.nn.init.normal_(model.bias)
    x = torch.randint(7, (2, 5))
    expected = model.encode(x) @ model.tokens.weight[:7].T + model.bias
    torch.testing.assert_close(model.logits(x), expected, atol=1e-12, rtol=0)


def test_the_mask_may_be_a_token_of_the_vocabulary() -> None:
    model = small(mask=3)
    assert model.tokens.weight.shape == (7, 8)
    assert small().tokens.weight.shape == (8, 8)
    assert model.logits(torch.full((1, 4), 3)).shape == (1, 4, 7)
    assert small().logits(torch.full((1, 4), 7)).shape == (1, 4, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 0}, "vocab_size=0.*at least 1"),
        ({"context": 0}, "context=0.*at least 1"),
        ({"mask": 8}, "mask must be a token from 0 to 7.*8"),
        ({"pad": 7}, "pad must be a token from 0 to 6.*7"),
    ],
)
def test_impossible_models_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_impossible_data_are_refused() -> None:
    model = small()
    good = torch.zeros(2, 4, dtype=torch.long)
    uneven = torch.tensor([[0.9, 0.3], [0.2, 0.7]])
    fair = torch.full((2, 2), 0.5)
    for call, message in [
        (lambda: model.encode(good + 8), "8 to 8.*0 to 7"),
        (lambda: model.loss(good - 1), "-1"),
        (lambda: model.loss(torch.zeros(2, 10, dtype=torch.long)), "2 rows of 10.*1 to 9"),
        (lambda: model.check(torch.zeros(2, 4)), "float64.*integers"),
        (lambda: model.fill(good, [4]), r"\[4\].*0 to 3"),
        (lambda: model.fill(good, []), "at least one"),
        (lambda: model.gibbs_sample(2, length=10), "length 1 to 9.*10"),
        (lambda: model.gibbs_sample(0, length=4), "at least 1.*0"),
        (lambda: model.gibbs_sample(2, length=4, order="spiral"), "'spiral'.*forward"),
        (lambda: model.gibbs_sample(3, length=4, tokens=good), r"\(2, 4\).*\(3, 4\)"),
        (lambda: mlm_mask(good, vocab_size=7, mask=7, rate=0.0), "rate must be above 0"),
        (lambda: gibbs_stationary(uneven, fair), "sum to one"),
        (lambda: incompatibility(fair, torch.full((2, 3), 1 / 3)), r"\(2, 2\) and \(2, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
