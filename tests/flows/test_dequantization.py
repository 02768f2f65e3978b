"""Discrete values in flows: the bound by enumeration, logits by autograd, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentext.core import Bound, Density
from gentext.flows.dequantization import (
    Dequantized,
    ImageFlow,
    dequantize,
    from_logits,
    grey_levels,
    quantize,
    to_logits,
)
from gentext.flows.flow import MAF
from tests.oracles import mixture_log_prob

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.equation("eq-flow-logit")
def test_the_logit_has_the_slope_that_is_claimed_and_an_inverse() -> None:
    v = torch.rand(4, 3)
    y, log_det = to_logits(v)
    for k in range(4):
        jacobian = torch.autograd.functional.jacobian(lambda row: to_logits(row[None])[0][0], v[k])
        expected = jacobian.diagonal().log().sum()
        torch.testing.assert_close(log_det[k], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(y, torch.logit(0.05 + 0.9 * v), atol=1e-12, rtol=0)
    torch.testing.assert_close(from_logits(y), v, atol=1e-12, rtol=0)
    ends = torch.tensor([[0.0, 1.0]])
    assert bool(torch.isfinite(to_logits(ends)[0]).all())


@pytest.mark.equation("eq-flow-dequant")
def test_noise_stays_in_its_level_and_bounds_the_probability() -> None:
    """One value of four levels under a known density: the bound is below log P, by quadrature."""
    x = torch.arange(4.0)[:, None] / 3
    assert grey_levels(x, 4).flatten().tolist() == [0, 1, 2, 3]
    many = dequantize(x.expand(4, 5000), 4)
    assert torch.equal((many * 4).floor(), grey_levels(x, 4).expand(4, 5000))
    assert float(many.min()) >= 0
    assert abs(float((4 * many - grey_levels(x, 4)).mean()) - 0.5) < 0.02
    torch.testing.assert_close(quantize(many, 4), x.expand(4, 5000))

    flow = MAF(features=1, transforms=2, hidden=(6,)).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    model = ImageFlow(shape=(1, 1, 1), levels=4, flow="maf").double()
    model.flow = flow
    u = (torch.arange(4000.0) + 0.5) / 4000
    images, g = x.view(4, 1, 1, 1), torch.Generator().manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([model.elbo(images, generator=g) for _ in range(4000)])
        for k in range(4):
            v = ((k + u) / 4)[:, None]
            y, log_det = to_logits(v)
            log_density = flow.log_prob(y) + log_det - math.log(4)
            probability = log_density.exp().mean().log()
            bound = log_density.mean()
            assert float(bound) < float(probability)
            error = float(draws[:, k].std()) / math.sqrt(4000)
            assert float(draws[:, k].mean()) == pytest.approx(float(bound), abs=5 * error)


@pytest.mark.equation("eq-flow-dequant")
def test_the_bound_is_tight_for_noise_like_the_density() -> None:
    u = (torch.arange(20_000.0) + 0.5) / 20_000

    def mean(values: Tensor) -> float:
        return float(values.mean())

    log_p = mixture_log_prob(1.0 + u)
    probability = mean(log_p.exp())
    uniform = mean(log_p)
    best = log_p - math.log(probability)  # log q for q in proportion to p(x + u)
    assert uniform < math.log(probability) - 1e-3
    assert mean(best.exp() * (log_p - best)) == pytest.approx(math.log(probability), abs=1e-10)


@pytest.mark.equation("eq-flow-dequant")
def test_variational_noise_is_counted_by_its_own_density() -> None:
    """With the noise's flow at the identity, q(u) is that of a sigmoid of a normal variable."""
    model = ImageFlow(shape=(1, 1, 2), levels=3, flow="maf", noise="variational").double()
    x = torch.tensor([[[[0.0, 0.5]]], [[[1.0, 0.5]]]])
    start = torch.randn(2, 2, generator=torch.Generator().manual_seed(7))
    u = torch.sigmoid(start)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(start)
    log_q = (normal - (u * (1 - u)).log()).sum(1)
    v = (grey_levels(x.flatten(1), 3) + u) / 3
    y, log_det = to_logits(v)
    expected = model.flow.log_prob(y) + log_det - 2 * math.log(3) - log_q
    found = model.elbo(x, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_images_are_drawn_on_the_levels_of_the_data() -> None:
    for flow in ("realnvp", "maf", "nsf", "glow"):
        model = ImageFlow(shape=(1, 4, 4), levels=5, flow=flow)
        drawn = model.sample(6)
        assert drawn.shape == (6, 1, 4, 4)
        grey_levels(drawn, 5)  # raises otherwise
        assert isinstance(model, Bound)
        assert not isinstance(model, Density)


def test_bad_input_is_explained() -> None:
    with pytest.raises(ValueError, match="levels=1; levels must be a whole number, at least 2"):
        ImageFlow(shape=(1, 2, 2), levels=1)
    with pytest.raises(ValueError, match=r"torch\.uint8; give floats"):
        dequantize(torch.zeros(2, 4, dtype=torch.uint8), 256)
    for levels in (0, 1):
        with pytest.raises(ValueError, match=f"levels={levels}; levels must be a whole number"):
            quantize(torch.rand(2, 4), levels)
    model = ImageFlow(shape=(1, 2, 2), levels=17)
    with pytest.raises(ValueError, match=r"not grey values k/16, k = 0 to 16"):
        model.elbo(torch.rand(3, 1, 2, 2, dtype=torch.float32))
    with pytest.raises(ValueError, match=r"built for \(n, 1, 2, 2\)"):
        model.check(torch.rand(3, 4))
    with pytest.raises(ValueError, match="unknown flow 'ffjord': choose one of realnvp"):
        ImageFlow(shape=(1, 2, 2), flow="ffjord")
    with pytest.raises(ValueError, match="unknown noise 'pink'"):
        ImageFlow(shape=(1, 2, 2), noise="pink")
    with pytest.raises(ValueError, match="got levels=1"):
        dequantize(torch.zeros(2, 2), 1)


def test_codes_of_the_middles_lead_back_to_the_images() -> None:
    x = torch.randint(5, (6, 1, 2, 4)) / 4
    for flow in ("realnvp", "maf", "nsf"):
        model = ImageFlow(shape=(1, 2, 4), levels=5, flow=flow, transforms=2).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
            codes = model.encode(x)
        assert codes.shape == (6, 8)
        torch.testing.assert_close(
            codes, model.flow.encode(to_logits((x * 4 + 0.5).flatten(1) / 5)[0])
        )
        torch.testing.assert_close(model.decode(codes), x)
        x_0 = model.from_data(x, torch.Generator().manual_seed(0))
        noisy = dequantize(x, 5, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(x_0, torch.logit(0.05 + 0.9 * noisy).flatten(1))
        torch.testing.assert_close(model.to_data(x_0), x)


def test_the_bound_counts_the_width_of_a_level() -> None:
    """Of a density that is uniform on all that x_0 can be: each of levels^d images is as likely."""

    class Even(torch.nn.Module):
        def __init__(self, log_p: float) -> None:
            super().__init__()
            self.log_p = log_p

        def log_prob(self, x_0: Tensor, **how: object) -> Tensor:
            return x_0.new_full((len(x_0),), self.log_p)

    class Plain(Dequantized):
        density = Even(-4 * math.log(2))  # on [−1, 1]^4

    x = torch.randint(5, (3, 1, 2, 2)) / 4
    expected = torch.full((3,), -4 * math.log(5))
    torch.testing.assert_close(Plain((1, 2, 2), 5).elbo(x), expected)
    v = Plain((1, 2, 2), 5).from_data(x)
    assert bool(((v >= -1) & (v < 1)).all())
    torch.testing.assert_close(Plain((1, 2, 2), 5).to_data(v), x)
