"""WaveNet against autograd, which finds what a sample depends on, and enumeration of sequences."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentext.core import Density, Samples
from gentext.sequences.wavenet import (
    CausalConv1d,
    WaveNet,
    compress,
    expand,
    mu_law_decode,
    mu_law_encode,
    receptive_field,
)

pytestmark = pytest.mark.usefixtures("float64")


def lively(model: WaveNet) -> WaveNet:
    """The model in evaluation mode with large random weights, so that everything matters."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 1.5 / math.sqrt(max(1, p[0].numel())))
    return model.eval()


@pytest.mark.equation("eq-gpt-recfield")
@pytest.mark.parametrize(
    ("kernel", "dilations", "reach"), [(2, (1, 2, 4, 8), 16), (3, (1, 2, 1), 9), (1, (1,), 1)]
)
def test_the_gradient_reaches_just_the_receptive_field(kernel, dilations, reach) -> None:
    stack = nn.Sequential(*(CausalConv1d(1, 1, kernel, d) for d in dilations))
    x = torch.randn(1, 1, 40, requires_grad=True)
    (gradient,) = torch.autograd.grad(stack(x)[0, 0, 30], x)
    seen = gradient[0, 0].nonzero().flatten()
    assert receptive_field(kernel, dilations) == reach
    assert (int(seen.min()), int(seen.max())) == (31 - reach, 30)


@pytest.mark.equation("eq-gpt-recfield")
def test_a_causal_convolution_is_the_sum_it_says() -> None:
    conv = CausalConv1d(2, 3, kernel=3, dilation=2)
    x = torch.randn(4, 2, 9)
    y = conv(x)
    for t in range(9):
        expected = conv.bias.expand(4, 3)
        for i in range(3):
            if t - 2 * i >= 0:
                expected = expected + x[:, :, t - 2 * i] @ conv.weight[:, :, 2 - i].T
        torch.testing.assert_close(y[..., t], expected)


@pytest.mark.equation("eq-gpt-recfield")
@pytest.mark.parametrize(("layers", "stacks", "kernel"), [(3, 1, 2), (2, 2, 2), (2, 2, 3)])
def test_a_model_sees_its_receptive_field_and_nothing_later(layers, stacks, kernel) -> None:
    model = lively(WaveNet(levels=5, channels=6, layers=layers, stacks=stacks, kernel=kernel))
    reach = 1 + (kernel - 1) * (2**layers - 1) * stacks
    assert model.receptive_field == reach
    length, t = 30, 20
    embedded = model.embedding(torch.randint(5, (1, length))).detach().requires_grad_()
    taken, model.embedding.forward = model.embedding.forward, lambda _: embedded
    logits = model.logits(torch.zeros(1, length, dtype=torch.long))
    model.embedding.forward = taken
    (gradient,) = torch.autograd.grad(logits[0, t].square().sum(), embedded)
    seen = gradient[0].abs().sum(1) != 0
    places = torch.arange(length)
    assert (seen == ((places <= t) & (places > t - reach))).all()


@pytest.mark.parametrize("arguments", [{}, {"stacks": 2}, {"kernel": 3, "dropout": 0.5}], ids=str)
def test_the_probabilities_of_all_sequences_sum_to_one(arguments: dict) -> None:
    model = lively(WaveNet(levels=3, channels=6, layers=2, **arguments))
    x = torch.tensor(list(itertools.product(range(3), repeat=5)))
    log_p = model.log_prob(x).detach()
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0), atol=1e-12, rtol=0)
    assert log_p.std() > 0.3
    assert isinstance(model, Density)
    assert isinstance(model, Samples)


def test_the_likelihood_is_the_chain_rule_after_the_first_token() -> None:
    model = lively(WaveNet(levels=4, channels=6, layers=3))
    x = torch.randint(4, (5, 7))
    total = torch.zeros(5)
    for n, t in itertools.product(range(5), range(7)):
        past = torch.cat([torch.tensor([4]), x[n, :t]])[None]
        total[n] += model.logits(past)[0, -1].log_softmax(0)[x[n, t]]
    torch.testing.assert_close(model.log_prob(x), total)
    torch.testing.assert_close(model.loss(x), -total.mean() / 7)


@pytest.mark.parametrize(
    "arguments",
    [{"layers": 4}, {"layers": 3, "stacks": 2}, {"layers": 2, "kernel": 4, "dropout": 0.3}],
    ids=str,
)
def test_steps_with_queues_give_the_logits_of_the_whole(arguments: dict) -> None:
    model = lively(WaveNet(levels=6, channels=8, **arguments))
    x = torch.randint(6, (3, 40))
    expected = model.logits(x)
    state = model.begin(3, 40)
    for t in range(40):
        logits, state = model.step(x[:, t], state)
        torch.testing.assert_close(logits, expected[:, t], atol=1e-12, rtol=0)

    def generate(cache: bool) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return model.generate(x[:, :3], 30, cache=cache, generator=generator)

    assert generate(True).equal(generate(False))
    assert generate(True)[:, :3].equal(x[:, :3])


def test_draws_follow_the_probabilities() -> None:
    model, n = lively(WaveNet(levels=3, channels=6, layers=2)), 20_000
    x = torch.tensor(list(itertools.product(range(3), repeat=4)))
    drawn = model.sample(n, length=4, generator=torch.Generator().manual_seed(1))
    counts = torch.bincount((drawn * 3 ** torch.arange(3, -1, -1)).sum(1), minlength=81)
    expected = n * model.log_prob(x).detach().exp()
    common = expected > 5
    chi2 = ((counts - expected)[common] ** 2 / expected[common]).sum()
    degrees = int(common.sum())
    assert abs(float(chi2) - degrees) < 5 * math.sqrt(2 * degrees)


@pytest.mark.equation("eq-gpt-mulaw")
def test_companding_is_the_formula_and_has_an_inverse() -> None:
    x = torch.linspace(-1, 1, 1001)
    for mu in (255.0, 15.0):
        y = compress(x, mu)
        for a, b in zip(x.tolist(), y.tolist(), strict=True):
            assert abs(math.copysign(math.log(1 + mu * abs(a)) / math.log(1 + mu), a) - b) < 1e-13
        torch.testing.assert_close(expand(y, mu), x, atol=1e-12, rtol=0)
        slope = torch.func.vmap(torch.func.grad(lambda v, m=mu: compress(v, m)))(x[x > 0])
        torch.testing.assert_close(slope, mu / ((1 + mu * x[x > 0]) * math.log1p(mu)))


@pytest.mark.equation("eq-gpt-mulaw")
@pytest.mark.parametrize("levels", [2, 16, 256])
def test_levels_round_trip_and_the_error_of_rounding_is_bounded(levels: int) -> None:
    tokens = torch.arange(levels)
    assert mu_law_encode(mu_law_decode(tokens, levels), levels).equal(tokens)
    x, mu = torch.linspace(-1, 1, 20_001), levels - 1
    encoded = mu_law_encode(x, levels)
    assert encoded.equal(encoded.sort().values)
    assert (int(encoded[0]), int(encoded[-1])) == (0, mu)
    error = (mu_law_decode(encoded, levels) - x).abs()
    half = 1 / mu  # of a step of y, whose slope dx/dy is ln(1 + μ)(1 + μ|x|)/μ
    assert (error <= half * math.log1p(mu) * (1 + mu) / mu * (1 + 1e-9)).all()
    if levels == 256:  # locally, to first order
        local = half * math.log1p(mu) * (1 + mu * x.abs()) / mu
        assert (error <= 1.03 * local).all()
        assert (error / local).max() > 0.97
        uniform = 1 / mu
        assert float(error[x.abs() < 0.01].max()) < uniform / 5


def test_wrong_data_are_named() -> None:
    with pytest.raises(ValueError, match=r"from -1\.5 to 0\.5.*\[-1, 1\].*32768"):
        mu_law_encode(torch.tensor([-1.5, 0.5]))
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        mu_law_encode(torch.tensor([math.nan]))
    with pytest.raises(ValueError, match=r"int64.*floating-point"):
        mu_law_encode(torch.tensor([1, 2]))
    for function in (mu_law_encode, mu_law_decode):
        with pytest.raises(ValueError, match=r"levels=1.*at least 2"):
            function(torch.zeros(3), 1)
    model = WaveNet(levels=4, channels=4, layers=2)
    with pytest.raises(ValueError, match=r"from 0 to 4.*0 to 3"):
        model.log_prob(torch.tensor([[0, 4]]))
    for name, least in (
        ("levels", 2),
        ("channels", 1),
        ("layers", 1),
        ("stacks", 1),
        ("kernel", 2),
    ):
        wrong = least - 1
        with pytest.raises(ValueError, match=f"{name}={wrong}.*at least {least}"):
            WaveNet(**{name: wrong})
    with pytest.raises(ValueError, match=r"dropout=1\.0"):
        WaveNet(dropout=1.0)
    with pytest.raises(ValueError, match=r"dilation=0.*at least 1"):
        CausalConv1d(1, 1, 2, 0)


def test_other_devices_and_half_precision() -> None:
    model = lively(WaveNet(levels=8, channels=16, layers=3).float())
    x = torch.randint(8, (4, 20))
    exact = model.loss(x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.loss(x)
        assert model.generate(x, 3).shape == (4, 23)
    assert abs(float((rough - exact).detach())) < 0.05
    model, x = model.to("meta"), x.to("meta")
    model.loss(x).backward()
    logits, _ = model.step(x[:, 0], model.begin(4, 20))
    assert logits.device.type == "meta"


def test_gradients_reach_every_parameter() -> None:
    model = WaveNet(levels=4, channels=4, layers=2, stacks=2)
    model.loss(torch.randint(4, (8, 12))).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    one_hot = F.one_hot(torch.tensor([4]), 5).bool()
    assert model.embedding.weight.grad[one_hot[0]].abs().sum() > 0  # the first prediction counts
