"""Diffusion: its bound against chains of normals, its losses, what networks may say, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import mixture_posterior, normal_log_prob
from torch import Tensor, nn

from gentext import checkpoint, data, diffusion
from gentext.core import Bound, Density, Samples
from gentext.core.draws import stratified_levels
from gentext.denoising.conditions import DROPPED
from gentext.denoising.diffusion import Diffusion
from gentext.denoising.schedule import LearnedSchedule, Schedule, from_x0, posterior, to_x0
from gentext.evaluation.metrics import bits_per_dim

pytestmark = pytest.mark.usefixtures("float64")

MEAN, SPREAD = 0.4, 0.3  # of normal data, and their variance


class Exact(nn.Module):
    """The best prediction of ``kind`` where the data are N(MEAN, SPREAD), value by value."""

    def __init__(self, schedule: Schedule, kind: str = "eps", axes: int = 1) -> None:
        super().__init__()
        self.schedule, self.kind, self.axes = schedule, kind, axes
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        level = self.schedule.at(t, self.axes)
        gain = level.alpha * SPREAD / (level.alpha**2 * SPREAD + level.sigma**2)
        x_0 = MEAN + gain * (x_t - level.alpha * MEAN)
        return from_x0(self.kind, x_0, x_t, level)


class Stub(nn.Module):
    """A network that is a function."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def normal_model(schedule: Schedule, kind: str = "eps", shape: tuple[int, ...] = (1,)) -> Diffusion:
    net = Exact(schedule, kind, len(shape))
    return Diffusion(net, schedule, shape=shape, levels=None, predict=kind).eval()


def short() -> Schedule:
    return Schedule.from_beta(torch.linspace(0.05, 0.7, 8))


def both_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of 1 for the first half of the examples and −1 for the second: exact for squares."""

    def signs(x: Tensor, generator: object = None) -> Tensor:
        half = torch.ones(len(x) // 2, *x.shape[1:])
        return torch.cat([half, -half])

    monkeypatch.setattr(diffusion, "normal_like", signs)


def moments_of_the_chain(schedule: Schedule) -> list[tuple[Tensor, Tensor, Tensor]]:
    """A, B, C of p(x_{t−1} | x_t) = N(A x_t + B, C) for every level, the step to the data last."""
    steps = []
    for t in range(len(schedule) - 1, 0, -1):
        level, before = schedule.at(t), schedule.at(t - 1)
        net = Exact(schedule, "x0", 0)

        def mean(x: float, t: int = t, net: Exact = net) -> Tensor:
            x_t = torch.tensor(x)
            here, there = schedule.at(t), schedule.at(t - 1)
            return posterior(net(x_t, torch.tensor(t)), x_t, here, there)[0]

        shift = mean(0.0)
        variance = posterior(shift, shift, level, before)[1]
        steps.append((mean(1.0) - shift, shift, variance))
    first = schedule.at(0)
    steps.append((1 / first.alpha, torch.zeros(()), (first.sigma / first.alpha) ** 2))
    return steps


@pytest.mark.equation("eq-diff-vlb")
def test_the_bound_of_a_chain_of_normals_is_its_closed_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E log p(x_0, ..., x_T) − E log q(x_1, ..., x_T | x_0) from means and variances of pairs."""
    schedule, x_0 = short(), torch.tensor(0.9)
    bar = schedule.alpha_bar
    mean = torch.cat([x_0[None], bar.sqrt() * x_0])
    variance = torch.cat([torch.zeros(1), 1 - bar])
    total = -0.5 * (math.log(2 * math.pi) + variance[-1] + mean[-1] ** 2)
    for t, (a, b, c) in zip(
        range(len(schedule), 0, -1), moments_of_the_chain(schedule), strict=True
    ):
        kept = (bar[t - 1] / (bar[t - 2] if t > 1 else 1.0)).sqrt()
        cov, beta = kept * variance[t - 1], 1 - kept**2
        residual = variance[t - 1] + a**2 * variance[t] - 2 * a * cov
        residual = residual + (mean[t - 1] - a * mean[t] - b) ** 2
        total = total - 0.5 * ((2 * math.pi * c).log() + residual / c)
        total = total + 0.5 * ((2 * math.pi * beta).log() + 1)
    both_signs(monkeypatch)
    bound = normal_model(schedule).elbo(x_0.expand(2, 1), terms=None)
    assert float(bound.mean()) == pytest.approx(float(total), abs=1e-10)


@pytest.mark.equation("eq-diff-vlb")
def test_the_bound_is_below_the_density_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is normal: its mean and variance are carried from N(0, 1) to the data."""
    schedule = short()
    mean, variance = torch.zeros(()), torch.ones(())
    for a, b, c in moments_of_the_chain(schedule):
        mean, variance = a * mean + b, a**2 * variance + c
    both_signs(monkeypatch)
    for x in (-0.5, 0.4, 1.3):
        bound = normal_model(schedule).elbo(torch.full((2, 1), x), terms=None).mean()
        exact = normal_log_prob(torch.tensor(x), mean, variance.sqrt())
        assert float(exact) - 1.5 < float(bound) < float(exact)


@pytest.mark.equation("eq-diff-vlb")
def test_many_levels_and_the_best_denoiser_make_the_bound_the_density(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both_signs(monkeypatch)
    x = torch.tensor([[-0.5], [0.4], [1.3]]).repeat(2, 1)
    gaps = []
    for T in (300, 600):
        bound = normal_model(Schedule.line(T, 11.0, -11.0)).elbo(x, terms=None).view(2, 3).mean(0)
        exact = normal_log_prob(x[:3, 0], torch.tensor(MEAN), torch.tensor(SPREAD).sqrt())
        gaps.append(exact - bound)
    assert (gaps[1] > 0).all()
    torch.testing.assert_close(gaps[0] / gaps[1], torch.full((3,), 2.0), atol=0.05, rtol=0)
    assert float((2 * gaps[1] - gaps[0]).abs().max()) < 3e-3  # what is left with ever more levels


@pytest.mark.equation("eq-diff-vlb")
def test_the_parts_of_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first and the last against torch.distributions."""
    both_signs(monkeypatch)
    schedule, x = short(), torch.full((2, 3), 0.9)
    parts = normal_model(schedule, shape=(3,)).elbo_terms(x, terms=None)
    last, first = schedule.at(7), schedule.at(0)
    q = torch.distributions.Normal(last.alpha * 0.9, last.sigma)
    prior = 3 * torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(parts.prior, prior.expand(2))
    entropy = 3 * torch.distributions.Normal(0.0, first.sigma / first.alpha).entropy()
    torch.testing.assert_close(parts.reconstruction, entropy.expand(2))
    later = normal_model(schedule, shape=(3,)).elbo_terms(x, terms=None, first=2)
    assert (later.levels < parts.levels).all()
    assert (later.reconstruction > parts.reconstruction).all()


@pytest.mark.equation("eq-diff-snr")
def test_each_level_of_the_bound_is_the_divergence_of_two_normals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    both_signs(monkeypatch)
    schedule, x_0 = short(), torch.tensor([[0.9], [0.9]])
    model = normal_model(schedule)
    for t in range(1, 8):
        level, before = schedule.at(t), schedule.at(t - 1)
        x_t = level.alpha * x_0 + level.sigma * torch.tensor([[1.0], [-1.0]])
        mean, variance = posterior(x_0, x_t, level, before)
        other, _ = posterior(model.denoise(x_t, torch.tensor([t, t])), x_t, level, before)
        q = torch.distributions.Normal(mean, variance.sqrt())
        p = torch.distributions.Normal(other, variance.sqrt())
        expected = torch.distributions.kl_divergence(q, p)[:, 0]
        got = model.level_kl(x_0, torch.tensor([t, t]))
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)


@pytest.mark.equation("eq-diff-vlb")
def test_some_levels_are_right_on_average() -> None:
    schedule = Schedule.linear(20)
    model = normal_model(schedule)
    x = torch.full((20_000, 1), 0.9)
    some = model.elbo(x, terms=4)
    every = model.elbo(x[:4000], terms=None)
    error = math.hypot(float(some.std()) / 141, float(every.std()) / 63)
    assert abs(float(some.mean() - every.mean())) < 4 * error
    assert float(some.std()) > float(every.std())


def test_levels_are_spread_evenly_and_all_alike() -> None:
    x = torch.zeros(40, 1)
    counts = torch.stack(
        [stratified_levels(x, 10).bincount(minlength=10) for _ in range(300)]
    ).double()
    assert float((counts - 4).abs().max()) <= 1
    assert float((counts.mean(0) - 4).abs().max()) < 0.15
    few = torch.stack([stratified_levels(x[:3], 10) for _ in range(4000)]).flatten()
    assert float((few.bincount(minlength=10) / len(few) - 0.1).abs().max()) < 0.015


# Grey levels


def digits(**options: Any) -> Diffusion:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"hidden": 16, "layers": 1} | options
    return Diffusion("mlp", "linear", shape=(1, 8, 8), levels=17, **settings).double()


def test_noise_far_below_a_grey_step_costs_no_bits_at_the_data_but_many_on_the_way() -> None:
    """An untrained network predicts no noise; the sum over levels is then nearly that of SNR."""
    model, x = digits().eval(), data.load("digits").test[0][:50].double()
    with torch.no_grad():
        parts = model.elbo_terms(x, terms=200)
        later = model.elbo_terms(x, terms=200, first=53)
    assert float(parts.reconstruction.max()) < 1e-6
    assert float(bits_per_dim(later.reconstruction.mean(), 64)) < -1
    assert float(later.levels.mean()) < 0.5 * float(parts.levels.mean())
    assert (parts.prior < 0.01).all()


@pytest.mark.equation("eq-diff-snr")
def test_in_evaluation_predictions_are_kept_where_images_are() -> None:
    wild = Stub(lambda x, t: 50 * torch.ones_like(x))
    model = Diffusion(wild, Schedule.linear(10), shape=(1, 2, 2), levels=17, predict="x0")
    x = torch.full((2, 1, 2, 2), 0.5)
    t = torch.tensor([3, 7])
    inside, kept = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    in_use = model.eval().level_kl(x, t, generator=inside)
    assert torch.equal(model.train().level_kl(x, t, generator=kept), in_use)
    model.train().weighting = "bound"  # whose loss needs the slope at predictions outside
    assert float(model.loss(x)) > float(-model.elbo(x).mean()) + 10
    model.eval()
    below = Stub(lambda x, t: -50 * torch.ones_like(x))
    other = Diffusion(below, Schedule.linear(10), shape=(1, 2, 2), levels=17, predict="x0")
    torch.testing.assert_close(  # of mid-grey, as far from one end as from the other
        other.eval().elbo_terms(x, terms=None).levels, model.elbo_terms(x, terms=None).levels
    )
    bounded = Stub(lambda x, t: torch.ones_like(x))
    again = Diffusion(bounded, Schedule.linear(10), shape=(1, 2, 2), levels=17, predict="x0")
    generator = torch.Generator().manual_seed(1)
    one = again.eval().elbo(x, terms=None, generator=generator)
    two = model.elbo(x, terms=None, generator=generator.manual_seed(1))
    torch.testing.assert_close(one, two)


def test_images_are_mapped_to_minus_one_and_one_and_back() -> None:
    model = digits()
    x = torch.arange(17.0).view(17, 1, 1, 1).expand(17, 1, 8, 8) / 16
    assert torch.equal(model.from_data(x).amin((1, 2, 3)), torch.linspace(-1, 1, 17))
    torch.testing.assert_close(model.to_data(model.from_data(x)), x)
    assert float(model.to_data(torch.tensor([[1.4]]))) == 1
    assert float(model.to_data(torch.tensor([[0.05]]))) == 0.5


def test_skipped_levels_are_gone() -> None:
    model = digits(skip=9)
    whole = Schedule.linear(1000)
    torch.testing.assert_close(model.schedule.log_snr, whole.log_snr[9:])
    assert len(model.schedule) == 991


# Losses


@pytest.mark.equation("eq-diff-simple")
@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("weighting", ["simple", "min-snr"])
def test_the_loss_is_the_error_at_levels_and_noise_drawn_afresh(kind: str, weighting: str) -> None:
    schedule = Schedule.linear(50)
    net = Stub(lambda x_t, t: torch.sin(x_t + t[:, None] / 9))
    model = Diffusion(net, schedule, shape=(3,), levels=None, predict=kind, weighting=weighting)
    x = torch.randn(10, 3)
    torch.manual_seed(7)
    loss = model.loss(x)
    torch.manual_seed(7)
    t = stratified_levels(x, 50)
    eps = torch.randn_like(x)
    bar = schedule.alpha_bar[t][:, None]
    x_t = bar.sqrt() * x + (1 - bar).sqrt() * eps
    target = {"eps": eps, "x0": x, "v": bar.sqrt() * eps - (1 - bar).sqrt() * x}[kind]
    error = (net(x_t, t) - target) ** 2
    if weighting == "min-snr":  # min(SNR, 5) times the error of x_0
        snr = bar / (1 - bar)
        x_0 = to_x0(kind, net(x_t, t), x_t, schedule.at(t, 1))
        error = snr.clamp(max=5) * (x_0 - x) ** 2
    torch.testing.assert_close(loss, error.mean())


@pytest.mark.equation("eq-diff-simple")
def test_the_bound_as_a_loss_is_the_bound() -> None:
    model = normal_model(Schedule.linear(50)).train()
    model.weighting = "bound"
    x = torch.randn(10, 1)
    torch.manual_seed(7)
    loss = model.loss(x)
    torch.manual_seed(7)
    torch.testing.assert_close(loss, -model.elbo(x, terms=1).mean())  # no dropout, no grey levels


@pytest.mark.equation("eq-diff-vdm")
def test_the_ends_of_a_learned_schedule_follow_the_gradient_of_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against differences, with the noise held fixed."""
    both_signs(monkeypatch)
    schedule = LearnedSchedule(30, 7.0, -7.0)
    net = Stub(lambda x_t, t: torch.tanh(x_t))
    model = Diffusion(net, schedule, shape=(1, 1, 2), levels=17, predict="eps")
    x = torch.tensor([3.0, 8.0, 3.0, 8.0]).view(2, 1, 1, 2) / 16
    loss = -model.elbo(x, terms=None).mean()
    (slope,) = torch.autograd.grad(loss, schedule.ends)
    for k in range(2):
        values = []
        for h in (1e-5, -1e-5):
            with torch.no_grad():
                schedule.ends[k] += h
                values.append(float(-model.elbo(x, terms=None).mean()))
                schedule.ends[k] -= h
        assert float(slope[k]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)


# What networks may predict, and be told


def test_noise_data_and_velocity_draw_the_same_samples() -> None:
    schedule = Schedule.linear(100)
    for sampler in ("ddpm", "ddim", "dpm++", "heun"):
        drawn = []
        for kind in ("eps", "x0", "v"):
            generator = torch.Generator().manual_seed(3)
            model = normal_model(schedule, kind, (4,))
            drawn.append(model.sample(6, sampler=sampler, steps=20, generator=generator))
        torch.testing.assert_close(drawn[0], drawn[1], atol=1e-9, rtol=0)
        torch.testing.assert_close(drawn[0], drawn[2], atol=1e-9, rtol=0)


def test_samples_have_the_moments_of_normal_data() -> None:
    model = normal_model(Schedule.line(800, 10.0, -10.0), shape=(2,))
    for sampler, steps in (("ddpm", 400), ("dpm++", 40), ("heun", 40)):
        x = model.sample(20_000, sampler=sampler, steps=steps)
        assert abs(float(x.mean()) - MEAN) < 0.012
        assert float(x.var()) == pytest.approx(SPREAD, rel=0.04)


def test_a_trajectory_ends_in_the_sample() -> None:
    model = normal_model(Schedule.linear(100), shape=(2,))
    generator = torch.Generator().manual_seed(1)
    path = list(model.trajectory(3, steps=7, sampler="ddim", generator=generator))
    assert len(path) == 7
    again = model.sample(3, steps=7, sampler="ddim", generator=generator.manual_seed(1))
    assert torch.equal(path[-1], again)


def conditional() -> Diffusion:
    """Its network is sure of x_0 = y/10, or of −1 where there is no label."""

    def net(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return torch.where(y == 3, -1.0, y / 10)[:, None].expand_as(x_t)

    return Diffusion(
        Stub(net), Schedule.linear(20), shape=(2,), levels=None, predict="x0", classes=3
    ).eval()


def test_labels_are_shown_and_guidance_goes_past_them() -> None:
    model, y = conditional(), torch.tensor([0, 2])
    torch.testing.assert_close(model.sample(2, y)[:, 0], torch.tensor([0.0, 0.2]))
    assert (model.sample(2) == -1).all()
    guided = model.sample(2, y, guidance=0.5)[:, 0]  # 1.5 of y/10 less 0.5 of −1
    torch.testing.assert_close(guided, torch.tensor([0.5, 0.8]))


def test_some_labels_are_hidden_in_training_and_none_later() -> None:
    seen: list[Tensor] = []

    def net(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.append(y)
        return torch.zeros_like(x_t)

    model = Diffusion(Stub(net), Schedule.linear(20), shape=(2,), levels=None, classes=3)
    y = torch.randint(3, (20_000,))
    model.train().loss(torch.randn(20_000, 2), y)
    assert float((seen[-1] == 3).double().mean()) == pytest.approx(DROPPED, abs=0.01)
    assert torch.equal(seen[-1][seen[-1] != 3], y[seen[-1] != 3])
    model.eval().loss(torch.randn(20_000, 2), y)
    assert torch.equal(seen[-1], y)
    model.loss(torch.randn(4, 2))
    assert (seen[-1] == 3).all()


def test_a_classifier_steers_a_model_without_labels() -> None:
    """Normal data and a classifier that prefers large values: the mean moves by w Σ a."""
    schedule = Schedule.line(400, 10.0, -10.0)
    model = normal_model(schedule, shape=(2,))
    a, w = 0.8, 1.5

    def log_prob(x_t: Tensor, t: int) -> Tensor:  # of E exp(a x_0) given x_t, up to a constant
        level = schedule.at(t)
        gain = level.alpha * SPREAD / (level.alpha**2 * SPREAD + level.sigma**2)
        return a * gain * x_t.sum(1)

    x = model.sample(20_000, steps=60, classifier=log_prob, guidance=w)
    assert float(x.mean()) == pytest.approx(MEAN + w * SPREAD * a, abs=0.02)
    assert float(x.var()) == pytest.approx(SPREAD, rel=0.04)


def test_known_values_are_kept_and_the_rest_goes_with_them() -> None:
    """Two values that go together: the more steps to and fro, the nearer to the conditional law."""
    schedule = Schedule.line(200, 8.0, -8.0)
    cov = torch.tensor([[1.0, 0.9], [0.9, 1.0]])

    def net(x_t: Tensor, t: Tensor) -> Tensor:
        level = schedule.at(int(t[0]))
        gain = (
            level.alpha
            * cov
            @ torch.linalg.inv(level.alpha**2 * cov + level.sigma**2 * torch.eye(2))
        )
        return x_t @ gain.T

    model = Diffusion(Stub(net), schedule, shape=(2,), levels=None, predict="x0").eval()
    x, mask = torch.full((4000, 2), 1.5), torch.tensor([True, False])
    gaps = []
    for repeats in (1, 8):
        made = model.inpaint(x, mask, steps=40, repeats=repeats)
        assert (made[:, 0] == 1.5).all()
        gaps.append(abs(float(made[:, 1].mean()) - 1.35))
    assert gaps[0] > 0.1  # the replacement alone is not conditioning
    assert gaps[1] < 0.5 * gaps[0]


# Training and evaluation


NETS = {
    "mlp": {"hidden": 16, "layers": 1, "classes": 3},
    "unet": {"channels": 8, "multipliers": (1, 2), "vocab_size": 5, "context": 4},
    "dit": {"width": 8, "layers": 1, "heads": 2, "classes": 3},
}


@pytest.mark.parametrize("net", NETS)
def test_in_training_draws_and_bounds_are_those_of_evaluation(net: str) -> None:
    """Without dropout and hidden labels; and each part is in training afterwards."""
    options: dict[str, Any] = NETS[net]
    model = Diffusion(net, shape=(1, 4, 4), levels=17, steps=30, dropout=0.5, **options)
    for p in model.parameters():  # so that it does not predict 0
        nn.init.normal_(p, std=0.3)
    x, mask = torch.randint(17, (6, 1, 4, 4)) / 16, torch.rand(1, 4, 4) < 0.5
    y = torch.randint(5, (6, 3)) if net == "unet" else torch.arange(6) % 3
    calls: list[Callable[[torch.Generator], Tensor]] = [
        lambda g: model.sample(6, y, steps=3, guidance=0.5, generator=g),
        lambda g: model.sample(6, sampler="heun", steps=3, generator=g),
        lambda g: torch.stack(list(model.trajectory(6, y, steps=3, generator=g))),
        lambda g: model.inpaint(x, mask, y, steps=3, repeats=2, generator=g),
        lambda g: model.elbo(x, y, generator=g),
        lambda g: torch.stack(model.elbo_terms(x, y, generator=g)),
    ]
    for call in calls:
        found = [call(torch.Generator().manual_seed(1)) for _ in (model.eval(), model.train())]
        assert torch.equal(*found)
        assert all(part.training for part in model.modules())


def test_a_path_that_is_left_leaves_the_model_in_training() -> None:
    model = digits(dropout=0.5).train()
    next(model.trajectory(2, steps=5))
    assert all(part.training for part in model.modules())


# Capabilities and bad input


def test_it_bounds_and_samples_but_has_no_exact_density(tmp_path: Any) -> None:
    model = digits()
    assert isinstance(model, Bound)
    assert isinstance(model, Samples)
    assert not isinstance(model, Density)
    file = (
        checkpoint.save(tmp_path / "model.safetensors", model.eval())
        or tmp_path / "model.safetensors"
    )
    again = checkpoint.load(tmp_path / "model.safetensors")
    x = data.load("digits").test[0][:4].double()
    generator = torch.Generator().manual_seed(1)
    one = model.elbo(x, generator=generator)
    two = again.elbo(x, generator=generator.manual_seed(1))
    assert torch.equal(one, two), file


def test_large_batches_go_through_the_network_in_parts() -> None:
    sizes: list[int] = []

    def net(x_t: Tensor, t: Tensor) -> Tensor:
        sizes.append(len(x_t))
        return x_t * t[:, None] / 20

    model = Diffusion(Stub(net), Schedule.linear(20), shape=(2,), levels=None).eval()
    x, t = torch.randn(600, 2), torch.randint(20, (600,))
    with torch.no_grad():
        parts = model.denoise(x, t)
    assert sizes == [256, 256, 88]
    torch.testing.assert_close(parts, model.denoise(x, t))


@pytest.mark.equation("eq-diff-vlb")
def test_bad_input_is_refused() -> None:
    model, x = digits(), data.load("digits").test[0][:4].double()
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.elbo(2 * x - 1)
    with pytest.raises(ValueError, match=r"grey values"):
        model.check(x * 0.99)
    with pytest.raises(ValueError, match=r"2000 steps.*1000 levels"):
        model.sample(2, steps=2000)
    with pytest.raises(ValueError, match=r"guidance=2.*trained with classes"):
        model.sample(2, guidance=2.0)
    with pytest.raises(ValueError, match=r"labels y.*without classes"):
        model.sample(2, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"guidance=2"):
        conditional().sample(2, guidance=2.0)
    with pytest.raises(ValueError, match=r"label 3.*0 to 2"):
        conditional().sample(2, torch.tensor([1, 3]))
    with pytest.raises(ValueError, match=r"has no classes"):
        model.check(x, torch.tensor([1, 2, 3, 4]))
    with pytest.raises(ValueError, match=r"first=999.*0 to 998"):
        model.elbo(x, first=999)
    with pytest.raises(ValueError, match=r"skip=999"):
        digits(skip=999)
    with pytest.raises(ValueError, match=r"'noise'.*eps, x0, v"):
        digits(predict="noise")
    with pytest.raises(ValueError, match=r"'snr'.*simple, bound, min-snr"):
        digits(weighting="snr")
    with pytest.raises(ValueError, match=r"'cnn'.*unet, mlp"):
        Diffusion("cnn", shape=(1, 8, 8))
    with pytest.raises(ValueError, match=r"'ode'.*ddpm"):
        model.sample(2, sampler="ode")
    with pytest.raises(ValueError, match=r"'quadratic'.*linear, cosine, line, learned"):
        Diffusion("mlp", "quadratic", shape=(2,))


def test_predictions_that_are_not_finite_stop_the_sampling() -> None:
    def net(x_t: Tensor, t: Tensor) -> Tensor:
        return x_t * (torch.nan if int(t[0]) < 500 else 1.0)

    model = Diffusion(Stub(net), "linear", shape=(2,), levels=None)
    with pytest.raises(FloatingPointError, match=r"not finite|NaN or infinite"):
        model.sample(2, steps=10)


def test_the_best_denoiser_of_a_mixture_draws_it() -> None:
    """Through the whole model, with the fewest steps that the solver needs."""
    schedule = Schedule.line(500, 8.0, -8.0)

    def net(x_t: Tensor, t: Tensor) -> Tensor:
        level = schedule.at(int(t[0]))
        return mixture_posterior(x_t / level.alpha, float(level.sigma / level.alpha))[0]

    model = Diffusion(Stub(net), schedule, shape=(1,), levels=None, predict="x0").eval()
    x = model.sample(10_000, steps=40)
    assert float((x < -1).double().mean()) == pytest.approx(0.2 + 0.5 * 0.0317, abs=0.016)
