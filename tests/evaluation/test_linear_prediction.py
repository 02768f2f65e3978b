"""Linear prediction is a distribution over levels, and finds the process that made a waveform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal, stats

import gentext as gt
from gentext import linear_prediction as lp
from gentext.data import prepared
from gentext.sequences.wavenet import mu_law_decode, mu_law_encode

FINE = 65_536  # levels whose rounding hardly matters
WAVES = {"laplace": stats.laplace, "logistic": stats.logistic}
A16 = torch.tensor([0.3, -0.4, 0.2, 0.1, -0.15, 0.05, 0.1, -0.1, 0.07, 0, -0.05, 0.1, 0, 0, 0.05])


def predictor(residual: str = "laplace", levels: int = 256, order: int = 4) -> lp.LinearPredictor:
    generator = torch.Generator().manual_seed(order)
    a = torch.randn(order, generator=generator, dtype=torch.float64) / 3
    scales, weights = torch.tensor([[0.001, 0.02, 0.3], [0.5, 0.2, 0.3]], dtype=torch.float64)
    return lp.LinearPredictor(a, residual, scales, weights, levels)


def levels_of(n: int, t: int, levels: int = 256, seed: int = 0) -> torch.Tensor:
    return torch.randint(levels, (n, t), generator=torch.Generator().manual_seed(seed))


def process(a: torch.Tensor, n: int, scale: float, shape: str = "laplace") -> torch.Tensor:
    """A row of an autoregressive process, from its difference equation."""
    noise = WAVES[shape].rvs(scale=scale, size=n, random_state=0)
    return torch.from_numpy(signal.lfilter([1.0], [1.0, *(-a).tolist()], noise))[None]


@pytest.mark.parametrize("residual", ["laplace", "logistic"])
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_the_levels_share_one_between_them(residual, levels):
    model = predictor(residual, levels)
    for t in (1, 3, 20):
        p = model.next_log_probs(levels_of(30, t, levels)).exp()
        assert p.shape == (30, levels)
        torch.testing.assert_close(p.sum(1), torch.ones(30).double(), rtol=0, atol=1e-12)
    assert abs(lp.level_histogram(levels_of(2, 5)).log_p.exp().sum() - 1) < 1e-12


@pytest.mark.parametrize("residual", ["laplace", "logistic"])
def test_a_likelihood_is_that_of_intervals_by_brute_force(residual):
    model, k = predictor(residual), levels_of(3, 9)
    middle = (np.arange(255) + 0.5) / 127.5 - 1
    c = np.sign(middle) * (256 ** np.abs(middle) - 1) / 255
    zero = float(mu_law_decode(torch.tensor(128)))
    x, c = mu_law_decode(k).double().numpy() - zero, np.array([-np.inf, *(c - zero), np.inf])
    law = WAVES[residual]
    found = model.log_probs(k)
    for n in range(3):
        for t in range(9):
            x_hat = sum(float(a) * x[n, t - i] for i, a in enumerate(model.a, 1) if i <= t)
            assert model.predict(k)[n, t] == pytest.approx(x_hat, abs=1e-7)
            p = sum(
                float(w) * (law.cdf((high - x_hat) / s) - law.cdf((low - x_hat) / s))
                for w, s in zip(model.weights, model.scales.tolist(), strict=True)
                for low, high in [c[k[n, t] : k[n, t] + 2]]
            )
            assert found[n, t] == pytest.approx(math.log(p), rel=1e-3, abs=1e-5)


def test_log_probs_are_those_of_the_next_level_and_see_the_past_alone():
    model, k = predictor("logistic"), levels_of(20, 12)
    found = model.log_probs(k)
    for t in range(1, 12):
        following = model.next_log_probs(k[:, :t]).gather(1, k[:, t : t + 1])[:, 0]
        torch.testing.assert_close(found[:, t], following)
    changed = k.clone()
    changed[:, 7] = 255 - changed[:, 7]
    torch.testing.assert_close(model.log_probs(changed)[:, :7], found[:, :7])
    assert (model.log_probs(changed)[:, 7:12] != found[:, 7:12]).all(1).any()


@pytest.mark.parametrize("levels", [3, 256, 1000])
def test_edges_are_where_a_waveform_is_rounded_to_the_next_level(levels):
    k = torch.arange(levels)
    x = mu_law_decode(k, levels).double()
    silence = mu_law_encode(torch.zeros(1), levels)
    torch.testing.assert_close(lp.samples(levels), x - x[silence], rtol=1e-4, atol=1e-6)
    c = lp.edges(levels)
    assert c[0] == -math.inf
    assert c[-1] == math.inf
    at = c[1:-1] + mu_law_decode(silence, levels).double()
    below, above = (mu_law_encode(at + step, levels) for step in (-1e-6, 1e-6))
    assert torch.equal(below, k[:-1])
    assert torch.equal(above, k[1:])


def test_an_interval_far_from_the_prediction_is_exact():
    z = torch.tensor([-1000.0, -30.0, 0.0, 29.0, 999.0]).double()
    tail = math.log1p(-math.exp(-1)) - torch.tensor([999.0, 29.0, 0.0, 29.0, 999.0]).double()
    found = lp.log_interval(lp.laplace_log_cdf, z, z + 1)
    torch.testing.assert_close(found, tail - math.log(2))
    found = lp.log_interval(torch.nn.functional.logsigmoid, z, z + 1)
    torch.testing.assert_close(found[[0, 4]], tail[[0, 4]])
    assert found[2] == pytest.approx(math.log(stats.logistic.cdf(1) - 0.5))


def test_least_squares_is_that_of_the_whole_system():
    x = process(A16, 900, 0.02).view(18, 50)
    past = torch.nn.functional.pad(x, (3, 0)).unfold(1, 4, 1).flatten(0, 1)
    wanted = torch.linalg.lstsq(past[:, [2, 1, 0]], past[:, 3:]).solution[:, 0]
    torch.testing.assert_close(lp.least_squares(x, 3), wanted, rtol=1e-8, atol=1e-10)


def test_the_coefficients_and_the_entropy_rate_of_a_process_are_found():
    a = torch.cat([A16, torch.tensor([-0.2])]).double()
    assert (np.abs(np.roots([1.0, *(-a).tolist()])) < 1).all()
    scale = 0.013  # between two that are tried
    k = mu_law_encode(process(a, 260_000, scale), FINE)
    train, validation, test = k[:, :200_000], k[:, 200_000:220_000], k[:, 220_000:]
    model = lp.linear_predictor(train, validation, levels=FINE)
    assert (model.a - a).abs().max() < 0.01
    widths = lp.edges(FINE).diff()[test]
    entropy = (1 + math.log(2 * scale) - widths.log().mean().item()) / math.log(2)
    found = lp.bits_per_sample(model, test)
    error = 3 / math.sqrt(test.numel()) / math.log(2)  # the surprise has a variance of 1 nat²
    assert abs(found - entropy) < error + 0.005
    few = lp.linear_predictor(train, validation, order=1, levels=FINE)
    assert lp.bits_per_sample(few, test) > found + 0.05


@pytest.mark.parametrize("shape", ["laplace", "logistic"])
def test_the_distribution_that_made_the_residual_is_chosen(shape):
    k = mu_law_encode(process(torch.tensor([0.5]), 60_000, 2**-6, shape), FINE)
    model = lp.linear_predictor(k[:, :40_000], k[:, 40_000:], order=1, levels=FINE)
    assert model.residual == shape
    assert model.scales.log() @ model.weights == pytest.approx(-6 * math.log(2), abs=0.1)


def test_weights_of_a_mixture_are_the_most_likely():
    apart = torch.tensor([[0.0, -math.inf]] * 3 + [[-math.inf, 0.0]]).double()
    torch.testing.assert_close(lp.mixture_weights(apart), torch.tensor([0.75, 0.25]).double())
    x = torch.from_numpy(stats.laplace.rvs(scale=0.3, size=2000, random_state=0))[:, None]
    scales = torch.tensor([0.05, 0.2, 0.5, 2.0]).double()
    log_f = -x.abs() / scales - scales.log()
    w = lp.mixture_weights(log_f)
    slope = (log_f - (log_f + w.log()).logsumexp(1, keepdim=True)).exp().mean(0)
    assert abs(w.sum() - 1) < 1e-9
    assert (slope < 1 + 1e-3).all()  # no direction leads up: the conditions of Kuhn and Tucker
    torch.testing.assert_close(slope[w > 0.01], torch.ones(2).double(), rtol=0, atol=1e-3)


def test_after_silence_silence_is_predicted_and_costs_next_to_nothing():
    k = mu_law_encode(torch.zeros(4, 300))
    model = lp.linear_predictor(k, k)
    assert (model.a == 0).all()
    assert (model.predict(k) == 0).all()
    assert lp.bits_per_sample(model, k) < 1e-3
    mixed = predictor()
    assert (mixed.predict(k) == 0).all()


def test_a_histogram_counts_each_level_once_more_than_it_is_there():
    k = torch.tensor([[0, 0, 3], [1, 0, 3]])
    model = lp.level_histogram(k, 4)
    torch.testing.assert_close(model.log_p.exp(), torch.tensor([4, 2, 1, 3]).double() / 10)
    assert lp.bits_per_sample(model, k) == pytest.approx(
        -(3 * math.log2(0.4) + math.log2(0.2) + 2 * math.log2(0.3)) / 6
    )
    even = torch.arange(256)[None]
    assert lp.bits_per_sample(lp.level_histogram(even), even) == pytest.approx(8)


def test_bits_are_those_of_a_network_of_levels_too():
    torch.manual_seed(0)
    model = gt.WaveNet(levels=16, channels=4, layers=2).double()
    k = levels_of(3, 10, 16)
    wanted = -model.log_prob(k).sum().item() / (3 * 10 * math.log(2))
    assert lp.bits_per_sample(model, k) == pytest.approx(wanted)


def test_drums_are_predicted_better_from_more_samples_before():
    d = prepared.sound_levels(gt.data.load("drums"))
    train, validation, test = (part[0][:, :2000] for part in (d.train, d.validation, d.test))
    found = [lp.bits_per_sample(lp.level_histogram(train), test)]
    for order in (1, 16):
        model = lp.linear_predictor(train, validation, order=order)
        found.append(lp.bits_per_sample(model, test))
    assert 8 > found[0] > found[1] + 0.5
    assert found[1] > found[2] + 0.1
    assert found[2] > 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: lp.linear_predictor(k, k, order=0), "order must be a whole number, at least 1"),
        (lambda k: lp.linear_predictor(k, k, order=10**6), "order must be at most 1024"),
        (lambda k: lp.linear_predictor(k, k, levels=4), "levels from 0 to 9"),
        (
            lambda k: lp.linear_predictor(k / 9, k),
            r"got tokens=float32 \(1, 10\); tokens must be a tensor of integers",
        ),
        (lambda k: lp.linear_predictor(k, k[:0]), "at least 1 row"),
        (lambda k: lp.level_histogram(k, 1), "levels must be a whole number, at least 2"),
        (lambda k: predictor("normal"), "unknown residual 'normal'"),
        (lambda k: lp.LinearPredictor(k[0] / 9, "laplace", -k[0] / 9, k[0] / 45), "above 0"),
        (lambda k: lp.LinearPredictor(k[0] / 9, "laplace", k[0] + 1.0, k[0] + 1.0), "sum to 1"),
    ],
)
def test_what_is_no_sound_or_no_distribution_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.arange(10)[None])
