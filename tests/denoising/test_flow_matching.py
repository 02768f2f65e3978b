"""Flow matching: draws and likelihoods of a mixture, couplings, labels, prompts, bounds."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gentext import checkpoint
from gentext.core import Bound, Density, Encodes, Samples
from gentext.denoising.conditions import DROPPED
from gentext.denoising.flow_matching import TIMES, FlowMatching, ImageFlowMatching
from gentext.denoising.reflow import reflow_pairs, straightness
from gentext.denoising.samplers import ddim_step
from gentext.denoising.schedule import to_eps, to_x0
from gentext.denoising.transport import optimal_order, transport_cost
from gentext.denoising.velocity import (
    straight,
    velocity_to_eps,
    velocity_to_score,
    velocity_to_x0,
)
from gentext.flows.continuous import ode_log_prob
from tests.oracles import (
    F64,
    MEANS,
    STDS,
    WEIGHTS,
    MixtureVelocity,
    mixture_log_prob,
    normal_log_prob,
)

pytestmark = pytest.mark.usefixtures("float64")

NORMAL = torch.distributions.Normal(torch.zeros((), dtype=F64), torch.ones((), dtype=F64))


class Constant(nn.Module):
    """A velocity of nothing but ``value``, which may learn."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.value.expand_as(x)


X = torch.linspace(-3, 3, 31, dtype=F64)


def exact(shape: tuple[int, ...] = (1,), **options: Any) -> FlowMatching:
    return FlowMatching(shape=shape, net=MixtureVelocity(), **options)


def mixture_cdf(x: Tensor) -> Tensor:
    return (WEIGHTS * NORMAL.cdf((x[..., None] - MEANS) / STDS)).sum(-1)


def small(**options: Any) -> FlowMatching:
    """A perceptron whose weights are not those it begins with."""
    model = FlowMatching(shape=(2,), **{"hidden": 16, "layers": 2} | options).double()
    return scrambled(model)


def scrambled(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.equation("eq-sde-cfm")
@pytest.mark.parametrize("times", TIMES)
def test_the_loss_is_the_mean_error_over_times_data_and_noise(times: str) -> None:
    """For a velocity of 3: E(3 − ε + x_0)²; for that of a time: its mean under the law of times."""
    x = torch.randn(40_000, 2) * 0.5 + 1
    model = FlowMatching(shape=(2,), net=Constant(3.0), times=times).double()
    assert float(model.loss(x).detach()) == pytest.approx(16 + 1 + 0.25, rel=0.02)

    class Clock(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(t / 1000)
            return torch.zeros_like(x)

    seen: list[Tensor] = []
    FlowMatching(shape=(2,), net=Clock(), times=times).loss(x)
    place = (torch.arange(40_000.0) + 0.5) / 40_000
    expected = {
        "uniform": place,
        "logit-normal": torch.sigmoid(NORMAL.icdf(place)),
        "near-data": place**2,
    }[times]
    torch.testing.assert_close(seen[0].sort().values, expected, atol=1e-2, rtol=0)


def test_times_are_evenly_spread_in_every_batch() -> None:
    class Clock(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(t / 1000)
            return torch.zeros_like(x)

    seen: list[Tensor] = []
    model = FlowMatching(shape=(2,), net=Clock())
    for dtype in (torch.float64, torch.float64, torch.bfloat16):
        model.loss(torch.zeros(8, 2, dtype=dtype))
    assert torch.equal((8 * seen[0]).floor().sort().values, torch.arange(8.0))
    assert not torch.equal(seen[0], seen[1])
    assert seen[2].dtype == torch.float32


def test_a_flow_is_a_diffusion_whose_ddim_steps_are_eulers() -> None:
    """The same network as a predictor of noise, on the levels (1 − t, t)."""
    model, steps = small(), 7
    x = eps = torch.randn(5, 2)
    with torch.no_grad():
        for k in range(steps, 0, -1):
            t, s = (straight(torch.full((5,), v / steps), 1) for v in (k, k - 1))
            noise = velocity_to_eps(model.velocity(x, k / steps), x, t)
            if k < steps:  # at α = 0 noise says nothing of the data: the velocity does
                x_0 = to_x0("eps", noise, x, t)
                torch.testing.assert_close(to_eps(x_0, x, t), noise, atol=1e-9, rtol=0)
            else:
                x_0 = velocity_to_x0(model.velocity(x, 1.0), x, t)
            x = ddim_step(x, x_0, t, s)
    expected = model.decode(eps, steps=steps, method="euler")
    torch.testing.assert_close(x, expected, atol=1e-12, rtol=0)


# Sampling and likelihood

EPS = NORMAL.icdf(torch.linspace(0.01, 0.99, 41, dtype=F64))[:, None]


@pytest.mark.parametrize(
    ("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)]
)
def test_draws_have_the_quantiles_of_the_mixture_and_errors_of_the_order(
    method: str, order: int
) -> None:
    """On the line the flow keeps the order of points, so it maps quantiles to quantiles."""
    errors = [
        float(
            (mixture_cdf(exact().decode(EPS, steps=n, method=method)[:, 0]) - NORMAL.cdf(EPS[:, 0]))
            .abs()
            .max()
        )
        for n in (40, 80)
    ]
    assert errors[1] < {1: 2e-2, 2: 1e-3, 4: 1e-6}[order]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_sample_trajectory_decode_and_encode_follow_the_same_flow() -> None:
    model = small()
    g = [torch.Generator().manual_seed(5) for _ in range(3)]
    x = model.sample(6, generator=g[0], steps=9)
    points = list(model.trajectory(6, steps=9, generator=g[1]))
    assert len(points) == 10
    eps = torch.randn(6, 2, generator=g[2])
    assert torch.equal(points[0], eps)
    assert torch.equal(points[-1], x)
    assert torch.equal(model.decode(eps, steps=9), x)
    how: dict[str, Any] = {"steps": 100, "method": "rk4"}
    torch.testing.assert_close(
        model.encode(model.decode(eps, **how), **how), eps, atol=1e-4, rtol=0
    )
    assert not x.requires_grad


@pytest.mark.equation("eq-sde-loglik")
@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_the_likelihood_is_that_of_the_mixture(divergence: str) -> None:
    """In the plane; where no value depends on another, every draw of signs gives the trace."""
    x = torch.cartesian_prod(torch.linspace(-3, 3.5, 9), torch.linspace(-2.5, 3, 7))
    expected = mixture_log_prob(x).sum(1)
    found = exact((2,)).log_prob(x, steps=60, method="rk4", divergence=divergence)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    by_heun = exact((2,)).log_prob(x, steps=100, divergence=divergence)
    torch.testing.assert_close(by_heun, expected, atol=3e-2, rtol=0)


class Turned(nn.Module):
    """The exact velocity of the mixture in turned coordinates: values depend on each other."""

    def __init__(self) -> None:
        super().__init__()
        self.exact, self.turn = MixtureVelocity(), torch.tensor([[0.8, -0.6], [0.6, 0.8]])

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.exact(x @ self.turn.T, t) @ self.turn


@pytest.mark.equation("eq-sde-loglik")
def test_by_random_signs_the_likelihood_is_right_on_average() -> None:
    x = torch.tensor([[0.5, -1.2]])
    model = FlowMatching(shape=(2,), net=Turned())
    with torch.no_grad():
        expected = mixture_log_prob(x @ Turned().turn.T).sum(1)
        torch.testing.assert_close(
            model.log_prob(x, steps=60, method="rk4"), expected, atol=1e-4, rtol=0
        )
        how: dict[str, Any] = {"steps": 40, "method": "rk4", "divergence": "hutchinson"}
        found = model.log_prob(x.expand(20, 2), **how)
    # two of the four draws of signs give one value, two the other, at equal distances
    values = found.unique()
    groups = [values[values < expected], values[values > expected]]
    low, high = (float(group.mean()) for group in groups)
    assert low < float(expected) - 1e-2
    assert (low + high) / 2 == pytest.approx(float(expected), abs=1e-4)
    again = [
        model.log_prob(x.expand(20, 2), generator=torch.Generator().manual_seed(1), **how)
        for _ in "ab"
    ]
    assert torch.equal(*again)


def test_the_likelihood_has_gradients_where_the_function_is_called_with_them() -> None:
    model, x = small(), torch.randn(3, 2)
    log_p = ode_log_prob(
        model.velocity, x, prior_log_prob=lambda z: NORMAL.log_prob(z).sum(1), steps=2
    )
    log_p.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not model.log_prob(x, steps=2).requires_grad
    log_p = ode_log_prob(
        lambda x_t, root: 2 * root * model.velocity(x_t, root**2),
        x,
        prior_log_prob=lambda z: NORMAL.log_prob(z).sum(1),
        steps=2,
        method="rk4",
    )
    with torch.inference_mode():
        torch.testing.assert_close(model.log_prob(x, steps=2), log_p.detach())


def test_a_trained_density_integrates_to_one() -> None:
    model = scrambled(small())
    line = torch.linspace(-6, 6, 61)
    p = model.log_prob(torch.cartesian_prod(line, line), steps=12, method="rk4").exp()
    assert float(p.sum() * 0.2**2) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("labels", [False, True])
def test_training_pairs_as_it_is_told(labels: bool) -> None:
    """A velocity of 0 has the cost of the pairs for its loss."""
    x, y = torch.randn(50, 2) * 0.3, torch.randint(2, (50,))
    given = (y,) if labels else ()
    losses = {}
    for coupling in ("independent", "ot"):
        model = FlowMatching(shape=(2,), net=Constant(), coupling=coupling, classes=2 * labels)
        torch.manual_seed(4)
        losses[coupling] = float(model.eval().loss(x, *given).detach())
    torch.manual_seed(4)
    eps = torch.randn_like(x)
    assert losses["independent"] == pytest.approx(float(transport_cost(x, eps) / 2))
    best = eps[optimal_order(x, eps, *given)]
    assert losses["ot"] == pytest.approx(float(transport_cost(x, best) / 2))
    assert losses["ot"] < 0.8 * losses["independent"]


# Labels and guidance


def conditional() -> FlowMatching:
    return FlowMatching(shape=(1,), net=MixtureVelocity(), classes=3)


def test_labels_choose_a_component() -> None:
    y = torch.arange(3).repeat(20)
    g = torch.Generator().manual_seed(0)
    x = conditional().sample(60, y, generator=g, steps=200)
    eps = torch.randn(60, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(x, MEANS[y, None] + STDS[y, None] * eps, atol=2e-3, rtol=0)
    given = conditional().log_prob(x, y, steps=60, method="rk4")
    expected = normal_log_prob(x[:, 0], MEANS[y], STDS[y])
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=0)
    without = conditional().log_prob(x, steps=60, method="rk4")
    torch.testing.assert_close(without, mixture_log_prob(x[:, 0]), atol=1e-4, rtol=0)
    eps_back = conditional().encode(x, y, steps=200)
    torch.testing.assert_close(eps_back, eps, atol=5e-3, rtol=0)


def test_guided_velocities_are_those_of_guided_scores() -> None:
    model, x, y, w, t = conditional(), X[:, None], torch.full((31,), 2), 2.5, 0.6
    level = straight(torch.tensor(t))
    scores = [velocity_to_score(model.velocity(x, t, label), x, level) for label in (y, None)]
    expected = (1 + w) * scores[0] - w * scores[1]
    guided = velocity_to_score(model.velocity(x, t, y, guidance=w), x, level)
    torch.testing.assert_close(guided, expected, atol=1e-10, rtol=0)
    eps = torch.randn(200, 1)
    most = torch.full((200,), 2)
    far = model.decode(eps, most, guidance=2.0, steps=50)
    assert float(far.mean()) > float(model.decode(eps, most, steps=50).mean()) + 0.05
    points = list(model.trajectory(200, most, guidance=2.0, steps=50))
    assert float(points[-1].mean()) > 2.55


def test_labels_are_hidden_in_training_only() -> None:
    class Told(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            seen.append(y)
            return torch.zeros_like(x)

    seen: list[Tensor] = []
    model = FlowMatching(shape=(1,), net=Told(), classes=3)
    x, y = torch.randn(20_000, 1), torch.randint(3, (20_000,))
    model.loss(x, y)
    hidden = seen[-1] == 3
    assert float(hidden.double().mean()) == pytest.approx(DROPPED, abs=0.01)
    assert torch.equal(seen[-1][~hidden], y[~hidden])
    model.velocity(x, 0.5, y)
    assert torch.equal(seen[-1], y)
    model.eval().loss(x, y)
    assert torch.equal(seen[-1], y)
    model.loss(x)
    assert seen[-1].unique().tolist() == [3]


def test_noise_that_is_given_is_not_drawn() -> None:
    model, x, y = small(classes=2).eval(), torch.randn(30, 2), torch.randint(2, (30,))
    torch.manual_seed(2)
    drawn = model.loss(x, y).detach()
    torch.manual_seed(2)
    eps = torch.randn_like(x)
    assert torch.equal(model.loss(x, y, eps=eps).detach(), drawn)  # the times are drawn after it
    torch.manual_seed(2)
    assert not torch.equal(model.loss(x, y, eps=-eps).detach(), drawn)


def test_prompts_are_read_hidden_and_guided() -> None:
    options: dict[str, Any] = {"net": "unet", "channels": 8, "multipliers": (1, 2), "blocks": 1}
    model = ImageFlowMatching(shape=(1, 4, 4), levels=5, vocab_size=7, context=3, **options)
    model = scrambled(model.double())
    x, y = torch.randint(5, (6, 1, 4, 4)) / 4, torch.randint(1, 7, (6, 3))
    model.check(x, y)
    assert torch.isfinite(model.train().loss(x, y))
    eps, empty = torch.randn(6, 1, 4, 4), torch.zeros(6, 1, dtype=torch.long)
    flow = model.eval().flow
    told, other, untold = (flow.velocity(eps, 0.4, v) for v in (y, y.flip(1), None))
    assert not torch.allclose(told, other)
    torch.testing.assert_close(untold, flow.velocity(eps, 0.4, empty))
    guided = flow.velocity(eps, 0.4, y, guidance=1.5)
    torch.testing.assert_close(guided, 2.5 * told - 1.5 * untold)
    assert model.sample(6, y, steps=2, guidance=1.5).shape == x.shape
    assert model.elbo(x, y, steps=2).shape == (6,)
    for wrong, message in (
        (y + 3, "got token 9, but this model reads 7 tokens"),
        (y[:2], "6 examples need 6 rows of token numbers"),
        (y[:, 0], "6 examples need 6 rows of token numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            model.check(x, wrong)


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_of_prompts_a_share_is_hidden_in_training(coupling: str) -> None:
    class Told(nn.Module):
        def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            seen.append(y)
            return torch.zeros_like(x)

    seen: list[Tensor] = []
    n = 20_000 if coupling == "independent" else 300
    model = FlowMatching(shape=(1,), net=Told(), vocab_size=4, coupling=coupling)
    x, y = torch.randn(n, 1), torch.randint(1, 4, (n, 2))
    model.loss(x, y)
    hidden = (seen[-1] == 0).all(1)
    assert float(hidden.double().mean()) == pytest.approx(DROPPED, abs=0.01 if n > 300 else 0.06)
    assert torch.equal(seen[-1][~hidden], y[~hidden])


# Images


@pytest.mark.equation("eq-flow-dequant")
def test_the_bound_of_images_is_below_their_probability() -> None:
    """One pixel of four levels under a known density of v in [−1, 1], by quadrature."""
    model = ImageFlowMatching(
        shape=(1, 1, 1), levels=4, net=MixtureVelocity(WEIGHTS, MEANS / 3, STDS / 2)
    )
    u = (torch.arange(4000.0) + 0.5) / 4000
    images, g = torch.arange(4.0).view(4, 1, 1, 1) / 3, torch.Generator().manual_seed(0)
    many = images.repeat(3000, 1, 1, 1)
    draws = model.elbo(many, generator=g, steps=10, method="rk4").view(3000, 4)
    for k in range(4):
        v = 2 * (k + u) / 4 - 1
        log_p = torch.logsumexp(
            WEIGHTS.log() + normal_log_prob(v[:, None], MEANS / 3, STDS / 2), -1
        )
        probability = (log_p.exp().mean() * 2 / 4).log()  # of an interval of half a unit
        bound = float(log_p.mean()) + math.log(2 / 4)
        assert bound < float(probability)
        error = float(draws[:, k].std()) / math.sqrt(3000)
        assert float(draws[:, k].mean()) == pytest.approx(bound, abs=5 * error + 1e-3)


def images(**options: Any) -> ImageFlowMatching:
    model = ImageFlowMatching(
        shape=(1, 4, 4), levels=5, channels=8, multipliers=(1, 2), blocks=1, attention=0, **options
    )
    return scrambled(model.double())


def test_images_are_drawn_on_the_levels_of_the_data_and_come_back() -> None:
    model, x = images(), torch.randint(5, (6, 1, 4, 4)) / 4
    drawn = model.sample(6, steps=3)
    assert set((drawn * 4).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert torch.equal(model.decode(model.encode(x, steps=80), steps=80), x)
    v = model.from_data(x, torch.Generator().manual_seed(0))
    assert float(v.min()) < -0.8
    assert float(v.max()) > 0.8
    assert torch.equal(model.to_data(v), x)
    g = [torch.Generator().manual_seed(3) for _ in range(2)]
    flow = model.flow.log_prob(
        model.from_data(x, g[0]), steps=4, divergence="hutchinson", generator=g[0]
    )
    expected = flow - 16 * math.log(5 / 2)
    torch.testing.assert_close(model.elbo(x, steps=4, generator=g[1]), expected)


def test_the_noise_of_images_is_drawn_at_every_step() -> None:
    class Spy(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.zeros_like(x)

    model = ImageFlowMatching(shape=(1, 2, 2), levels=2, net=Spy())
    x = torch.ones(20_000, 1, 2, 2)
    spread = 1 / 12  # of uniform noise on [0, 1], an interval of length 1 about 1/2
    found = float(model.loss(x))
    assert found == pytest.approx(1 + 0.5**2 + spread, abs=0.02)


# The house


def test_what_the_models_can_do() -> None:
    flow, image = small(), images()
    for model in (flow, image):
        assert isinstance(model, Samples)
        assert isinstance(model, Encodes)
    assert isinstance(flow, Density)
    assert not isinstance(flow, Bound)
    assert isinstance(image, Bound)
    assert not isinstance(image, Density)


@pytest.mark.parametrize("make", [lambda: small(dropout=0.5), lambda: images(dropout=0.5)])
def test_drawing_in_training_is_as_in_evaluation_and_goes_back(make: Callable[[], Any]) -> None:
    model = make().train()
    a, b = (model.sample(4, steps=2, generator=torch.Generator().manual_seed(0)) for _ in "ab")
    assert torch.equal(a, b)
    eps = torch.randn(4, *model.shape)
    assert torch.equal(model.decode(eps, steps=2), model.decode(eps, steps=2))
    assert all(module.training for module in model.modules())
    flow = getattr(model, "flow", model)
    assert torch.equal(flow.velocity(eps, 0.5), flow.velocity(eps, 0.5))
    times = torch.full((4,), 500.0)
    assert not torch.equal(flow.net(eps, times), flow.net(eps, times))  # drops out


@pytest.mark.parametrize("name", ["plane", "images"])
def test_a_saved_model_is_the_same_again(name: str, tmp_path: Path) -> None:
    model = small(classes=2, coupling="ot", times="logit-normal") if name == "plane" else images()
    checkpoint.save(tmp_path / "model.safetensors", model)
    again: Any = checkpoint.load(tmp_path / "model.safetensors")
    assert type(again) is type(model)
    assert again.arguments == model.arguments
    eps = torch.randn(3, *model.shape)
    assert torch.equal(again.decode(eps, steps=2), model.eval().decode(eps, steps=2))


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_sixteen_bits(coupling: str) -> None:
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    model, x = small(coupling=coupling).float(), torch.randn(64, 2)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(float(model.loss(x).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    rough = model.to(torch.bfloat16)
    assert torch.isfinite(rough.loss(x.bfloat16()))
    drawn = rough.sample(3)
    assert drawn.dtype == torch.float32
    assert bool(drawn.isfinite().all())


@pytest.mark.parametrize("coupling", ["independent", "ot"])
def test_no_tensor_is_made_on_another_device(coupling: str) -> None:
    model = images(coupling=coupling, classes=3).to("meta")
    x, y = torch.zeros(4, 1, 4, 4, device="meta"), torch.zeros(4, dtype=torch.long, device="meta")
    loss = model.loss(x, y)
    loss.backward()
    for made in (
        loss,
        model.elbo(x, y, steps=2),
        model.sample(2, steps=2),
        model.encode(x, y, steps=2),
        model.flow.log_prob(x, y, steps=1),
        straightness(model.flow, 2, steps=2),
        *reflow_pairs(model.flow, 2, steps=2),
    ):
        assert made.device.type == "meta"


GRAPHS = """
import torch
from gentext.denoising.flow_matching import FlowMatching, ImageFlowMatching
from gentext.denoising.reflow import Reflow
x, y = torch.randn(8, 2), torch.zeros(8, dtype=torch.long)
image = torch.randint(5, (8, 1, 4, 4)) / 4
for model, batch in (
    (FlowMatching(shape=(2,), hidden=16), (x,)),
    (Reflow(flow=FlowMatching(shape=(2,), hidden=16)), (x, x)),
    (FlowMatching(shape=(2,), hidden=16, classes=2, times="logit-normal"), (x, y)),
    (ImageFlowMatching(shape=(1, 4, 4), levels=5, channels=8, multipliers=(1,)), (image,)),
):
    explained = torch._dynamo.explain(lambda *x: model(*x))(*batch)
    print(explained.graph_break_count, *explained.break_reasons)
model = FlowMatching(shape=(2,), hidden=16, coupling="ot")
print(torch.compile(model, backend="aot_eager")(x).shape)
"""


def test_the_loss_is_one_graph_for_the_compiler() -> None:
    """All but the search for the best pairs; in a process where no shapes are checked."""
    run = subprocess.run([sys.executable, "-c", GRAPHS], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:-1] == ["0"] * 4 + ["torch.Size([])"]


def test_what_is_not_finite_stops_the_drawing() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.where(t[:, None] < 500, math.nan, x)

    model = FlowMatching(shape=(2,), net=Broken())
    for work in (model.sample, lambda n: list(model.trajectory(n))):
        with pytest.raises(FloatingPointError, match=r"infinite velocities at t = 0\.4"):
            work(3)
    for work in (model.encode, model.log_prob):
        with pytest.raises(FloatingPointError, match=r"infinite velocities at t = 0:"):
            work(torch.zeros(1, 2))


def test_bad_input_is_explained() -> None:
    for options, message in (
        ({"net": "resnet"}, "unknown net 'resnet': .*choose one of unet, mlp, dit"),
        ({"coupling": "sinkhorn"}, "unknown coupling 'sinkhorn': choose one of independent, ot"),
        ({"times": "cosine"}, "unknown times 'cosine': choose one of uniform, logit-normal, near"),
        ({"vocab_size": 9}, "net 'mlp' reads no text: choose unet or dit, or give one"),
        ({"classes": 2, "vocab_size": 9}, "a model is told labels or text: give one of the two"),
        ({"net": Constant(), "hidden": 3}, r"got \['hidden'\] for a network that is there already"),
    ):
        with pytest.raises(ValueError, match=message):
            FlowMatching(shape=(2,), **options)
    model, x = small(), torch.randn(5, 2)
    y = torch.zeros(5, dtype=torch.long)
    for given, message in (((y,), "no classes"),):
        with pytest.raises(ValueError, match=message):
            model.check(x, *given)
    with pytest.raises(ValueError, match=r"built for \(n, 2\)"):
        model.check(torch.randn(5, 3))
    for work in (model.decode, model.encode, model.log_prob):
        with pytest.raises(ValueError, match=r"built for \(n, 2\)"):
            work(torch.randn(5, 3))
        with pytest.raises(
            ValueError, match="got steps=0; steps must be a whole number, at least 1"
        ):
            work(x, steps=0)
        with pytest.raises(ValueError, match="unknown method 'rk5'"):
            work(x, method="rk5")
        with pytest.raises(ValueError, match="no classes"):
            work(x, y)
    with pytest.raises(ValueError, match="unknown divergence 'slow': choose one of exact, hutch"):
        model.log_prob(x, divergence="slow")
    with pytest.raises(ValueError, match="got n=0"):
        model.sample(0)
    with pytest.raises(ValueError, match="guidance=2, but guidance needs labels or prompts"):
        model.sample(3, guidance=2.0)
    told = conditional()
    with pytest.raises(ValueError, match="got label 3"):
        told.sample(2, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="3 examples need 3 integers"):
        told.check(torch.zeros(3, 1), y)
    with pytest.raises(ValueError, match="levels=1; levels must be a whole number, at least 2"):
        ImageFlowMatching(shape=(1, 4, 4), levels=1)
    image = images()
    with pytest.raises(ValueError, match="not grey values k/4"):
        image.check(torch.rand(3, 1, 4, 4))
    with pytest.raises(ValueError, match="no classes"):
        image.check(torch.zeros(3, 1, 4, 4), y[:3])
    with pytest.raises(ValueError, match=r"built for \(n, 1, 4, 4\)"):
        image.elbo(torch.zeros(3, 4, 4))
